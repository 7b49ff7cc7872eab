package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unique is a name that no other site has: the servers are there for all of them.
func (s *site) unique() string { return filepath.Base(s.Dir) }

// commits makes a commit in a clone and pushes it to a branch of its own.
func (s *site) commits() string {
	return `cd clone && git checkout -q -b ` + s.unique() + ` && git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m "from inside" && git push -q origin HEAD && git ls-remote origin`
}

// TestRealGitHTTPS clones and pushes to git's own server.
func TestRealGitHTTPS(t *testing.T) {
	needs(t, "git")
	servedOnce(t, func(t *testing.T, s *site) {
		s.does(job{
			rule: []string{"--allow", "git.example"},
			line: `rm -rf clone && git clone -q https://git.example/https.git clone && ` + s.commits(),
			want: "refs/heads/" + s.unique(), name: "git.example", ports: "443",
		})
		has(t, "the repository outside", s.outside("git -C "+realWorld.world.dir+"/git/https.git -c safe.directory='*' log --format=%s "+s.unique()).stdout, "from inside")
	})
}

// TestRealGitFetches: what a preset for a git host allows is enough to clone, and not to push.
func TestRealGitFetches(t *testing.T) {
	needs(t, "git")
	built, err := os.ReadFile("../internal/preset/data/github.yaml")
	if err != nil {
		t.Fatal(err)
	}
	servedOnce(t, func(t *testing.T, s *site) {
		// The built-in preset of a host whose repositories lie two directories deep, with the test's own host.
		s.atHome(".config/casemate/presets/forge.yaml", strings.Replace(string(built), "  - github.com\n", "  - git.example\n", 1))
		repository := "https://git.example/acme/" + s.unique() + ".git"
		lay := `d="` + realWorld.world.dir + `/git/acme/` + s.unique() + `.git"; git init -q --bare -b main "$d" && git -C "$d" config http.receivepack true && git -C "$d" config core.sharedRepository world && chmod -R a+rwX "$d"`
		if out := s.outside(lay); out.exit != 0 {
			t.Fatal(out)
		}
		push := `git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m "from $WHO" && git push -q origin HEAD:main 2>&1`
		fill := s.run("--allow", "git.example", "--env", "WHO=control", "--", "sh", "-c", "git clone -q "+repository+" first 2>&1 && cd first && "+push)
		if fill.exit != 0 {
			t.Fatalf("control: a push with a rule for the whole host: %v", fill)
		}
		out := s.run("--preset", "forge", "--env", "WHO=preset", "--", "sh", "-c", "rm -rf first && git clone -q "+repository+" clone && cd clone && git fetch && git log --format=%s && "+push)
		if out.exit == 0 || !strings.Contains(out.stdout, "from control\n") || !strings.Contains(out.stdout, "403") {
			t.Errorf("clone and push: %v", out)
		}
		has(t, "the push", out.stderr, "no rule allows POST /acme/"+s.unique()+".git/git-receive-pack at git.example:443")
		if log := s.outside("git ls-remote " + repository + " && git clone -q " + repository + " seen && git -C seen log --format=%s"); log.exit != 0 || strings.Contains(log.stdout, "from preset") {
			t.Errorf("the repository: %v", log)
		}
	})
}

// authorize lets keys log in at the world's sshd.
func authorize(t *testing.T, lines string) {
	t.Helper()
	keys, err := os.OpenFile(filepath.Join(realWorld.world.dir, "servers", "authorized_keys"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.WriteString(lines); err != nil {
		t.Fatal(err)
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRealGitSSH clones and pushes over ssh, with a key that is made inside and never leaves.
func TestRealGitSSH(t *testing.T) {
	needs(t, "git")
	needs(t, "ssh")
	servedOnce(t, func(t *testing.T, s *site) {
		who, err := serverUser()
		if err != nil {
			t.Fatal(err)
		}
		servers := filepath.Join(realWorld.world.dir, "servers")
		hostKey, err := os.ReadFile(servers + "/host_key.pub")
		if err != nil {
			t.Fatal(err)
		}
		made := s.sh(`mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && cat ~/.ssh/id_ed25519.pub && echo '[git.example]:2222 ` + strings.TrimSpace(string(hostKey)) + `' >~/.ssh/known_hosts`)
		if made.exit != 0 {
			t.Fatal(made)
		}
		authorize(t, made.stdout)
		s.does(job{
			tell: []string{"--env", "GIT_SSH_COMMAND=ssh -o BatchMode=yes -o StrictHostKeyChecking=yes"},
			rule: []string{"--allow", "git.example:2222"},
			line: `rm -rf clone && git clone -q ssh://` + who.Username + `@git.example:2222` + servers + `/ssh.git clone && ` + s.commits(),
			want: "refs/heads/" + s.unique(), name: "git.example", ports: "2222",
		})
	}, "sshd")
}

// TestRealDatabases uses the person's own databases by their port, and those of the own network by name, and no other port or host.
func TestRealDatabases(t *testing.T) {
	needs(t, "psql")
	needs(t, "redis-cli")
	servedOnce(t, func(t *testing.T, s *site) {
		s.put("ca.txt", string(s.world.certificate(t)), 0o644)
		s.put("casemate.yaml", "network:\n  allow:\n    - {host: db.example, ports: [5432, 6379], networks: [10.1.2.0/24]}\n", 0o644)
		s.Accept()
		const query = ` -U app -d postgres -w -Atc "select 'hello from ' || current_database()" 2>&1`
		psql := func(host string) string { return `PGCONNECT_TIMEOUT=30 psql -h ` + host + query }
		redis := func(host string) string { return `redis-cli -h ` + host + ` incr ` + s.unique() + ` 2>&1` }
		const greets = "hello from postgres"

		mark := s.world.mark()
		k := s.talk("--host-port", "5432")
		if got := k.ask(psql("127.0.0.1")); got != greets {
			t.Errorf("psql to a port of the host's: %q", got)
		}
		has(t, "redis-cli without its port", k.ask(redis("127.0.0.1")), "refused")
		k.end()
		k = s.talk("--host-port", "6379")
		if got := k.ask(redis("127.0.0.1")); got != "1" && got != "(integer) 1" {
			t.Errorf("redis-cli to a port of the host's: %q", got)
		}
		has(t, "psql without its port", k.ask(psql("127.0.0.1")), "refused")
		k.end()
		for _, a := range s.world.since(mark, "accepted ") {
			if a != "127.0.0.1:5432" && a != "127.0.0.1:6379" {
				t.Errorf("%s was reached", a)
			}
		}

		// A name of the own network: without the range it is looked up, and refused when it is connected to.
		tls := "'sslmode=verify-full sslrootcert=ca.txt host=db.example'"
		inTLS := `PGCONNECT_TIMEOUT=30 psql ` + strings.Replace(tls, "host=", "user=app dbname=postgres host=", 1) + ` -w -Atc "select 'hello from ' || current_database() || ssl from pg_stat_ssl where pid = pg_backend_pid()" 2>&1`
		mark = s.world.mark()
		k = s.talk("--allow", "db.example:5432,6379")
		hasNot(t, "psql, by a name without its network", k.ask(inTLS), "hello")
		hasNot(t, "redis-cli, by a name without its network", k.ask(redis("db.example")), "integer")
		k.end()
		if reached := s.world.since(mark, "accepted "); len(reached) > 0 {
			t.Errorf("%q were reached", reached)
		}
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		mark = s.world.mark()
		k = s.talk()
		if got := k.ask(inTLS); got != greets+"true" {
			t.Errorf("psql by name, over TLS that begins in the middle: %q", got)
		}
		if got := k.ask(redis("db.example")); !strings.HasSuffix(got, "2") {
			t.Errorf("redis-cli by name: %q", got)
		}
		k.end()
		reached := s.world.since(mark, "accepted ")
		if len(reached) != 2 {
			t.Errorf("%q were reached", reached)
		}
	}, "postgres", "redis")
}

// TestRealStreams holds a WebSocket open, and a call of HTTP/2 in both directions that ends with trailers, as those of gRPC do.
func TestRealStreams(t *testing.T) {
	needs(t, "node")
	servedOnce(t, func(t *testing.T, s *site) {
		s.put("socket.js", `
const s = new WebSocket("wss://live.example/socket");
let n = 0;
s.onopen = () => s.send("0");
s.onmessage = e => { if (++n < 100) s.send("" + n); else { console.log(n, "messages, the last:", e.data); s.close(); } };
s.onerror = e => { console.log("failed", e.message); process.exitCode = 1; };
`, 0o644)
		s.put("stream.js", `
const c = require("http2").connect("https://live.example");
c.on("error", e => { console.log("failed", e.message); process.exit(1); });
const r = c.request({":method": "POST", ":path": "/stream", "content-type": "application/grpc", "te": "trailers"});
let n = 0;
r.setEncoding("utf8");
r.on("response", () => r.write("0\n"));
r.on("data", d => { if (++n < 100) r.write(n + "\n"); else { console.log(d.trim()); r.end(); } });
r.on("trailers", h => { console.log("status", h["grpc-status"]); c.close(); });
`, 0o644)
		s.Accept()
		tell := []string{"--env", "NODE_EXTRA_CA_CERTS=" + bundle}
		rule := []string{"--allow", "live.example"}
		if s.outside("node --experimental-websocket -e 'process.exit(typeof WebSocket == \"function\" ? 0 : 1)'").exit == 0 {
			s.does(job{tell: tell, rule: rule, line: "node --experimental-websocket socket.js", want: "100 messages, the last: echo 99", name: "live.example", ports: "443"})
		}
		s.does(job{tell: tell, rule: rule, line: "node stream.js", want: "HTTP/2.0 echo 99\nstatus 0", name: "live.example", ports: "443"})
	})
}

// TestRealJava: a runtime with authorities, resolver and HTTP of its own.
func TestRealJava(t *testing.T) {
	for _, program := range []string{"java", "javac", "keytool"} {
		needs(t, program)
	}
	servedOnce(t, func(t *testing.T, s *site) {
		s.put("ca.txt", string(s.world.certificate(t)), 0o644)
		s.put("Get.java", `
import java.net.URI;
import java.net.http.*;
public class Get {
  public static void main(String[] a) throws Exception {
    System.out.println(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(a[0])).build(), HttpResponse.BodyHandlers.ofString()).body());
  }
}
`, 0o644)
		if out := s.outside("javac Get.java && keytool -importcert -noprompt -trustcacerts -alias test -file ca.txt -keystore trusted -storepass changeit 2>&1"); out.exit != 0 {
			t.Fatal(out)
		}
		s.Accept()
		s.does(job{
			rule: []string{"--allow", "pypi.example"},
			line: "java -XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore=trusted -Djavax.net.ssl.trustStorePassword=changeit -cp . Get https://pypi.example/simple/greet/",
			want: "greet-1.0.0-py3-none-any.whl", name: "pypi.example", ports: "443",
		})
	})
}
