package policy

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// example is the document of the design's page on policy.
func example(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustParse(t testing.TB, name, text string) *Document {
	t.Helper()
	doc, err := Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestParseExample reads every key of the example back, so that none is taken and dropped.
func TestParseExample(t *testing.T) {
	doc, err := Parse("casemate.yaml", example(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range table() {
		for _, v := range k.said(&doc.Settings) {
			got = append(got, k.path+" "+v.V+" "+strings.TrimPrefix(v.Origin.String(), "built-in casemate.yaml"))
		}
	}
	checkGolden(t, "example.values", strings.Join(got, "\n")+"\n")
	for _, k := range table() {
		if _, says := doc.present[k.path]; !says && !strings.ContainsAny(k.path, "[*") {
			t.Errorf("the example has no %s", k.path)
		}
	}
}

// checkGolden compares with a file of testdata. UPDATE=1 writes it.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (UPDATE=1 writes it):\n%s", file, got)
	}
}

func TestParseWrong(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "levle: full\n", `f:1:1: key "levle" is not known; did you mean "level"?`},
		{"swapped letters", "limits: {dikS: 1GiB}\n", `f:1:10: key "limits.dikS" is not known; did you mean "disk"?`},
		{"key of a section at the top", "hide: [x]\n", `f:1:1: key "hide" is not known; "hide" belongs under "files"`},
		{"key of the top in a section", "files: {level: full}\n", `f:1:9: key "files.level" is not known; "level" belongs at the top, not under "files"`},
		{"dotted key", "files.write: [x]\n", `f:1:1: key "files.write" is not known; write files: {write: [./generated]}`},
		{"nothing near", "git: {xyzzy: 1}\n", `f:1:7: key "git.xyzzy" is not known; known here: identity, push`},
		{"merge key", "git: {<<: {push: [x]}}\n", `f:1:7: key "git.<<" is not known; known here: identity, push`},
		{"table path as key", "\"network.allow[]\": {host: x}\n", `f:1:1: key "network.allow[]" is not known; known here: ` + strings.Join(below(""), ", ")},
		{"duplicate key", "level: full\nhome: none\nlevel: minimal\n", `f:3:1: key "level" stands here and in line 1; keep one of them`},
		{"duplicate variable", "env: {set: {A: 1, A: 2}}\n", `f:1:19: key "A" stands here and in line 1; keep one of them`},
		{"list as key", "? [a]\n: b\n", `f:1:3: a key is a word, not a list`},
		{"a list is no policy", "- level\n", `f:1:1: a policy is a mapping of keys, not a list; write KEY: VALUE`},
		{"text is no policy", "level\n", `f:1:1: a policy is a mapping of keys, not "level"; write KEY: VALUE`},
		{"text for a section", "files: hide\n", `f:1:8: files is a mapping of keys, not "hide"; write KEY: VALUE`},
		{"text for a list", "files:\n  hide: \"*.pem\"\n", `f:2:9: files.hide is a list, not "*.pem"; write ["*.pem"]`},
		{"nothing for a list", "allow_fallback:\n", `f:1:16: allow_fallback is a list, not nothing; write [landlock]`},
		{"nothing for a word", "level:\n", `f:1:7: level wants text, not nothing; give it a value, or remove it`},
		{"number for text", "files: {hide: [2024]}\n", `f:1:16: files.hide wants text, not the number 2024; put it in quotes: "2024"`},
		{"list for a word", "level: [full]\n", `f:1:8: level wants text, not a list; write restricted`},
		{"truth value for a word", "home: true\n", `f:1:7: home wants text, not the truth value true; put it in quotes: "true"`},
		{"every error is told", "levle: 1\nhome: host\nlimits: {pids: 0}\n", `f:1:1: key "levle" is not known; did you mean "level"?
f:2:7: home: "host" is not one of none, project, agent; write one of none, project, agent
f:3:16: limits.pids: "0" is not a number of processes: want a whole number from 2 to 4194304`},

		{"other version", "version: 2\n", `f:1:10: version: version "2" is not known here; write version: 1, or install a newer casemate`},
		{"version as text", "version: '1'\n", `f:1:10: version wants a whole number, not "1"; write 1`},
		{"near word", "level: ful\n", `f:1:8: level: "ful" is not one of minimal, restricted, full; did you mean "full"?`},
		{"near lock", "locked: [network.dney]\n", `f:1:10: locked: "network.dney" is not a key that can be locked; did you mean "network.deny"?`},
		{"part of a rule as lock", "locked: ['network.allow[].host']\n", `f:1:10: locked: "network.allow[].host" is not a key that can be locked`},

		{"size without unit letter", "limits: {memory: 12G}\n", `f:1:18: limits.memory: "12G" has no unit that says how much it is; units are kB MB GB TB, and KiB MiB GiB TiB in steps of 1024`},
		{"share of memory", "limits: {memory: 75%}\n", `f:1:18: limits.memory: "75%" is not a size; write a whole number and a unit, such as 512MiB or 12GiB, or plain bytes`},
		{"negative size", "limits: {memory: -1}\n", `f:1:18: limits.memory: "-1" is not a size; write a whole number and a unit, such as 512MiB or 12GiB, or plain bytes`},
		{"huge size", "limits: {disk: 9999999999TiB}\n", `f:1:16: limits.disk: "9999999999TiB" is more than any machine has`},
		{"tiny memory", "limits: {memory: 1MiB}\n", `f:1:18: limits.memory: 1MiB is too small; nothing runs in less than 16MiB`},
		{"hexadecimal pids", "limits: {pids: 0x10}\n", `f:1:16: limits.pids: "0x10" is not a number of processes: want a whole number from 2 to 4194304`},
		{"octal pids", "limits: {pids: 0100}\n", `f:1:16: limits.pids: "0100" is not a number of processes: want a whole number from 2 to 4194304`},
		{"octal size", "limits: {disk: 010GiB}\n", `f:1:16: limits.disk: "010GiB" is not a size; write a whole number and a unit, such as 512MiB or 12GiB, or plain bytes`},
		{"octal cpus", "limits: {cpus: 04}\n", `f:1:16: limits.cpus: "04" is not a number of CPUs; write how many CPUs may be busy at once, such as 4 or 0.5`},
		{"infinite cpus", "limits: {cpus: .inf}\n", `f:1:16: limits.cpus: ".inf" is not a number of CPUs; write how many CPUs may be busy at once, such as 4 or 0.5`},
		{"time without unit", "limits: {time: 30}\n", `f:1:16: limits.time wants a time with its unit, not the number 30; write 30s, 30m or 30h`},
		{"negative time", "limits: {idle: -3m}\n", `f:1:16: limits.idle: -3m is too short: the shortest limit is 1s; write none for no limit`},
		{"days", "limits: {time: 2d}\n", `f:1:16: limits.time: "2d" is not a time; write a number and a unit, such as 90s, 30m, 2h or 1h30m, or none`},

		{"dots in hide", "files: {hide: [../x]}\n", `f:1:16: files.hide: path pattern "../x" has an empty, . or .. component, which no path in a project has`},
		{"here in hide", "files: {hide: [./x]}\n", `f:1:16: files.hide: path pattern "./x" has an empty, . or .. component, which no path in a project has; a leading / means the top of the project: write "/x"`},
		{"host's path in hide", "files: {hide: [/home/u/p/.env]}\n", `f:1:16: files.hide: "/home/u/p/.env" is a path of the host, and patterns are about the project; write it as seen from the top of the project; what lies outside is hidden anyway`},
		{"open class in hide", "files: {hide: ['a[']}\n", `f:1:16: files.hide: path pattern "a[" has a [ without its ]`},
		{"NUL in hide", "files: {hide: [\"a\\0\"]}\n", `f:1:16: files.hide: "a\x00" holds a character that cannot be seen; match it with ?`},
		{"escape in hide", "files: {hide: [\"a\\e[2K\"]}\n", `f:1:16: files.hide: "a\x1b[2K" holds a character that cannot be seen; match it with ?`},
		{"exception in protect", "files: {protect: ['!x']}\n", `f:1:19: files.protect: "!x" takes out of the list, and protect only adds; a file whose name begins with ! is written "\!name"`},
		{"dots in write", "files: {write: [a/../../b]}\n", `f:1:17: files.write: "a/../../b" has a .. component; write it as seen from the top of the project`},
		{"absolute write", "files: {write: [/etc]}\n", `f:1:17: files.write: "/etc" is not in the project; write it as seen from the top of the project`},
		{"home in write", "files: {write: [~/x]}\n", `f:1:17: files.write: "~/x" is not in the project; write it as seen from the top of the project`},
		{"whole project in write", "files: {write: [./]}\n", `f:1:17: files.write: "./" is the whole project; write files: {workspace: live}`},
		{"pattern in readonly", "files: {readonly: ['*.go']}\n", `f:1:20: files.readonly: "*.go" is a pattern, and a path is wanted; name the directory instead`},
		{"NUL in readonly", "files: {readonly: [\"a\\0\"]}\n", `f:1:20: files.readonly: "a\x00" holds a byte that is not text`},
		{"relative read", "files: {read: [../data]}\n", `f:1:16: files.read: "../data" is not a path of the host; write an absolute path or one that begins with ~/; the project itself is seen anyway`},
		{"all of the host", "files: {read: [//]}\n", `f:1:16: files.read: "//" holds credentials and other projects, which stay out of reach at every level; name the directories that are needed`},
		{"all of the home", "files: {read: [~/.]}\n", `f:1:16: files.read: "~/." holds credentials and other projects, which stay out of reach at every level; name the directories that are needed`},
		{"host's processes", "files: {read: [/proc/self]}\n", `f:1:16: files.read: "/proc/self" holds the host's processes, devices or sockets, which stay out of reach at every level`},
		{"host's sockets", "files: {read: [/run/user/1000]}\n", `f:1:16: files.read: "/run/user/1000" holds the host's processes, devices or sockets, which stay out of reach at every level`},

		{"pattern in read", "files: {read: [/data/*]}\n", `f:1:16: files.read: "/data/*" is a pattern, and a path is wanted; name the directory instead`},
		{"dots in read", "files: {read: [/data/../etc]}\n", `f:1:16: files.read: "/data/../etc" has a .. component; write the path it leads to`},
		{"empty read", "files: {read: ['']}\n", `f:1:16: files.read: "" is empty`},
		{"a space at the end", "files: {read: ['/data ']}\n", `f:1:16: files.read: "/data " begins or ends with a space; remove it`},
		{"long path", "files: {read: [/" + strings.Repeat("x", MaxPattern) + "]}\n", `f:1:16: files.read: "/` + strings.Repeat("x", 79) + `"... is longer than 4096 bytes`},
		{"host as a rule", "network: {allow: [example.com]}\n", `f:1:19: network.allow holds rules, not "example.com"; write {host: example.com}`},
		{"rule without host", "network: {allow: [{ports: [1]}]}\n", `f:1:19: a rule of network.allow has no host; write {host: api.example.com}`},
		{"unknown key of a rule", "network: {allow: [{hots: x.example}]}\n", `f:1:20: key "network.allow[].hots" is not known; did you mean "host"?`},
		{"URL", "network: {allow: [{host: 'https://x.example/'}]}\n", `f:1:26: network.allow[].host: "https://x.example/" is not a host name: it has ':'; write a host name alone: no scheme, port, path or user`},
		{"port in the host", "network: {allow: [{host: 'x.example:22'}]}\n", `f:1:26: network.allow[].host: "x.example:22" is a host and a port; write the port under ports`},
		{"top-level domain", "network: {allow: [{host: '*.com'}]}\n", `f:1:26: network.allow[].host: "*.com" allows a whole top-level domain; name the domain, such as *.example.com`},
		{"name outside ASCII", "network: {deny: [münchen.example]}\n", `f:1:18: network.deny: "münchen.example" is not in ASCII; write its punycode form, which begins with xn--`},
		{"no ports", "network: {allow: [{host: x.example, ports: []}]}\n", `f:1:44: network.allow[].ports is empty; remove it, or name what is meant`},
		{"port 0", "network: {host_ports: [0]}\n", `f:1:24: network.host_ports: "0" is not a port: want a whole number from 1 to 65535`},
		{"published range", "network: {publish: [1-9]}\n", `f:1:21: network.publish: "1-9" is not a port to publish; write 3000, "8081:8080" (host's loopback : inside) or auto`},
		{"method", "network: {allow: [{host: x.example, methods: [get]}]}\n", `f:1:47: network.allow[].methods: "get" is not an HTTP method; methods are written in capitals, such as GET`},
		{"a method that no server gets", "network: {allow: [{host: x.example, methods: [CONNECT]}]}\n", `f:1:47: network.allow[].methods: "CONNECT" is refused on every connection that the gate opens; leave it out`},
		{"two stars", "network: {allow: [{host: x.example, paths: ['/a/**']}]}\n", `f:1:45: network.allow[].paths: "/a/**" has a **; write /* at the end for everything below`},
		{"path", "network: {allow: [{host: x.example, paths: [/a/../b]}]}\n", `f:1:45: network.allow[].paths: "/a/../b" has a . or .. component`},
		{"path without a slash", "network: {allow: [{host: x.example, paths: [v1]}]}\n", `f:1:45: network.allow[].paths: "v1" is not a path of a request; write it with a leading /, such as /v1/*`},
		{"query", "network: {allow: [{host: x.example, paths: ['/a?b']}]}\n", `f:1:45: network.allow[].paths: "/a?b" is more than the path of a request; write the decoded path, without a query`},
		{"mapped range", "network: {allow: [{host: x.example, networks: ['::ffff:10.0.0.0/104']}]}\n", `f:1:48: network.allow[].networks: "::ffff:10.0.0.0/104" is an IPv4 range in IPv6 clothes; write the IPv4 range`},
		{"no range", "network: {allow: [{host: x.example, networks: [10.0.0.1]}]}\n", `f:1:48: network.allow[].networks: "10.0.0.1" is not a range of addresses; write it like 10.20.0.0/16 or fd00:1::/64`},
		{"range", "network: {allow: [{host: x.example, networks: [10.0.0.1/8]}]}\n", `f:1:48: network.allow[].networks: "10.0.0.1/8" has bits beyond its length; write 10.0.0.0/8`},
		{"every range", "network: {allow: [{host: x.example, networks: ['::/0']}]}\n", `f:1:48: network.allow[].networks: "::/0" is every address; name the ranges that are needed`},
		{"date", "network: {allow: [{host: x.example, until: 2026-02-30}]}\n", `f:1:44: network.allow[].until: "2026-02-30" is not a date; write year-month-day, such as 2026-12-01`},
		{"time for a date", "network: {allow: [{host: x.example, until: 2026-02-03T04:05:06Z}]}\n", `f:1:44: network.allow[].until: "2026-02-03T04:05:06Z" is not a date; write year-month-day, such as 2026-12-01`},
		{"reason of two lines", "network: {allow: [{host: x.example, reason: \"a\\nb\"}]}\n", `f:1:45: network.allow[].reason: "a\nb" holds a byte that is not text`},
		{"half a secret", "secrets: {a: {env: X}}\n", `f:1:14: secret "a" needs env and hosts; write {anthropic: {env: ANTHROPIC_API_KEY, hosts: [api.anthropic.com]}}`},
		{"place of a secret", "secrets: {a: {env: X, hosts: [x.example], place: cookie}}\n", `f:1:50: secrets.*.place: "cookie" is not a place in a request; write header:NAME, bearer, basic, query:NAME, git or sigv4`},
		{"variable of an AWS credential", "secrets: {a: {env: AWS_KEY, hosts: [x.example], place: sigv4}}\n", `f:1:14: secrets: the variable "AWS_KEY" of a secret with place sigv4 does not end in ACCESS_KEY_ID; write env: AWS_ACCESS_KEY_ID; AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are its as well then`},
		{"field that is no place", "secrets: {a: {env: X, hosts: [x.example], place: \"header:Host\"}}\n", `f:1:50: secrets.*.place: the field "host" says what a request is, or where it goes; name the field that holds the credential`},
		{"method of a secret", "secrets: {a: {env: X, hosts: [x.example], methods: [get]}}\n", `f:1:53: secrets.*.methods: "get" is not an HTTP method; methods are written in capitals, such as GET`},
		{"name of a secret", "secrets: {A B: {env: X, hosts: [x.example]}}\n", `f:1:11: secrets: "A B" is not a name; names are made of a-z, 0-9, - . and _`},
		{"login without a host", "ssh: [{keys: [a]}]\n", `f:1:7: a rule of ssh has no hosts; write {hosts: [github.com]}`},
		{"host alone for a login", "ssh: [github.com]\n", `f:1:7: ssh holds rules, not "github.com"; write {hosts: [github.com]}`},
		{"logins everywhere", "ssh: [{hosts: ['*.example.com']}]\n", `f:1:16: ssh[].hosts: "*.example.com" stands for many hosts; name each host: its key must be in your known_hosts`},
		{"half a fingerprint", "ssh: [{hosts: [x.example], keys: ['SHA256:abc']}]\n", `f:1:35: ssh[].keys: "SHA256:abc" is not the fingerprint of a key; ssh-add -l shows them`},
		{"key from nowhere", "ssh: [{hosts: [x.example], keys: [./id.pub]}]\n", `f:1:35: ssh[].keys: "./id.pub" is a path from nowhere; write it from / or ~/ on`},
		{"list of variables", "env: {set: [A=1]}\n", `f:1:12: env.set is a mapping of keys, not a list; write KEY: VALUE`},
		{"name of a variable", "env: {set: {A-B: 1}}\n", `f:1:13: env.set: "A-B" is not the name of a variable; names are made of letters, digits and _`},
		{"our variable", "env: {pass: [CASEMATE]}\n", `f:1:14: env.pass: "CASEMATE" is set by casemate itself; it tells a program inside where it is`},
		{"nothing for a variable", "env: {set: {A: }}\n", `f:1:16: env.set.A wants text, not nothing; write "" for an empty one`},
		{"NUL in a variable", "env: {set: {A: \"\\0\"}}\n", `f:1:13: env.set: the value of A holds a NUL byte`},
		{"guarantee with a space", "require: [limits.a b]\n", `f:1:11: require: "limits.a b" is no guarantee of this version; did you mean "limits.cpu"?`},
		{"guarantee", "require: [limits]\n", `f:1:11: require: "limits" is no guarantee of this version; casemate plan lists the guarantees, such as limits.memory`},

		{"unquoted exception", "files:\n  hide:\n    - !.env.example\n", `f:3:7: tag !.env.example is not allowed; put what begins with ! in quotes: "!.env.example"`},
		{"unquoted exception in brackets", "files:\n  hide: [!.env.example]\n", `f:2:3: this is not YAML: did not find expected ',' or ']'; put patterns that begin with * or ! in quotes: "*.pem"`},
		{"unquoted star", "files:\n  hide:\n    - *.pem\n", `f:3:5: this is not YAML: did not find expected alphabetic or numeric character; put patterns that begin with * or ! in quotes: "*.pem"`},
		{"tag", "level: !!str full\n", `f:1:8: tag !!str is not allowed; put what begins with ! in quotes: "!!str full"`},
		{"alias", "agent: &a x\nhome: *a\n", "f:1:8: anchor &a is not allowed; write the value again where it is needed\nf:2:7: alias *a is not allowed; write the value again, or put a pattern in quotes: \"*a\""},
		{"alias of itself", "presets: &a [*a]\n", "f:1:10: anchor &a is not allowed; write the value again where it is needed\nf:1:14: alias *a is not allowed; write the value again, or put a pattern in quotes: \"*a\""},
		{"second document", "level: full\n---\nlevel: minimal\n", `f:2:1: the file holds a second document; remove everything from --- on`},
		{"broken second document", "level: full\n---\n[\n", `f:4:1: this is not YAML: did not find expected node content`},
		{"tab", "files:\n\thide: []\n", `f:2:2: this is not YAML: found character that cannot start any token; indent with spaces, not tabs`},
		{"indented key", "level: full\n  home: none\n", `f:2:3: this is not YAML: mapping values are not allowed in this context`},
		{"NUL byte", "level: full\n# \x00\n", `f:2:3: byte 0x00 does not belong into text; write plain UTF-8 without control characters`},
		{"Latin-1", "agent: \xe9\n", `f:1:8: byte 0xe9 does not belong into text; write plain UTF-8 without control characters`},
		{"UTF-16", "\xff\xfel\x00", `f:1:1: byte 0xff does not belong into text; write plain UTF-8 without control characters`},
		{"line break that only YAML sees", "# harmless\u2028level: full\n", `f:1:11: byte 0xe2 does not belong into text; write plain UTF-8 without control characters`},
		{"CR alone", "# harmless\rlevel: full\r\n", `f:1:11: byte 0x0d does not belong into text; write plain UTF-8 without control characters`},
		{"turned writing", "level: full # \u202e\n", `f:1:15: byte 0xe2 does not belong into text; write plain UTF-8 without control characters`},
		{"long list", "files: {hide: [" + strings.Repeat("a,", maxItems+1) + "]}\n", `f:1:15: files.hide has 1001 elements, and 1000 is the most`},
		{"huge file", strings.Repeat("#", MaxDocument+1), `f: the file is larger than 1MiB`},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc, err := Parse("f", []byte(c.text))
			if err == nil {
				t.Fatalf("taken: %+v", doc.Settings)
			}
			if got := err.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var one *Error
			if !errors.As(err, &one) || one.File != "f" {
				t.Errorf("%T does not lead to its first error", err)
			}
		})
	}
}

func TestParseTaken(t *testing.T) {
	for _, c := range []struct{ name, text, key, want string }{
		{"empty file", "", "level", ""},
		{"comments only", "# nothing\n", "level", ""},
		{"empty document", "---\n...\n", "level", ""},
		{"byte order mark", "\ufefflevel: full\n", "level", "full"},
		{"CRLF", "level: full\r\nhome: none\r\n", "level", "full"},
		{"empty section", "files:\nlevel: full\n", "level", "full"},
		{"JSON", `{"level": "full", "limits": {"pids": 7}}`, "limits.pids", "7"},
		{"clean paths", "files: {write: [./a//b/, c/.]}\n", "files.write", "a/b c"},
		{"clean host paths", "files: {read: [~//x/, /opt//y/]}\n", "files.read", "~/x /opt/y"},
		{"a person's disk", "files: {read: [/run/media/u/disk]}\n", "files.read", "/run/media/u/disk"},
		{"a name with brackets", "files: {write: ['app/[slug]']}\n", "files.write", "app/[slug]"},
		{"twice the same", "require: [net.default-deny, net.default-deny]\n", "require", "net.default-deny"},
		{"plain bytes", "limits: {memory: 1073741824}\n", "limits.memory", "1GiB"},
		{"steps of 1000", "limits: {disk: 500MB}\n", "limits.disk", "500MB"},
		{"a space before the unit", "limits: {disk: 5 GiB}\n", "limits.disk", "5GiB"},
		{"fractions of CPUs", "limits: {cpus: 0.5}\n", "limits.cpus", "0.5"},
		{"no time limit", "limits: {time: none}\n", "limits.time", "none"},
		{"text is kept as written", "env: {set: {A: 1.10, B: yes, C: 0x1F, D: '', E: 2026-01-02}}\n", "env.set", `A=1.10 B=yes C=0x1F D="" E=2026-01-02`},
		{"a variable that draws is quoted", "env: {set: {PS1: \"\\e[1m\"}}\n", "env.set", `PS1="\x1b[1m"`},
		{"two ports", "network: {publish: [3000, 8081:8080, auto]}\n", "network.publish", "3000 8081:8080 auto"},
		{"default port", "network: {allow: [{host: API.Example.}]}\n", "network.allow", "api.example:443"},
		{"old and new address", "network: {deny: ['[::ffff:1.2.3.4]', 2001:DB8::1]}\n", "network.deny", "1.2.3.4 2001:db8::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := mustParse(t, "f", c.text)
			row, _ := find(c.key)
			var got []string
			for _, v := range row.said(&doc.Settings) {
				got = append(got, v.V)
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("%s = %s, want %s", c.key, g, c.want)
			}
		})
	}
}

// TestParseBombs gives documents that are cheap to write and expensive to read for a parser that expands or compares without bounds.
func TestParseBombs(t *testing.T) {
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		p := string(c - 1)
		laughs += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+p+",", 9), ",") + "]\n"
	}
	var keys strings.Builder
	for i := range 60_000 {
		keys.WriteString(strings.Repeat("k", 1+i%9) + string(rune('a'+i%26)) + strings.Repeat("z", i%7) + ": 1\n")
	}
	for name, text := range map[string]string{
		"billion laughs":    laughs,
		"deep nesting":      strings.Repeat("[", MaxDocument),
		"deep mappings":     strings.Repeat("{a: ", MaxDocument/4),
		"deep questions":    strings.Repeat("? ", MaxDocument/2),
		"deep dashes":       strings.Repeat("- ", MaxDocument/2),
		"many keys":         keys.String(),
		"one long key":      strings.Repeat("k", MaxDocument-8) + ": 1\n",
		"many equal values": "env: {pass: [" + strings.Repeat("A,", MaxDocument/2-20) + "]}",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte(text))
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("taken, or %v", err)
			}
			if len(errs) > maxErrors {
				t.Errorf("%d errors", len(errs))
			}
			for _, e := range errs {
				if len(e.Error()) > 2000 {
					t.Errorf("an error of %d bytes", len(e.Error()))
				}
			}
		})
	}
}

func TestDidYouMean(t *testing.T) {
	for _, c := range []struct{ wrote, want string }{
		{"hide", `did you mean "hide"?`}, {"hdie", `did you mean "hide"?`}, {"HIDE", `did you mean "hide"?`}, {"hides", `did you mean "hide"?`},
		{"protected", `did you mean "protect"?`}, {"x", ""}, {"", ""}, {"everything", ""},
	} {
		if got := didYouMean(c.wrote, []string{"hide", "protect", "read"}); got != c.want {
			t.Errorf("%q: %s, want %s", c.wrote, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example(f))
	f.Add(Commented())
	for _, s := range []string{"", "level: minimal", "files: {hide: ['!.env', x], write: [a]}", "network: {allow: [{host: '*.a.b', until: 2026-01-01}]}", "a: &a [*a]", "limits: {time: none, memory: 1GiB}",
		"env: {set: {A: 1}, pass: [B]}", "? ", "- \n---", "!!x", "locked: [level]", "secrets: {a: {env: B, hosts: [c.d]}}"} {
		f.Add([]byte(s))
	}
	base, err := Merge(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := Parse("f", data)
		if err != nil {
			var errs Errors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("%T", err)
			}
			lines := 1 + strings.Count(string(data), "\n")
			for _, e := range errs {
				if e.Line > lines || len(data) <= MaxDocument && (e.Line < 1 || e.Col < 1) {
					t.Errorf("%v: no such place", e)
				}
			}
			return
		}
		for _, e := range doc.entries {
			if e.origin.Line < 1 || e.origin.Col < 1 || strings.ContainsFunc(e.text, isDeceptive) {
				t.Errorf("%+v", e)
			}
		}
		p, err := Merge([]Source{{Tier: Project, Doc: doc}})
		if err != nil {
			if _, locks := doc.present["locked"]; !locks {
				t.Errorf("refused: %v", err)
			}
			return
		}
		if wider := widerThan(p, base); len(wider) > 0 {
			t.Errorf("an untrusted project widens: %s", strings.Join(wider, "; "))
		}
		if again := mustParse(t, "f", string(data)); !slices.Equal(doc.said(), again.said()) {
			t.Error("read differently the second time")
		}
	})
}

// said is every entry of a document in words.
func (d *Document) said() []string {
	var out []string
	for _, e := range d.entries {
		out = append(out, e.key+" "+e.text+" "+e.origin.String())
	}
	return out
}
