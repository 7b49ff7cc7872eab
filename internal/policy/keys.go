package policy

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is how a key's value is written.
type kind uint8

const (
	aSection  kind = iota // a mapping of further keys
	aWord                 // one of key.words
	aText                 // a string
	aYes                  // true or false
	anInt                 //
	aNumber               // a whole number or a decimal fraction
	aSize                 // plain bytes, or a string with a unit
	aTime                 // a string with a unit, or none
	aDate                 // YYYY-MM-DD
	textList              // a list of strings
	wordList              // a list of key.words
	ports                 // a list of ports
	openPorts             // a list of ports, "8081:8080" or auto
	rules                 // a list of mappings, whose keys are those below "PATH[]"
	named                 // a mapping from chosen names to mappings, whose keys are those below "PATH.*"
	variables             // a mapping from chosen names to text
)

// key is one key of a document: the only list there is, read by the parser, the merge, the schema and the reference.
type key struct {
	path    string
	kind    kind
	doc     string   // what it means, in sentences
	def     string   // what holds without it; empty for sections and lists that are simply empty
	example string   // a value in YAML, as one line
	wrong   string   // values that are refused, in words
	opens   string   // what widens the policy, in words; empty when nothing does
	words   []string // for aWord and wordList
	needed  bool     // a rule without it is incomplete
	later   string   // for what has no effect in this version, and is refused: what to do instead
	laters  []string // the words that are meant, when not all are
	ceiling bool     // the organisation's value is the widest that later tiers may have
	byLevel bool     // a level chosen by a later tier takes back what earlier tiers opened here
	field   field    // for scalars and lists of scalars
}

// maxItems bounds lists: a hostile document must not buy quadratic work.
const maxItems = 1000

var (
	tableOnce sync.Once
	tableRows []key
)

// table is built when a document, a flag or the reference needs it, so that a plain start does not pay for it.
func table() []key {
	tableOnce.Do(func() {
		tableRows = slices.Concat(mainKeys(), fileKeys(), networkKeys(), accessKeys(), limitKeys(), engineKeys())
	})
	return tableRows
}

func mainKeys() []key {
	return []key{
		{
			path: "version", kind: anInt, def: "1", example: "1", wrong: "anything but 1",
			doc:   "The version of this format.",
			field: field{item: func(text string) (entry, error) { return entry{}, checkVersion(text) }},
		},
		{
			path: "level", kind: aWord, words: []string{string(Minimal), string(Restricted), string(Full)}, def: "restricted", example: "restricted", ceiling: true,
			doc: "The built-in policy to start from. minimal: a snippet of unknown origin; no project, no network, an empty home. " +
				"restricted: an agent working on a project; its changes are held. full: a tool trusted to write in place. " +
				"A level takes back what earlier tiers opened beyond it.",
			opens: "a later one of these words",
			field: scalar(func(s *Settings) *Value[Level] { return &s.Level }, oneOf(Minimal, Restricted, Full), inOrder(Minimal, Restricted, Full)),
		},
		{
			path: "agent", kind: aText, def: "guessed from the command", example: "claude", wrong: "anything but a-z, 0-9, - . _",
			later: "remove it: the sandbox is the same for every command",
			doc:   "The preset of a known agent.",
			opens: "any value that earlier tiers do not have",
			field: scalar(func(s *Settings) *Value[string] { return &s.Agent }, name, differs),
		},
		{
			path: "presets", kind: textList, example: "[npm, playwright]", wrong: "names with anything but a-z, 0-9, - . _; names that `casemate preset list` does not have",
			doc: "What known tool chains install from: each preset opens the network to the hosts that your own configuration of the tool names. " +
				"What a policy says itself comes after it, and deny wins.",
			opens:   "every entry",
			byLevel: true,
			field:   list(func(s *Settings) *[]Value[string] { return &s.Presets }, name, always),
		},
	}
}

func fileKeys() []key {
	return []key{
		{path: "files", kind: aSection, doc: "What the sandbox sees of the host's files."},
		{
			path: "files.workspace", kind: aWord, words: []string{string(Scratch), string(ReadOnly), string(Held), string(Live)}, def: "held at level restricted", example: "held",
			doc: "How the sandbox sees the project. none: an empty scratch directory. readonly: the project, unchangeable. " +
				"held: changes wait in a layer until `casemate apply`. live: changes appear on the host at once.",
			opens: "a later one of these words", ceiling: true, byLevel: true,
			field: scalar(func(s *Settings) *Value[Workspace] { return &s.Files.Workspace }, oneOf(Scratch, ReadOnly, Held, Live), inOrder(Scratch, ReadOnly, Held, Live)),
		},
		{
			path: "files.read", kind: textList, example: "[~/datasets]",
			doc:   "Paths of the host that may be read, besides the project and the tool chain. They cannot be changed from inside.",
			wrong: "relative paths, `..`, patterns, `/`, `~`, and what lies in `/proc`, `/sys`, `/dev` or `/run`",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.Files.Read }, hostPath, always),
		},
		{
			path: "files.readonly", kind: textList, example: "[src/, specs/]",
			doc:   "Parts of the project that may be read but not changed. It wins over write. What is made where nothing was needs your consent at apply; from a live project it is taken out.",
			wrong: "absolute paths, `..`, patterns, symbolic links (name the place they lead to), and the project itself (write `workspace: readonly`)",
			field: list(func(s *Settings) *[]Value[string] { return &s.Files.Readonly }, projectPath("readonly"), never),
		},
		{
			path: "files.write", kind: textList, example: "[./generated]",
			doc:   "Parts of the project that are written through to the host at once, even when the rest is held. Symlinks that a run leaves there and that lead out of the project are named at its end.",
			wrong: "absolute paths, `..`, patterns, and the project itself (write `workspace: live`)",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.Files.Write }, projectPath("live"), always),
		},
		{
			path: "files.hide", kind: textList, def: "the built-in list", example: `["*.pem", "secrets/", "!.env.example"]`,
			doc: "Paths of the project that are unreadable inside, as if absent: gitignore patterns that add to the built-in list or, with a leading `!`, except from it. " +
				"The last pattern that matches decides; what the organisation hides, nobody excepts.",
			wrong: "patterns that git would read otherwise or that match nothing: `..`, `./x`, an unclosed `[`, paths of the host",
			opens: "an exception (`!pattern`)",
			field: patterns(func(s *Settings) *[]Value[string] { return &s.Files.Hide }),
		},
		{
			path: "files.protect", kind: textList, def: "the built-in list of what a host executes", example: `["deploy/*.sh"]`,
			doc:   "Paths of the project whose changes need consent: gitignore patterns that add to the built-in list.",
			wrong: "exceptions (`!pattern`), and what hide refuses",
			field: list(func(s *Settings) *[]Value[string] { return &s.Files.Protect }, protectPattern, never),
		},
	}
}

func networkKeys() []key {
	return []key{
		{path: "network", kind: aSection, doc: "What the sandbox may reach. Without a rule: nothing."},
		{
			path: "network.allow", kind: rules, example: "[{host: api.anthropic.com}]",
			doc:   "What may be reached, by name and over TCP. An empty list means that nothing is allowed. On the command line: `HOST` or `HOST:PORT`.",
			opens: "every entry", byLevel: true,
			field: field{item: allowed, show: func(s *Settings) []Value[string] { return printed(s.Network.Allow) }},
		},
		{
			path: "network.allow[].host", needed: true, kind: aText, example: `"*.example.com"`,
			doc:   "A host name, an address, or `*.example.com` for all names below a domain (never the domain itself). Every rule has one.",
			wrong: "names outside ASCII (write punycode), ports, schemes, a `*` elsewhere, `*.com`",
			field: field{item: check(allowPattern)},
		},
		{
			path: "network.allow[].ports", kind: ports, def: "[443]", example: "[5432]", wrong: "numbers outside 1 to 65535",
			doc:   "TCP ports.",
			field: field{item: check(port)},
		},
		{
			path: "network.allow[].methods", kind: textList, def: "all", example: "[GET, POST]", wrong: "small letters, CONNECT, TRACE",
			doc:   "HTTP methods of the requests that are allowed; each is named by itself, also HEAD. TLS is opened at the gate then, and the plan says so. Where another rule allows the host and port without methods and paths, every request is allowed, and nothing is opened.",
			field: field{item: check(method)},
		},
		{
			path: "network.allow[].paths", kind: textList, def: "all", example: `["/v1/*"]`, wrong: "no leading `/`, a query, `..`, `**`",
			doc:   "Paths of the requests that are allowed, decoded and without their query. `*` stands for one or more characters between two slashes; `/*` at the end for everything below: `/v1/*` covers `/v1/` and `/v1/a/b`, not `/v1`. Letters count by their case. A request whose path servers may read in different ways (`//`, dot segments, an encoded slash) is denied. TLS is opened at the gate, as for methods.",
			field: field{item: check(urlPath)},
		},
		{
			path: "network.allow[].networks", kind: textList, def: "public addresses only", example: "[10.20.0.0/16]", wrong: "ranges with bits beyond their length, every address",
			doc:   "Private ranges of addresses that the name may resolve to. They are denied unless named.",
			field: field{item: check(network)},
		},
		{
			path: "network.allow[].until", kind: aDate, def: "for ever", example: "2026-12-01", wrong: "anything but year-month-day",
			doc:   "The last day on which the rule holds, in UTC.",
			field: field{item: check(day)},
		},
		{
			path: "network.allow[].reason", kind: aText, example: "SEC-12",
			doc:   "Why the rule exists.",
			field: field{item: check(printable)},
		},
		{
			path: "network.deny", kind: textList, example: `["*.telemetry.example"]`, wrong: "what host refuses",
			doc:   "Hosts that are not reached, whatever allows them.",
			field: list(func(s *Settings) *[]Value[string] { return &s.Network.Deny }, hostPattern, never),
		},
		{
			path: "network.ask", kind: aYes, def: "false", example: "true", ceiling: true, byLevel: true,
			doc: "Whether somebody is asked about a connection that no rule allows or denies: it waits, for at most 30 seconds, for an answer in `casemate watch`. " +
				"While nobody watches it is denied, as it is without this.",
			opens: "true",
			field: scalar(func(s *Settings) *Value[bool] { return &s.Network.Ask }, yes, inOrder(false, true)),
		},
		{
			path: "network.publish", kind: openPorts, example: `[3000, "8081:8080"]`, wrong: "numbers outside 1 to 65535",
			doc:   "Ports inside that are offered on the host's loopback: a port, `\"HOST:INSIDE\"`, or `auto` for each port on which a program begins to listen, under the same number if that is free.",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[Publish] { return &s.Network.Publish }, publish, always),
		},
		{
			path: "network.host_ports", kind: ports, example: "[5432]", wrong: "numbers outside 1 to 65535",
			doc:   "Ports on the host's loopback that can be reached inside.",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[int] { return &s.Network.HostPorts }, port, always),
		},
		{
			path: "network.internal", kind: textList, example: "[mocks]", wrong: "names with anything but a-z, 0-9, - . _",
			doc:   "Private networks, with no way out, shared with those sandboxes of yours that are on them too: each reaches every port of the others by name (`casemate run --name`).",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.Network.Internal }, name, always),
		},
	}
}

func accessKeys() []key {
	return []key{
		{
			path: "secrets", kind: named, example: "{anthropic: {env: ANTHROPIC_API_KEY, hosts: [api.anthropic.com]}}",
			doc: "Credentials that stay outside, by their names in the secret store: the variable inside holds a placeholder, which the gate replaces in requests to the hosts named. " +
				"Nothing is reached because of a secret: its hosts need a rule of network.allow as well, and TLS to them is opened at the gate.",
			opens: "every entry", byLevel: true,
			field: field{show: func(s *Settings) []Value[string] { return printed(s.Secrets) }},
		},
		{
			path: "secrets.*.env", needed: true, kind: aText, example: "ANTHROPIC_API_KEY", wrong: "what is not the name of a variable",
			doc:   "The variable of the command that holds the placeholder. Every secret has one of its own, which env neither sets nor passes. With `place: sigv4` it ends in `ACCESS_KEY_ID`; the variables with `SECRET_ACCESS_KEY` and `SESSION_TOKEN` in its stead belong to it.",
			field: field{item: check(variable)},
		},
		{
			path: "secrets.*.hosts", needed: true, kind: textList, example: "[api.anthropic.com]", wrong: "what network.allow[].host refuses",
			doc:   "The hosts that the credential may be sent to, in TLS. Every secret has at least one.",
			field: field{item: check(allowPattern)},
		},
		{
			path: "secrets.*.ports", kind: ports, def: "[443]", example: "[8443]", wrong: "numbers outside 1 to 65535",
			doc:   "The ports of the hosts.",
			field: field{item: check(port)},
		},
		{
			path: "secrets.*.place", kind: aText, example: "\"header:x-api-key\"", def: "a field of the header whose whole value it is; in `Authorization` also after one word, such as `Bearer`, and as name or password of basic authentication",
			wrong: "anything but `header:NAME`, `bearer`, `basic`, `query:NAME`, `git`, `sigv4`; fields that say where a request goes or how long it is",
			doc: "Where in a request the placeholder is replaced. `header:NAME`: anywhere in that field; `bearer`, `basic`: in `Authorization`; `query:NAME`: as that parameter's value; " +
				"`git`: as `basic`, and only in requests that git makes over HTTPS; `sigv4`: an AWS credential, with whose placeholders a request was signed (AWS Signature Version 4), which is signed anew. Anywhere else it is refused, and an alarm is told. Without a place, with `basic` and with `git`, git inside logs in at the hosts by itself.",
			field: field{item: check(place)},
		},
		{
			path: "secrets.*.methods", kind: textList, def: "all", example: "[POST]", wrong: "what network.allow[].methods refuses",
			doc:   "HTTP methods of the requests in which it is replaced.",
			field: field{item: check(method)},
		},
		{
			path: "secrets.*.paths", kind: textList, def: "all", example: `["/v1/*"]`, wrong: "what network.allow[].paths refuses",
			doc:   "Paths of the requests in which it is replaced, as in network.allow.",
			field: field{item: check(urlPath)},
		},
		{
			path: "ssh", kind: rules, example: "[{keys: [~/.ssh/id_ed25519.pub], hosts: [github.com]}]",
			doc: "Your ssh keys that may be used to log in, each at the hosts that stand with it. They stay outside: inside there is an ssh-agent that shows their public halves and signs logins at these hosts alone, " +
				"by the host keys in your known_hosts. Nothing is reached because of a key: its hosts need a rule of network.allow as well. On the command line: `HOST` or `HOST:PORT`, perhaps with `=KEY`.",
			opens: "every entry", byLevel: true,
			field: field{item: login, show: func(s *Settings) []Value[string] { return printed(s.SSH) }},
		},
		{
			path: "ssh[].keys", kind: textList, def: "the only key that your agent has", example: "[~/.ssh/id_ed25519.pub]", wrong: "relative paths, empty text",
			doc:   "Keys: a fingerprint (`SHA256:...`), the file of a public key, or the comment that your agent lists the key with. The key is your agent's; without it, that of the private file beside the public one, if it has no passphrase.",
			field: field{item: check(sshKey)},
		},
		{
			path: "ssh[].hosts", needed: true, kind: textList, example: "[github.com]", wrong: "patterns with a `*`, and what network.allow[].host refuses",
			doc:   "The hosts at which the keys may log in. Each has a line in your known_hosts.",
			field: field{item: check(oneHost)},
		},
		{
			path: "ssh[].ports", kind: ports, def: "[22]", example: "[2222]", wrong: "numbers outside 1 to 65535",
			doc:   "The ports of the hosts.",
			field: field{item: check(port)},
		},
		{path: "git", kind: aSection, doc: "What git inside gets from the person."},
		{
			path: "git.identity", kind: aWord, words: []string{string(IdentityNone), string(IdentityImport)}, def: "import, but none at level minimal", example: "import",
			doc:   "import: git inside knows the person's name and e-mail. Credentials and keys are never imported.",
			opens: "import", ceiling: true, byLevel: true,
			field: scalar(func(s *Settings) *Value[Identity] { return &s.Git.Identity }, oneOf(IdentityNone, IdentityImport), inOrder(IdentityNone, IdentityImport)),
		},
		{
			path: "git.push", kind: textList, example: "[origin]", wrong: "empty text, spaces at the ends",
			later: "remove it: commits are kept; review, then `casemate apply --commit`, merge and push outside",
			doc:   "Remotes that may be pushed to from inside.",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.Git.Push }, printable, always),
		},
		{
			path: "home", kind: aWord, words: []string{string(HomeNone), string(HomeProject), string(HomeAgent)}, def: "project, but none at level minimal", example: "project",
			later: "write project or none", laters: []string{string(HomeAgent)},
			doc:   "Whose home directory the sandbox has, never the host's. none: empty, thrown away; so it is always where no project is seen. project: kept for this project. agent: kept for this agent, in all projects.",
			opens: "a later one of these words", ceiling: true, byLevel: true,
			field: scalar(func(s *Settings) *Value[Home] { return &s.Home }, oneOf(HomeNone, HomeProject, HomeAgent), inOrder(HomeNone, HomeProject, HomeAgent)),
		},
		{
			path: "cache", kind: wordList, words: Caches(), example: "[npm, go]",
			doc: "Package managers whose cache on the host is what the sandbox's begins with. The host's is read and never changed; what is written inside is kept for this project's sandboxes alone, " +
				"and never applied. A cache tells what your other projects use, private packages among it.",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.Cache }, oneOf(Caches()...), always),
		},
		{
			path: "devices", kind: textList, example: "[gpu]", wrong: "names with anything but a-z, 0-9, - . _",
			later: "remove it: the sandbox sees no device of the host",
			doc:   "Devices of the host, each a named opening.",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.Devices }, name, always),
		},
		{path: "env", kind: aSection, doc: "The environment of the command. Nothing else of the host's is passed."},
		{
			path: "env.pass", kind: textList, def: "terminal, language and time zone", example: "[LANG, TERM]", wrong: "what is not the name of a variable; CASEMATE and AI_SANDBOX",
			doc:   "Variables of the host that the command gets, when they are set.",
			opens: "every entry", byLevel: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.Env.Pass }, variable, always),
		},
		{
			path: "env.set", kind: variables, example: "{NODE_ENV: test}", wrong: "what is not the name of a variable; CASEMATE and AI_SANDBOX; a NUL byte",
			doc:   "Variables and their values; they win over env.pass.",
			opens: "every entry, since a variable can make a program run code",
			field: field{show: func(s *Settings) []Value[string] { return printed(s.Env.Set) }},
		},
	}
}

func limitKeys() []key {
	return []key{
		{path: "limits", kind: aSection, doc: "What the sandbox may use."},
		{
			path: "limits.memory", kind: aSize, def: "75 % of the machine's memory", example: "12GiB", wrong: "sizes below 16MiB, fractions",
			doc:   "Memory of all processes together, with `/dev/shm`.",
			opens: "a higher limit", ceiling: true,
			field: limit(func(s *Settings) *Limit[Size] { return &s.Limits.Memory }, size(16*MiB), 0),
		},
		{
			path: "limits.pids", kind: anInt, def: "4096", example: "4096", wrong: "numbers outside 2 to 4194304",
			doc:   "Processes and threads at once.",
			opens: "a higher limit", ceiling: true,
			field: limit(func(s *Settings) *Limit[int] { return &s.Limits.Pids }, whole("number of processes", 2, 1<<22), DefaultPids),
		},
		{
			path: "limits.cpus", kind: aNumber, def: "no limit, but a weight", example: "4", wrong: "numbers outside 0.01 to 65536",
			doc:   "CPUs that may be busy at once.",
			opens: "a higher limit", ceiling: true,
			field: limit(func(s *Settings) *Limit[float64] { return &s.Limits.CPUs }, cpus, 65536),
		},
		{
			path: "limits.disk", kind: aSize, def: "20GiB or half of what is free, whichever is less", example: "20GiB", wrong: "sizes below 1MiB, fractions",
			doc:   "Size of the layer.",
			opens: "a higher limit", ceiling: true,
			field: limit(func(s *Settings) *Limit[Size] { return &s.Limits.Disk }, size(MiB), 0),
		},
		{
			path: "limits.time", kind: aTime, def: "none on a terminal, 6h without one", example: "2h", wrong: "numbers without a unit, less than 1s",
			doc:   "How long the command may run, or none.",
			opens: "a higher limit", ceiling: true,
			field: limit(func(s *Settings) *Limit[time.Duration] { return &s.Limits.Time }, duration, 0),
		},
		{
			path: "limits.idle", kind: aTime, def: "none", example: "30m", wrong: "numbers without a unit, less than 1s",
			doc:   "How long the command may print nothing and use no CPU, or none.",
			opens: "a higher limit", ceiling: true,
			field: limit(func(s *Settings) *Limit[time.Duration] { return &s.Limits.Idle }, duration, 0),
		},
	}
}

func engineKeys() []key {
	return []key{
		{
			path: "engine", kind: aWord, words: engines(), def: Native, example: Native,
			later: "write native", laters: engines()[1:],
			doc:   "What enforces the policy.",
			opens: "any engine that earlier tiers do not have", ceiling: true,
			field: scalar(func(s *Settings) *Value[string] { return &s.Engine }, oneOf(engines()...), differs),
		},
		{
			path: "allow_fallback", kind: wordList, words: fallbacks(), example: "[landlock]",
			doc:   "Weaker modes that may be used where the default cannot be had. Each use is printed and recorded.",
			opens: "every entry", ceiling: true,
			field: list(func(s *Settings) *[]Value[string] { return &s.AllowFallback }, oneOf(fallbacks()...), always),
		},
		{
			path: "require", kind: wordList, words: Guarantees(), def: "the mode's own list", example: "[limits.memory]",
			doc:   "Guarantees without which nothing runs, beyond the mode's own.",
			field: list(func(s *Settings) *[]Value[string] { return &s.Require }, guarantee, never),
		},
		{
			path: "locked", kind: textList, example: "[network.deny]", wrong: "what is not a key; any tier but the organisation's",
			doc:   "Keys that later tiers cannot change; a section locks all its keys. For the organisation's policy only.",
			field: list(func(s *Settings) *[]Value[string] { return &s.Locked }, lockable, never),
		},
	}
}

// engines are the engines there are or will be.
func engines() []string { return []string{Native, "docker", "gvisor", "microvm", "wasm", "kube"} }

// Guarantees are the names of all guarantees there are, in any mode and workspace. Package plan says which of them hold.
func Guarantees() []string {
	return []string{
		"files.deny-read", "files.deny-write", "files.metadata", "files.hide", "files.hide-new", "files.protect", "net.default-deny",
		"proc.isolation", "proc.signals", "proc.no-leftovers", "privileges.none", "kernel.surface", "keys.isolation", "tty.injection", "fds.closed", "env.clean",
		"limits.memory", "limits.pids", "limits.cpu", "limits.disk", "limits.files", "limits.core", "limits.time", "limits.idle",
	}
}

// fallbacks are the weaker modes by name.
func fallbacks() []string { return []string{"landlock"} }

// Caches are the package managers whose caches are known. Package cache says where they are.
func Caches() []string {
	return []string{"bun", "bundler", "cargo", "composer", "deno", "go", "gradle", "huggingface", "maven", "npm", "nuget", "pip", "playwright", "pnpm", "uv", "yarn"}
}

func checkVersion(text string) error {
	if text != "1" {
		return bad("write version: 1, or install a newer casemate", "version %s is not known here", quoted(text))
	}
	return nil
}

// check is for the parts of a rule, which are put together elsewhere: the text is only looked at.
func check[T any](read func(string) (T, error)) func(string) (entry, error) {
	return func(text string) (entry, error) {
		_, err := read(text)
		return entry{}, err
	}
}

// lockable reads a key or a section.
func lockable(text string) (string, error) {
	var paths []string
	for _, k := range table() {
		if !strings.Contains(k.path, "[]") && !strings.Contains(k.path, "*") {
			paths = append(paths, k.path)
		}
	}
	if !slices.Contains(paths, text) {
		return "", bad(didYouMean(text, paths), "%s is not a key that can be locked", quoted(text))
	}
	return text, nil
}

// find is the row of a path.
// Words lists what a key may be in this version, if it is one of a few words.
func Words(path string) (words []string) {
	if k, known := find(path); known {
		words = slices.DeleteFunc(slices.Clone(k.words), func(w string) bool { return slices.Contains(k.laters, w) })
	}
	return words
}

func find(path string) (*key, bool) {
	t := table()
	i := slices.IndexFunc(t, func(k key) bool { return k.path == path })
	if i < 0 {
		return nil, false
	}
	return &t[i], true
}

// below are the names of the keys in a mapping: "" is the document itself.
func below(prefix string) []string {
	var out []string
	for _, k := range table() {
		rest, ok := strings.CutPrefix(k.path, prefix)
		if ok && rest != "" && !strings.ContainsAny(rest, ".[*") {
			out = append(out, rest)
		}
	}
	return out
}
