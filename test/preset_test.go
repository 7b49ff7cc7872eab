package test

import (
	"os"
	"path/filepath"
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

// TestPresetDocs runs what the how-to shows.
func TestPresetDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/how-to/install-packages.md")
	if err != nil {
		t.Fatal(err)
	}
	runExamples(t, examples(string(text)), "mkdir project && cd project && git init -q\necho registry=https://mirror.example/npm/ >~/.npmrc\nmkdir -p ~/.npm/_cacache/content-v2\n", nil)
}
