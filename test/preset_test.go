package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPresetReachesMirrors: a registry of the person's own is reached by a preset, also in a private network, and nothing that it leads to beside that.
func TestPresetReachesMirrors(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		npmrc := filepath.Join(s.Home, ".npmrc")
		registry := func(url string) {
			t.Helper()
			if err := os.WriteFile(npmrc, []byte("//x/:_authToken=TOKEN\nregistry="+url+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		const fetch = `echo "$npm_config_registry"; python3 reach.py $(echo "$npm_config_registry" | cut -d/ -f3) 80 http`

		registry("http://user:TOKEN@private.allowed.example/npm/")
		k := s.talk("--preset", "npm")
		if got := k.ask(fetch); got != "http://private.allowed.example/npm/\nGET private.allowed.example /page 0" {
			t.Errorf("a mirror of the own network: got %q", got)
		}
		for _, other := range []string{"denied.example 80 http", "allowed.example 80 http", privateHost + " 80 http", "private.allowed.example 443 connect"} {
			has(t, other, k.ask("python3 reach.py "+other), ": ")
		}
		k.end()

		// The same host by --allow is refused, as what it resolves to is private: the preset's word is the person's own configuration.
		k = s.talk("--allow", "private.allowed.example:80")
		has(t, "control, without the preset", k.ask("python3 reach.py private.allowed.example 80 connect"), ": ")
		k.end()

		// No configuration leads to a metadata service or to this machine.
		for _, name := range []string{"metadata", "loop"} {
			registry("http://" + name + ".allowed.example/")
			k = s.talk("--preset", "npm")
			has(t, name, k.ask(fetch), ": ")
			k.end()
		}
		for _, host := range []string{deniedHost, allowedHost, metadataHost, "127.0.0.1", "[::1]"} {
			if s.world.saw("accepted " + host + ":80") {
				t.Errorf("%s was reached", host)
			}
		}
		if !s.world.saw("accepted " + privateHost + ":80") {
			t.Error("the mirror was not reached")
		}
	})
}

// TestPresetDocs runs what the how-to shows, with a registry that its reader might have.
func TestPresetDocs(t *testing.T) {
	needs(t, "npm")
	text, err := os.ReadFile("../docs/how-to/install-packages.md")
	if err != nil {
		t.Fatal(err)
	}
	w := realServers(t, "verdaccio")
	runExamples(t, examples(string(text)), `mkdir project && cd project && git init -q
echo registry=https://mirror.example/npm/ >~/.npmrc
mkdir -p ~/.npm/_cacache/content-v2 ~/.config/casemate
echo 'env: {set: {npm_config_fund: "false"}}' >~/.config/casemate/policy.yaml
`, w)
}

// TestPresetOffer: where a run failed without a preset, a person is asked whether it is to run again with it; nobody else is.
func TestPresetOffer(t *testing.T) {
	needs(t, "python3")
	s := newSite(t, best())
	s.newWorld()
	s.put("reach.py", reach, 0o644)
	if err := os.WriteFile(filepath.Join(s.Home, ".npmrc"), []byte("registry=http://private.allowed.example/npm/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.put("npm", "#!/bin/sh\necho tried >>tries\nexec python3 reach.py private.allowed.example 80 http\n", 0o755)
	s.put("package-lock.json", "{}\n", 0o644)
	s.Accept()
	const question, reached = "Allow installs from npm, read-only, and run it again? [y/N/always] ", "GET private.allowed.example /page 0"
	run := func(talk func(p *person), args ...string) (status int) {
		t.Helper()
		p := sitDown(t)
		cmd := s.command(append([]string{"run"}, args...)...)
		p.start(cmd)
		p.sees(question)
		talk(p)
		return p.ends(cmd)
	}
	status := run(func(p *person) {
		p.types("what\r", "run the same command again with --preset npm")
		p.sees(question)
		p.types("y\r", reached)
		p.sees("casemate: held: 1 file changed (+2 -0)") // of both
		p.sees("[d]iscard: ")
		p.types("d\r", "[y/N] ")
		p.types("y\r", "discarded")
	}, "--", "./npm", "ci")
	if status != 0 {
		t.Errorf("run again: status %d", status)
	}
	status = run(func(p *person) {
		hasNot(t, "after Enter", p.types("\r", "[d]iscard: "), reached)
		p.types("\r", "kept")
	}, "--allow", "x.example", "--", "sh", "-c", "./npm test; exit 7")
	if status != 7 {
		t.Errorf("not run again: status %d", status)
	}
	for _, args := range [][]string{{"--", "./npm", "ci"}, {"--quiet", "--", "./npm", "ci"}, {"--json", "--", "./npm", "ci"}} {
		if out := s.run(args...); out.exit != 1 || strings.Contains(out.stdout+out.stderr, "[y/N") {
			t.Errorf("without a terminal: %v", out)
		}
	}
	run(func(p *person) {
		p.types("always\r", "wrote preset npm to ")
		p.sees(reached)
		p.sees("[d]iscard: ")
		p.types("k\r", "kept")
	}, "--", "./npm", "ci")
	if text, err := os.ReadFile(filepath.Join(s.Home, ".config", "casemate", "policy.yaml")); err != nil || !strings.Contains(string(text), "presets: [npm]") {
		t.Errorf("the policy is %q, %v", text, err)
	}
	if out := s.run("--", "./npm", "ci"); out.exit != 0 || strings.TrimSpace(out.stdout) != reached {
		t.Errorf("the next run: %v", out)
	}
}
