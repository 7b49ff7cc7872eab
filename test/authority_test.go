package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// client is a program that speaks TLS, and how it is asked for a page whose address is in $U. $SYSTEM is the host's bundle as it was, in the project.
type client struct {
	name     string
	have     string // succeeds inside where the program is installed
	ask      string
	distrust string // the same, which trusts what the host trusts: the control
	refused  string // what it says then
	met      string // what it says when it has got an answer, if not the page itself
	slow     bool   // asked in one mode only: how the files come inside does not depend on who reads them
}

// clients are those of docs/reference/trust.md that a test can ask. No variable of ours is in their commands: what the sandbox sets is what is tested.
func clients() []client {
	const (
		python   = `/usr/bin/python3 -c 'import os, urllib.request; print(urllib.request.urlopen(os.environ["U"]).read().decode())'`
		node     = `node -e 'fetch(process.env.U).then(r => r.text()).then(console.log, e => console.log(e.cause.message))'`
		requests = `/usr/bin/python3 -c 'import os, requests; print(requests.get(os.environ["U"]).text)'`
		java     = "java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto " // a third of the time
		pip      = `/usr/bin/python3 -m pip download --disable-pip-version-check --retries 0 --no-deps --no-cache-dir -d /tmp/x -i $U nothing`
		old      = "SSL_CERT_FILE=$SYSTEM SSL_CERT_DIR=/usr " // which is there, so that nobody looks for another, and has no certificates
		bare     = "env -u SSL_CERT_FILE -u SSL_CERT_DIR -u REQUESTS_CA_BUNDLE -u NODE_EXTRA_CA_CERTS -u DENO_CERT "
	)
	return []client{
		{name: "curl", ask: "curl -sS $U", distrust: "curl -sS --cacert $SYSTEM --capath /nonexistent $U", refused: "curl: (60)"},
		{name: "curl without our variables", have: "command -v curl", ask: bare + "curl -sS $U"},
		{name: "git", ask: "git ls-remote $U", distrust: "git -c http.sslCAInfo=$SYSTEM -c http.sslCAPath=/nonexistent ls-remote $U", refused: "certificate", met: "is this a git repository?"},
		{name: "wget", ask: "wget -qO- $U", distrust: "wget -O- --ca-certificate=$SYSTEM --ca-directory=/nonexistent $U", refused: "certificate"},
		{name: "openssl", ask: "openssl s_client -brief -verify_return_error -connect $H:443 -servername $H </dev/null", met: "Verification: OK",
			distrust: "openssl s_client -brief -verify_return_error -CAfile $SYSTEM -no-CApath -connect $H:443 -servername $H </dev/null", refused: "certificate verify failed"},
		{name: "openssl without our variables", have: "command -v openssl", met: "Verification: OK",
			ask: bare + "openssl s_client -brief -verify_return_error -connect $H:443 -servername $H </dev/null"},
		{name: "Python", have: "command -v /usr/bin/python3", ask: python, distrust: old + python, refused: "CERTIFICATE_VERIFY_FAILED"},
		{name: "Python without our variables", have: "command -v /usr/bin/python3", ask: bare + python},
		{name: "Python's requests", have: "/usr/bin/python3 -c 'import requests'", ask: requests, distrust: "REQUESTS_CA_BUNDLE=$SYSTEM " + requests, refused: "CERTIFICATE_VERIFY_FAILED"},
		{name: "pip", have: "/usr/bin/python3 -m pip --version", ask: pip, distrust: "REQUESTS_CA_BUNDLE=$SYSTEM " + pip, refused: "ssl certificate", met: "got Content-Type", slow: true},
		{name: "Node", have: "command -v node", ask: node, distrust: bare + node, refused: "certificate"},
		{name: "a static Go program", have: "true", ask: fetchVariable + "=$U ./fetch", distrust: old + fetchVariable + "=$U ./fetch", refused: "unknown authority"},
		{name: "Java", have: "command -v java", ask: java + "-cp . Fetch $U", distrust: java + "-Djavax.net.ssl.trustStore=$JAVA -cp . Fetch $U", refused: "PKIX path building failed", slow: true},
		{name: "Deno", have: "command -v deno", ask: `deno eval 'console.log(await (await fetch("'$U'")).text())'`, distrust: bare + `deno eval 'console.log(await (await fetch("'$U'")).text())'`, refused: "ertificate"},
		{name: "Bun", have: "command -v bun", ask: `bun -e 'console.log(await (await fetch("'$U'")).text())'`},
		{name: "cargo", have: "command -v cargo && command -v rustc", ask: "cd crate && cargo fetch", distrust: "cd crate && " + old + "CARGO_HTTP_CAINFO=$SYSTEM cargo fetch", refused: "certificate", met: "expected value at line 1", slow: true},
		{name: "Ruby", have: "command -v ruby", ask: `ruby -ropenssl -rnet/http -e 'puts Net::HTTP.get(URI(ENV["U"]))'`, distrust: old + `ruby -ropenssl -rnet/http -e 'puts Net::HTTP.get(URI(ENV["U"]))'`, refused: "certificate verify failed"},
		{name: "PHP", have: "command -v php", ask: `php -r 'echo file_get_contents(getenv("U"));'`, distrust: old + `php -r 'echo file_get_contents(getenv("U"));'`, refused: "certificate verify failed"},
		{name: "Perl", have: "perl -MHTTP::Tiny -MIO::Socket::SSL -e 1", ask: `perl -MHTTP::Tiny -e 'print HTTP::Tiny->new(verify_SSL => 1)->get($ENV{U})->{content}'`, refused: "certificate verify failed",
			distrust: `perl -MHTTP::Tiny -e 'print HTTP::Tiny->new(verify_SSL => 1, SSL_options => {SSL_ca_file => $ENV{SYSTEM}})->get($ENV{U})->{content}'`},
	}
}

const fetchVariable = "CASEMATE_TEST_FETCH"

// fetch is the static Go program: this test binary, told by a variable what to fetch.
func fetch(address string) int {
	r, err := http.Get(address)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	io.Copy(os.Stdout, r.Body)
	return 0
}

// TestAuthorityIsTrusted: where the gate opens TLS, programs take its certificates without being told, and what is passed through keeps its own. The same
// programs refuse the gate's where they trust what the host does.
func TestAuthorityIsTrusted(t *testing.T) {
	all := true
	gated(t, func(t *testing.T, s *site) {
		const opened, passed = "opened.allowed.example", "allowed.example"
		s.put("casemate.yaml", "network:\n  allow:\n    - {host: "+opened+", methods: [GET, HEAD]}\n    - host: "+passed+"\n", 0o644)
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		s.authorityFiles(t)
		k := s.talk()
		var missing []string
		for _, c := range clients() {
			if c.slow && !all {
				continue
			}
			if c.have == "" {
				c.have = "command -v " + c.name
			}
			if got := k.ask("{ " + c.have + "; } >/dev/null 2>&1 && echo have"); got != "have" {
				missing = append(missing, c.name)
				continue
			}
			ask := func(command, host string) string {
				return k.ask("( export SYSTEM=$PWD/system.crt JAVA=$PWD/java.crt H=" + host + " U=https://" + host + "/page; " + command + " )")
			}
			met := c.met
			if met == "" {
				met = "GET " + opened + " /page"
			}
			if got := ask(c.ask, opened); !strings.Contains(got, met) {
				t.Errorf("%s does not trust the gate: %s", c.name, got)
			}
			if c.distrust == "" {
				continue
			}
			if got := ask(c.distrust, opened); !strings.Contains(got, c.refused) || strings.Contains(got, met) {
				t.Errorf("control: %s trusts the gate without its authority: %s", c.name, got)
			}
		}
		all = false
		if len(missing) > 0 {
			t.Logf("not installed, and not tested: %s", strings.Join(missing, ", "))
		}
		issuer := func(host string) string {
			return k.ask("openssl s_client -showcerts -connect " + host + ":443 -servername " + host + " </dev/null 2>/dev/null | openssl x509 -noout -issuer")
		}
		has(t, "the issuer where TLS is opened", issuer(opened), "Casemate gate")
		has(t, "the issuer where it is passed through", issuer(passed), "a certificate of Casemate's tests")
		has(t, "a host that is passed through", k.ask("curl -sS https://"+passed+"/page"), "GET "+passed+" /page")
		has(t, "the gate's authority for another host", k.ask("curl -sS --connect-to denied.example:443:"+opened+":443 https://denied.example/page || echo refused"), "refused")
		k.end()
	})
}

// authorityFiles lays what the clients need into the project.
func (s *site) authorityFiles(t *testing.T) {
	t.Helper()
	// As casemate sees the host's, which in the world holds the certificate of the world's hosts.
	if out := s.outside("cp /etc/ssl/certs/ca-certificates.crt system.crt; cp /etc/ssl/certs/java/cacerts java.crt 2>/dev/null; true"); out.exit != 0 {
		t.Fatal(out)
	}
	class, err := os.ReadFile(filepath.Join("testdata", "authority", "Fetch.class"))
	if err != nil {
		t.Fatal(err)
	}
	s.put("Fetch.class", string(class), 0o644)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	s.put("fetch", string(program), 0o755)
	s.put("crate/Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nfoo = { version = \"1\", registry = \"m\" }\n", 0o644)
	s.put("crate/src/lib.rs", "", 0o644)
	s.put("crate/.cargo/config.toml", "[registries.m]\nindex = \"sparse+https://opened.allowed.example/\"\n[net]\nretry = 0\n", 0o644)
	s.Accept()
}

// TestAuthorityStaysInside: the files are read-only, new for each run of a kept sandbox, and nowhere on the host when it has ended; the host's own are as
// they were. Without opened TLS there is none of it.
func TestAuthorityStaysInside(t *testing.T) {
	gatedByOwner(t, func(t *testing.T, s *site) {
		s.put("casemate.yaml", "network: {allow: [{host: opened.allowed.example, paths: [/page]}]}\nenv: {set: {SSL_CERT_FILE: /etc/ssl/mine.pem}}\n", 0o644)
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		before := s.outside("sha256sum /etc/ssl/certs/*.crt; ls -la /etc/ssl/certs /run/casemate 2>&1").stdout
		const attacks = `for line in "echo x >authority.pem" "echo x >>bundle.pem" "chmod 600 bundle.pem" "rm -f bundle.pem" "mv $PWD/authority.pem /tmp"; do sh -c "$line" 2>/dev/null && echo "done: $line"; done; cd /; mv /run/casemate /run/x`
		has(t, "the control", s.outside("mkdir control && cd control && touch authority.pem bundle.pem; "+attacks).stdout, "done: chmod 600 bundle.pem")
		hasNot(t, "what an agent tries", s.run("--", "sh", "-c", "cd /run/casemate; "+attacks+" && echo done: moved; cd /etc/ssl/certs; echo x >>ca-certificates.crt && echo done: appended").stdout, "done")
		const look = "cat /run/casemate/authority.pem; echo $SSL_CERT_FILE; echo kept >> kept.txt"
		first, second := s.run("--", "sh", "-c", look), s.run("--", "sh", "-c", look)
		if first.exit != 0 || second.exit != 0 || first.stdout == second.stdout || !strings.Contains(first.stdout, "BEGIN CERTIFICATE") {
			t.Errorf("two runs of a kept sandbox: %v\n%v", first, second)
		}
		has(t, "what the policy sets", first.stdout, "\n/etc/ssl/mine.pem\n")
		if left, _ := filepath.Glob(filepath.Join(s.State, "casemate", "sandboxes", "*", "trust")); len(left) > 0 {
			t.Errorf("after the runs: %v", left)
		}
		if after := s.outside("sha256sum /etc/ssl/certs/*.crt; ls -la /etc/ssl/certs /run/casemate 2>&1").stdout; after != before {
			t.Errorf("the host's certificates were\n%s\nand are\n%s", before, after)
		}
		out := s.do("plan")
		for _, want := range []string{"TLS opened at the gate\n  opened.allowed.example\n      project casemate.yaml:1\n", "/etc/ssl/certs/ca-certificates.crt from ", "variable  NODE_EXTRA_CA_CERTS=/run/casemate/authority.pem", "yours     SSL_CERT_FILE\n      project casemate.yaml:2"} {
			has(t, "the plan", out.stdout, want)
		}
		s.put("casemate.yaml", "network: {allow: [{host: opened.allowed.example}]}\n", 0o644)
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		if out := s.run("--", "sh", "-c", "ls /run; env; cat /etc/ssl/certs/*.0 | grep -c BEGIN >/dev/null"); strings.Contains(out.stdout, "casemate/") || strings.Contains(out.stdout, "CERT") || out.exit != 0 {
			t.Errorf("without opened TLS: %v", out)
		}
	})
}
