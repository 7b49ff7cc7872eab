package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"casemate.dev/internal/gate/wire"
)

const onlySome = `network:
  allow:
    - {host: allowed.example, methods: [GET, POST], paths: ["/v1/*"]}
    - {host: allowed.example, ports: [80], methods: [GET]}
    - {host: api.allowed.example}
`

// TestOnlySomeRequests: rules with methods and paths hold for programs that know nothing of them, and trust the system's authorities.
func TestOnlySomeRequests(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		needs(t, "curl")
		s.put("casemate.yaml", onlySome, 0o644)
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		k := s.talk()
		for _, c := range []struct{ name, args, want string }{
			{"an allowed request", "https://allowed.example/v1/a", "GET allowed.example /v1/a 0"},
			{"over HTTP/1.1", "--http1.1 https://allowed.example/v1/a", "GET allowed.example /v1/a 0"},
			{"with a body", "-d 12345 https://allowed.example/v1/a", "POST allowed.example /v1/a 5"},
			{"two on one connection", "https://allowed.example/v1/a https://allowed.example/v1/b", "GET allowed.example /v1/a 0\nGET allowed.example /v1/b 0"},
			{"another method", "-X DELETE https://allowed.example/v1/a", `"why":"no rule allows DELETE /v1/a at allowed.example:443"`},
			{"another path", "https://allowed.example/v2/a", `"allow":"network.allow: {host: \"allowed.example\", methods: [GET], paths: [\"/v2/a\"]}"`},
			{"a path that leads out", "--path-as-is https://allowed.example/v1/../v2", "dot segment"},
			{"the second one on a connection", "https://allowed.example/v1/a https://allowed.example/v2/a", "GET allowed.example /v1/a 0\n{\"error\":\"denied by casemate\""},
			{"without TLS", "http://allowed.example/a", "GET allowed.example /a 0"},
			{"another method without TLS", "-d 1 http://allowed.example/a", "no rule allows POST /a at allowed.example:80"},
			{"a host that is allowed wholly", "-X DELETE https://api.allowed.example/", "DELETE api.allowed.example / 0"},
		} {
			if got := k.ask("curl -sS " + c.args); !strings.Contains(got, c.want) {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
		has(t, "Python", k.ask(`python3 -c 'import urllib.request as u; print(u.urlopen("https://allowed.example/v1/a").read())' 2>&1 | tail -1`), "GET allowed.example /v1/a 0")
		has(t, "who speaks for the host", k.ask("curl -sSv https://allowed.example/v1/a 2>&1"), "issuer: CN="+wire.AuthorityName)
		words := k.end()
		has(t, "what is said at the end", words, "no rule allows DELETE /v1/a at allowed.example:443")
		has(t, "events", s.events(t), `"allow":"network.allow: {host: \"allowed.example\", methods: [DELETE], paths: [\"/v1/a\"]}","detail":"no rule allows DELETE /v1/a at allowed.example:443"`)
		has(t, "events", s.events(t), `"detail":"no rule allows GET /v2/a at allowed.example:443"`)
		out := s.do("net")
		for _, want := range []string{"no rule allows DELETE /v1/a at allowed.example:443", `{host: "allowed.example", methods: [DELETE], paths: ["/v1/a"]}`, "2 allowed, "} {
			has(t, "casemate net", out.stdout, want)
		}
		has(t, "the plan", s.do("plan", "--", "true").stdout, "only requests of method GET, POST on path /v1/*")
	})
}

// TestOwnAuthorities: where a person names authorities of their own, hosts whose TLS is opened are verified by those and no others.
func TestOwnAuthorities(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		needs(t, "curl")
		s.put("casemate.yaml", onlySome, 0o644)
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		if out := s.outside("cp /etc/ssl/certs/ca-certificates.crt $HOME/company.pem && chmod 644 $HOME/company.pem"); out.exit != 0 {
			t.Fatal(out)
		}
		none := filepath.Join(s.Home, "other.pem")
		if err := os.WriteFile(none, []byte("# no authority that anybody here has\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		s.put("agents.pem", "# nor any of the system's\n", 0o644)
		agents := filepath.Join(s.Work, "agents.pem") // in the project
		for file, want := range map[string]string{filepath.Join(s.Home, "company.pem"): "GET allowed.example /v1/a 0", none: "certificate is not valid here", agents: "GET allowed.example /v1/a 0"} {
			cmd := s.command("run", "--", "curl", "-sS", "https://allowed.example/v1/a")
			cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+file, "SSL_CERT_DIR=/nowhere")
			out := s.finish(cmd)
			has(t, file, out.stdout, want)
			if said := strings.Contains(out.stderr, "not believed"); said != (file == agents) {
				t.Errorf("%s: what is said is %q", file, out.stderr)
			}
		}
	})
}
