package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// long is how long a test waits for what happens within a second on a machine that does nothing else.
const long = 20 * time.Second

// closed is what curl says of a port on which nobody listens.
const closed = "curl: (7)"

// inward makes the worlds in which ports inside are reached from outside.
func inward(t *testing.T, do func(t *testing.T, s *site)) {
	t.Helper()
	namespaced(t, func(t *testing.T, s *site) { inwardAt(t, s, do) })
}

// inwardBest does so for what does not depend on the mode.
func inwardBest(t *testing.T, do func(t *testing.T, s *site)) {
	t.Helper()
	inwardAt(t, newSite(t, best()), do)
}

func inwardAt(t *testing.T, s *site, do func(t *testing.T, s *site)) {
	t.Helper()
	needs(t, "python3")
	needs(t, "curl")
	s.newWorld()
	s.Accept()
	do(t, s)
}

// servingWord is a line of shell that serves a word over HTTP, and one that ends it.
func servingWord(word string, port int, bind string) (begin, end string) {
	dir := fmt.Sprintf("/tmp/%s-%d", word, port)
	return fmt.Sprintf("mkdir -p %[1]s; echo %[2]s >%[1]s/word; python3 -m http.server -d %[1]s --bind %[3]s %[4]d >/dev/null 2>&1 & echo $! >%[1]s/pid", dir, word, bind, port),
		fmt.Sprintf("kill $(cat %s/pid)", dir)
}

func get(host string, port int) string {
	return fmt.Sprintf("curl -sS --noproxy '*' --max-time 5 http://%s:%d/word 2>&1", host, port)
}

// answers asks until the word comes.
func answers(t *testing.T, what, want string, ask func() string) {
	t.Helper()
	last := ""
	eventually(t, long, what, func() bool { last = strings.TrimSpace(ask()); return last == want })
	if last != want {
		t.Logf("%s: the last answer was %q", what, last)
	}
}

// offered are the ports that casemate ps lists for all sandboxes, as HOST:INSIDE.
func (s *site) offered() (list []string) {
	s.t.Helper()
	out := s.do("ps", "--json")
	var rows []struct{ Ports []string }
	if err := json.Unmarshal([]byte(out.stdout), &rows); err != nil {
		s.t.Fatalf("ps --json: %v %v", err, out)
	}
	for _, r := range rows {
		list = append(list, r.Ports...)
	}
	slices.Sort(list)
	return list
}

// TestPublishAuto: what a program inside begins to listen on is offered on the host's loopback, for as long as it listens, and nothing else is.
func TestPublishAuto(t *testing.T) {
	inward(t, func(t *testing.T, s *site) {
		outside := func(port int) func() string {
			return func() string { return s.outside(get("127.0.0.1", port)).stdout }
		}
		taken := s.outsideStart("python3 -m http.server --bind 127.0.0.1 5000")
		defer taken()
		eventually(t, long, "the host serves", func() bool { return !strings.Contains(outside(5000)(), closed) })
		without := s.talk("--publish", "9999")
		begin, _ := servingWord("hidden", 4000, "0.0.0.0")
		without.ask(begin)
		answers(t, "the one without it serves inside", "hidden", func() string { return without.ask(get("127.0.0.1", 4000)) })

		has(t, "the plan", s.do("plan", "--publish", "auto", "--", "true").stdout, "offer each port that opens inside on the host's loopback")
		k := s.talk("--publish", "auto", "--host-port", "5432", "--publish", "7001:7000")
		begin3000, end3000 := servingWord("first", 3000, "127.0.0.1")
		k.ask(begin3000)
		answers(t, "a port that opened", "first", outside(3000))
		answers(t, "the same over IPv6", "first", func() string { return s.outside(get("[::1]", 3000)).stdout })
		for _, c := range []struct {
			port int
			bind string
		}{{5000, "0.0.0.0"}, {3002, "::1"}, {3003, "::"}} {
			begin, _ := servingWord("second", c.port, c.bind)
			k.ask(begin)
		}
		answers(t, "where the host has the port itself", "second", outside(5001))
		answers(t, "one of ::1", "second", outside(3002))
		answers(t, "one of ::", "second", outside(3003))
		if want, got := []string{"3000:3000", "3002:3002", "3003:3003", "5001:5000", "7001:7000", "9999:9999"}, s.offered(); !slices.Equal(got, want) {
			t.Errorf("offered are %q, want %q", got, want)
		}
		has(t, "casemate ps", s.do("ps").stdout, "http://127.0.0.1:5001 is its port 5000")
		hasNot(t, "by the host's other address", s.outside(get("192.0.2.1", 3000)).stdout, "first")
		hasNot(t, "the sandbox without it", outside(4000)(), "hidden")
		k.ask(end3000)
		eventually(t, long, "it is taken back", func() bool { return strings.Contains(outside(3000)(), closed) })
		eventually(t, long, "it is listed no more", func() bool { return !slices.Contains(s.offered(), "3000:3000") })
		k.ask(begin3000)
		answers(t, "it is there again", "first", outside(3000))
		words := k.end()
		hasNot(t, "what it says without a terminal", words, "http://127.0.0.1")
		has(t, "after the run", outside(3000)(), closed)
		events := s.events(t)
		has(t, "events", events, `"kind":"offered","subject":"port:5000","detail":"http://127.0.0.1:5001 is the sandbox's port 5000"`)
		has(t, "events", events, `"kind":"taken-in","subject":"port:3000"`)
		without.end()
	})
}

// TestPublishAutoFlood: a program that listens on very many ports gets 64 of them offered, and nobody is the worse for it.
func TestPublishAutoFlood(t *testing.T) {
	inwardBest(t, func(t *testing.T, s *site) {
		s.put("flood.py", `
import socket, time
held = []
for port in range(20000, 20800):
    l = socket.socket(); l.bind(("127.0.0.1", port)); l.listen(1); held.append(l)
low = socket.socket(); low.bind(("127.0.0.1", 2000)); low.listen(5)
print("listening", flush=True)
time.sleep(600)
`, 0o644)
		k := s.talk("--publish", "auto")
		k.ask("ulimit -n 4096; python3 flood.py >flood.txt 2>&1 & echo $! >pid")
		eventually(t, long, "they listen", func() bool { return strings.Contains(k.ask("cat flood.txt"), "listening") })
		eventually(t, long, "as many as can be are offered", func() bool { return len(s.offered()) >= 64 })
		if n := len(s.offered()); n != 64 {
			t.Errorf("%d ports are offered", n)
		}
		for _, p := range s.offered() {
			host, _, _ := strings.Cut(p, ":")
			if n, err := strconv.Atoi(host); err != nil || n < 1024 {
				t.Errorf("%q is offered", p)
			}
		}
		has(t, "the sandbox goes on", k.ask("echo on"), "on")
		k.ask("kill $(cat pid)")
		eventually(t, long, "all are taken back", func() bool { return len(s.offered()) == 0 })
		begin, _ := servingWord("after", 3000, "127.0.0.1")
		k.ask(begin)
		answers(t, "and others have room", "after", func() string { return s.outside(get("127.0.0.1", 3000)).stdout })
		k.end()
		has(t, "events", s.events(t), `"kind":"limited","subject":"network.publish"`)
	})
}

// TestPublishAutoIsSaid: on a terminal a person reads once where a port is, and never in the middle of a program that draws on the whole screen.
func TestPublishAutoIsSaid(t *testing.T) {
	inwardBest(t, func(t *testing.T, s *site) {
		const said = "casemate: http://127.0.0.1:3000 is the sandbox's port 3000\r\n"
		begin, _ := servingWord("said", 3000, "127.0.0.1")
		p := sitDown(t)
		cmd := s.command("run", "--publish", "auto", "--", "sh", "-c",
			begin+`; printf "\033[?1049h"; read -r go; printf "\033[?1049l"; echo left; read -r end; echo ended`)
		p.start(cmd)
		eventually(t, long, "it is offered", func() bool { return slices.Equal(s.offered(), []string{"3000:3000"}) })
		p.send("go\r")
		hasNot(t, "while the screen is a program's", p.sees("left"), "http://")
		has(t, "once it is not", p.sees(said), said)
		p.send("end\r")
		hasNot(t, "and not again", p.sees("ended"), "http://")
		p.ends(cmd)
	})
}
