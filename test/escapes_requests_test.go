package test

import (
	"strings"
	"testing"
)

// TestE45AnotherAuthority: on a connection that is opened each request names its host, over HTTP/2 too, and none may name another one. (TestGateAgreement shows the same of
// connections that are passed through.)
func TestE45AnotherAuthority(t *testing.T) {
	needs(t, "node")
	escaping(t, func(t *testing.T, s *site) {
		s.put("casemate.yaml", "network:\n  allow:\n    - {host: allowed.example, methods: [GET]}\n", 0o644)
		s.put("two.js", `
const c = require("http2").connect("https://allowed.example");
const ask = authority => new Promise(done => {
  const r = c.request({":authority": authority, ":path": "/"});
  let text = "";
  r.setEncoding("utf8").on("data", d => text += d).on("error", e => text += e.message).on("close", () => { console.log(authority + ": " + text.trim()); done(); });
});
c.on("error", e => { console.log("failed", e.message); process.exit(1); });
ask("allowed.example").then(() => ask("denied.example")).then(() => c.destroy());
`, 0o644)
		s.Accept()
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		out := s.run("--", "node", "two.js")
		has(t, "the host's own name", out.stdout, "allowed.example: GET allowed.example / 0")
		has(t, "another name", out.stdout, "denied.example: ")
		hasNot(t, "another name", out.stdout, "GET denied.example")
		out = s.outside("NODE_EXTRA_CA_CERTS=" + bundle + " node two.js")
		has(t, "control, outside", out.stdout, "denied.example: GET denied.example / 0")
	})
}

// TestE46OtherRequests: where a rule is about some requests of a host, no way to write a path, to frame a body or to go on with a connection makes another one.
func TestE46OtherRequests(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		s.put("casemate.yaml", "network:\n  allow:\n    - {host: allowed.example, ports: [80], methods: [GET, POST], paths: [\"/v1/*\"]}\n", 0o644)
		s.Accept()
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		k := s.talk()
		const to, end = ` HTTP/1.1\r\nHost: allowed.example\r\n`, `Connection: close\r\n\r\n`
		if got := k.ask("python3 attacks.py requests allowed.example 80 'GET /v1/a" + to + end + "'"); !strings.Contains(got, "GET allowed.example /v1/a 0") {
			t.Errorf("a request that is allowed: %s", got)
		}
		s.escapesBehind(k, "paths", "allowed.example",
			`GET /secret`+to+end, `PUT /v1/secret`+to+end, `GET /v1/../secret`+to+end, `GET /v1/%2e%2e/secret`+to+end, `GET /v1/..%2fsecret`+to+end, `GET /v1//../secret`+to+end, `GET /v1/..\\\\secret`+to+end,
			`GET /v1;x/../secret`+to+end, `GET http://allowed.example/secret`+to+end,
			`GET /v1/a`+to+`\r\nGET /secret`+to+end,
			`GET /v1/a`+to+`\r\nGET /v1/secret HTTP/1.1\r\nHost: denied.example\r\n`+end,
			`POST /v1/a`+to+`Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret`+to+end,
			`POST /v1/a`+to+`Content-Length: 3\r\n\r\nabcGET /secret`+to+end)
		k.end()
	})
}

// TestE47PlainHTTP: HTTP without TLS is decided like everything else, and no request leads through the gate as through a proxy.
func TestE47PlainHTTP(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		tls := s.talk("--allow", "allowed.example:443")
		hasNot(t, "a host that is allowed by TLS", tls.ask("python3 reach.py allowed.example 80 http"), "GET")
		has(t, "control", s.outside("python3 reach.py allowed.example 80 http").stdout, "GET")
		tls.end()
		k := s.talk("--allow", "allowed.example:80")
		const end = `Connection: close\r\n\r\n`
		s.escapesBehind(k, "requests", "allowed.example", `GET http://denied.example/ HTTP/1.1\r\nHost: denied.example\r\n`+end, `GET http://denied.example/ HTTP/1.1\r\nHost: allowed.example\r\n`+end,
			`GET / HTTP/1.1\r\nHost: denied.example\r\n`+end, `GET / HTTP/1.0\r\nHost: denied.example\r\n`+end)
		k.end()
	})
}

// escapesBehind sends requests to a host that is allowed, for another one that its server serves too. That it is connected to is no harm.
func (s *site) escapesBehind(k *talk, how, host string, requests ...string) {
	s.t.Helper()
	quoted := " '" + strings.Join(requests, "' '") + "'"
	got := k.ask("python3 attacks.py " + how + " " + host + " 80" + quoted)
	if strings.Count(got, "refused") != len(requests) {
		s.t.Errorf("inside: %s", got)
	}
	out := s.outside("python3 attacks.py " + how + " " + host + " 80" + quoted)
	if strings.Count(out.stdout, "reached") != len(requests) {
		s.t.Errorf("control, outside: %v", out)
	}
}

// TestE53ToAnAllowedHost: a rule for fetching from a repository lets nothing be pushed to it, nor to another one of the same host. (A rule for a whole host does, and the
// documents say so.)
func TestE53ToAnAllowedHost(t *testing.T) {
	needs(t, "git")
	escaping(t, func(t *testing.T, s *site) {
		s.put("casemate.yaml", "network:\n  allow:\n    - {host: git.example, methods: [GET, POST], paths: [/https.git/info/refs, /https.git/git-upload-pack]}\n", 0o644)
		s.Accept()
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		branch := "carried-out-" + s.unique()
		push := func(repository string) string {
			return `rm -rf clone && git clone -q https://git.example/https.git clone && cd clone && echo cloned && git checkout -q -b ` + branch +
				` && git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m secret && git push -q https://git.example/` + repository + ` HEAD && echo pushed`
		}
		for _, repository := range []string{"https.git", "other.git"} {
			out := s.run("--", "sh", "-c", push(repository))
			has(t, "fetching, which is allowed", out.stdout, "cloned")
			hasNot(t, "pushing to "+repository, out.stdout, "pushed")
			has(t, "what git says", out.stderr, "403")
			refs := s.outside("git ls-remote https://git.example/" + repository).stdout
			hasNot(t, "the branches of "+repository, refs, branch)
			if out := s.outside(push(repository)); !strings.Contains(out.stdout, "pushed") {
				t.Errorf("control, outside: %v", out)
			}
			s.outside("rm -rf clone")
		}
	})
}
