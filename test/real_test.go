package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// realWorld is the world with the real servers. They take seconds to start, so all tests of a suite share it.
var realWorld struct {
	world *world
	end   func()
}

func endServers() {
	if realWorld.end != nil {
		realWorld.end()
	}
}

// served makes the worlds in which a gate can be had, with real servers in reach of it.
func served(t *testing.T, do func(t *testing.T, s *site), servers ...string) {
	t.Helper()
	w := realServers(t, servers...)
	namespaced(t, func(t *testing.T, s *site) {
		s.world = w
		do(t, s)
	})
}

// servedOnce makes only the one that a person gets who says nothing: for clients that take seconds, and to whom the mode makes no difference.
func servedOnce(t *testing.T, do func(t *testing.T, s *site), servers ...string) {
	t.Helper()
	w := realServers(t, servers...)
	s := newSite(t, best())
	s.world = w
	do(t, s)
}

// realServers is the world with the real servers, when those that are named serve.
func realServers(t *testing.T, servers ...string) *world {
	t.Helper()
	for name, there := range map[string]bool{"verdaccio": verdaccioMain() != "", "postgres": postgresBin() != "", "sshd": sshd() != ""} {
		switch {
		case there || !slices.Contains(servers, name):
		case name == "verdaccio":
			t.Skip("verdaccio is not installed: test/setup.sh does it where npm and a registry are there")
		default:
			t.Fatalf("%s is not installed: test/setup.sh does it", name)
		}
	}
	if realWorld.world == nil {
		realWorld.world, realWorld.end = startWorld(t, serversVariable+"=1")
	}
	select {
	case <-realWorld.world.over:
		t.Fatal("the world with the real servers ended: " + realWorld.world.state)
	default:
	}
	for _, name := range servers {
		eventually(t, 2*time.Minute, name+" serves", func() bool {
			if ended := realWorld.world.told("ended " + name); len(ended) > 0 {
				words, _ := os.ReadFile(filepath.Join(realWorld.world.dir, name+".log"))
				t.Fatalf("%v: %s", ended, words)
			}
			return realWorld.world.saw("serving " + name)
		})
	}
	return realWorld.world
}

// mark is how much was told so far; since returns what was told after it and begins so, without the beginning, each once.
func (w *world) mark() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all())
}

func (w *world) since(mark int, begin string) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.all()[mark:] {
		if rest, ok := strings.CutPrefix(l, begin); ok && !slices.Contains(list, rest) {
			list = append(list, rest)
		}
	}
	return list
}

// job is what a real client does inside, and what it needs for it.
type job struct {
	tell  []string // flags that open nothing
	rule  []string // flags that open what the job needs
	line  string   // of shell
	want  string   // what it prints when it could
	name  string   // of the host that it talks to, and its ports
	ports string
}

// does lets the client do its job with the rule, and shows that without the rule it cannot, that nothing is looked up or reached then, and that with it nothing
// else is.
func (s *site) does(j job) {
	s.t.Helper()
	host := realHosts[j.name]
	mark := s.world.mark()
	out := s.run(slices.Concat(j.tell, []string{"--allow", "elsewhere.example", "--", "sh", "-c", j.line})...)
	if out.exit == 0 || strings.Contains(out.stdout, j.want) {
		s.t.Errorf("without the rule: %v", out)
	}
	if reached, asked := s.world.since(mark, "accepted "), s.world.since(mark, "query "); len(reached)+len(asked) > 0 {
		s.t.Errorf("without the rule %q were reached, and %q looked up", reached, asked)
	}
	if list := denials(s.t, out.stderr); list[j.name+":0"] == 0 {
		s.t.Errorf("without the rule the denial of %s is not told: %v", j.name, out)
	}
	mark = s.world.mark()
	out = s.run(slices.Concat(j.tell, j.rule, []string{"--", "sh", "-c", j.line})...)
	if out.exit != 0 || !strings.Contains(out.stdout, j.want) {
		s.t.Errorf("with the rule: %v", out)
	}
	if len(denials(s.t, out.stderr)) > 0 {
		s.t.Errorf("the rule is not enough: %v", out)
	}
	reached := s.world.since(mark, "accepted ")
	for _, a := range reached {
		if addr, port, _ := strings.Cut(a, ":"); addr != host || !slices.Contains(strings.Fields(j.ports), port) {
			s.t.Errorf("%s was reached", a)
		}
	}
	if len(reached) == 0 {
		s.t.Errorf("%s was not reached", j.name)
	}
	for _, name := range s.world.since(mark, "query ") {
		if name != j.name {
			s.t.Errorf("%s was looked up", name)
		}
	}
}

// The places of programs that no PATH has.

func verdaccioMain() string { return fromNpm("verdaccio/node_modules/verdaccio/bin/verdaccio") }

// fromNpm is where a program is that test/setup.sh has installed; empty: it has not.
func fromNpm(program string) string {
	cache, _ := os.UserCacheDir()
	for _, dir := range []string{"/var/cache", cache} {
		if path := filepath.Join(dir, "casemate-test", program); isThere(path) {
			return path
		}
	}
	return ""
}

func postgresBin() string {
	if found := glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	return ""
}

func sshd() string {
	for _, path := range []string{"/usr/sbin/sshd", "/usr/bin/sshd"} {
		if isThere(path) {
			return path
		}
	}
	return ""
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
