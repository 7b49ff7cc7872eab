package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// long is how long a test waits for what happens within a second on a machine that does nothing else.
const long = patience

// closed is what curl says of a port on which nobody listens.
const closed = "curl: (7)"

// inward makes a world in which ports inside are reached from outside. As root it takes a project of an ordinary user: the modes differ in nothing here.
func inward(t *testing.T, do func(t *testing.T, s *site)) {
	t.Helper()
	s := inwardSite(t)
	s.newWorld()
	do(t, s)
}

func inwardSite(t *testing.T) *site {
	t.Helper()
	needs(t, "python3")
	needs(t, "curl")
	m := best()
	if os.Getuid() == 0 {
		m = modes()[1]
	}
	s := newSite(t, m)
	s.Accept()
	return s
}

// servingWord is a line of shell that serves a word over HTTP, and one that ends it.
func servingWord(word string, port int, bind string) (begin, end string) {
	dir := fmt.Sprintf("/tmp/%s-%d-%d", word, port, os.Getpid()) // where it serves on the host, others run the same
	return fmt.Sprintf("mkdir -p %[1]s; echo %[2]s >%[1]s/word; python3 -m http.server -d %[1]s --bind %[3]s %[4]d >/dev/null 2>&1 & echo $! >%[1]s/pid", dir, word, bind, port),
		fmt.Sprintf("kill $(cat %[1]s/pid); rm -r %[1]s", dir)
}

func get(host string, port int) string {
	return fmt.Sprintf("curl -sS --noproxy '*' --max-time 30 http://%s:%d/word 2>&1", host, port)
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
		want := []string{"3000:3000", "3002:3002", "3003:3003", "5001:5000", "7001:7000", "9999:9999"}
		eventually(t, long, fmt.Sprintf("casemate ps lists %q", want), func() bool { return slices.Equal(s.offered(), want) })
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
	inward(t, func(t *testing.T, s *site) {
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
	inward(t, func(t *testing.T, s *site) {
		const said = "casemate: http://127.0.0.1:3000 is the sandbox's port 3000\r\n"
		begin, _ := servingWord("said", 3000, "127.0.0.1")
		p := sitDown(t)
		cmd := s.command("run", "--publish", "auto", "--", "sh", "-c",
			`printf "\033[?1049h"; `+begin+`; read -r go; printf "\033[?1049l"; echo left; read -r end; echo ended`)
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

// ids are the sandboxes that run, by name.
func (s *site) ids() map[string]string {
	s.t.Helper()
	out := s.do("ps", "--json")
	var rows []struct{ ID, Name string }
	if err := json.Unmarshal([]byte(out.stdout), &rows); err != nil {
		s.t.Fatalf("ps --json: %v %v", err, out)
	}
	list := map[string]string{}
	for _, r := range rows {
		list[r.Name] = r.ID
	}
	return list
}

// refusedAtOnce asks for what must not be had, and for the refusal to be quick.
func refusedAtOnce(t *testing.T, what string, k *talk, host string, port int) {
	t.Helper()
	start := time.Now()
	got := k.ask(get(host, port))
	if !strings.HasPrefix(got, "curl: (") || strings.Contains(got, "timed out") {
		t.Errorf("%s: %q after %v", what, got, time.Since(start))
	}
}

// TestInternal: sandboxes that say so reach each other by name, and nobody else does; through one of them nothing else is reached.
func TestInternal(t *testing.T) {
	inward(t, func(t *testing.T, s *site) {
		begin, end := servingWord("of-the-host", 5432, "127.0.0.1")
		host := s.outsideCommand(begin + "; wait")
		if err := host.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { s.outside(end); host.Wait() }()

		api := s.talk("--name", "api", "--internal", "mocks", "--allow", "allowed.example:80", "--host-port", "5432", "--publish", "8082:8080")
		web := s.talk("--name", "web", "--internal", "others", "--internal", "mocks")
		for _, c := range []struct {
			k    *talk
			word string
			port int
			bind string
		}{{api, "four", 8080, "127.0.0.1"}, {api, "six", 8081, "::1"}, {web, "back", 8080, "0.0.0.0"}} {
			begin, _ := servingWord(c.word, c.port, c.bind)
			c.k.ask(begin)
		}
		answers(t, "from one to the other", "four", func() string { return web.ask(get("api", 8080)) })
		answers(t, "one of IPv6 only", "six", func() string { return web.ask(get("api", 8081)) })
		answers(t, "and back", "back", func() string { return api.ask(get("web", 8080)) })
		answers(t, "itself by its name", "four", func() string { return api.ask(get("api", 8080)) })
		refusedAtOnce(t, "a port on which nobody listens", web, "api", 8089)
		refusedAtOnce(t, "a name that nobody has", web, "nobody", 8080)

		answers(t, "control: the member reaches the host's port", "of-the-host", func() string { return api.ask(get("127.0.0.1", 5432)) })
		answers(t, "control: the member reaches out", "GET allowed.example /word 0", func() string { return api.ask(get("allowed.example", 80)) })
		refusedAtOnce(t, "the host's port through it", web, "api", 5432)
		refusedAtOnce(t, "its gate", web, "api", 61111)
		refusedAtOnce(t, "what it may reach", web, "allowed.example", 80)

		for what, flags := range map[string][]string{"one without the network": {"--allow", "allowed.example:80"}, "one on another network": {"--internal", "other"}} {
			k := s.talk(flags...)
			refusedAtOnce(t, what, k, "api", 8080)
			refusedAtOnce(t, what, k, "web", 8080)
			begin, _ := servingWord("apart", 8080, "127.0.0.1")
			k.ask(begin)
			answers(t, "it serves", "apart", func() string { return k.ask(get("127.0.0.1", 8080)) })
			refusedAtOnce(t, "to "+what, web, s.running(t), 8080)
			k.end()
		}
		if out := s.do("run", "--name", "api", "--", "true"); out.exit != 125 || !strings.Contains(out.stderr, "a sandbox named api runs already") {
			t.Errorf("a second one of the name: %v", out)
		}
		if out := s.do("run", "--name", "Api.", "--", "true"); out.exit != 125 {
			t.Errorf("a name that is none: %v", out)
		}
		s.put("casemate.yaml", "network: {internal: [mocks]}\n", 0o644)
		out := s.run("--", "sh", "-c", get("api", 8080))
		has(t, "the project's file before it is trusted", out.stdout, "curl: (6)")
		s.put("casemate.yaml", "network: {deny: [api]}\n", 0o644)
		k := s.talk("--internal", "mocks")
		refusedAtOnce(t, "a name that a rule denies", k, "api", 8080)
		answers(t, "control: another name", "back", func() string { return k.ask(get("web", 8080)) })
		k.end()

		ids := s.ids()
		eventually(t, long, "the one that connected has it on record", func() bool {
			out := s.do("net", "web").stdout
			return strings.Contains(out, "closed api:8080") && strings.Contains(out, "network.internal mocks (command line --internal)")
		})
		has(t, "the other one has it too", s.do("net", ids["api"]).stdout, "closed from web to :8080")
		has(t, "casemate ps", s.do("ps").stdout, "http://api:PORT on the internal network mocks")
		has(t, "the plan", s.do("plan", "--internal", "mocks", "--", "true").stdout, "reach the sandboxes on the internal network mocks, and be reached by them")
		api.end()
		web.end()
	})
}

// TestInternalEnds: when a member is gone, however it went, whoever was connected with it hears so, and its name is free.
func TestInternalEnds(t *testing.T) {
	inward(t, func(t *testing.T, s *site) {
		s.put("wait.py", `import socket, time
l = socket.create_server(("127.0.0.1", 7000))
print("listening", flush=True)
c = l.accept()[0]
c.send(b"x")
time.sleep(600)
`, 0o644)
		s.put("hold.py", `import socket
s = socket.create_connection(("api", 7000))
print("got", len(s.recv(1)), flush=True)
try:
    print("then", s.recv(1), flush=True)
except OSError as e:
    print("then", e, flush=True)
`, 0o644)
		web := s.talk("--name", "web", "--internal", "mocks")
		for _, how := range []string{"killed", "ended"} {
			api := s.talk("--name", "api", "--internal", "mocks")
			api.ask("python3 wait.py >/tmp/wait 2>&1 &")
			eventually(t, long, "it listens", func() bool { return strings.Contains(api.ask("cat /tmp/wait"), "listening") })
			web.ask("python3 hold.py >/tmp/" + how + " 2>&1 &")
			eventually(t, long, "they are connected", func() bool { return strings.Contains(web.ask("cat /tmp/"+how), "got 1") })
			if how == "killed" {
				if err := api.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				<-api.ended
			} else {
				api.end()
			}
			eventually(t, long, how+": the other hears of it", func() bool { return strings.Contains(web.ask("cat /tmp/"+how), "then") })
			refusedAtOnce(t, how+": its name", web, "api", 7000)
		}
		api := s.talk("--name", "api", "--internal", "mocks")
		begin, _ := servingWord("again", 8080, "127.0.0.1")
		api.ask(begin)
		answers(t, "another one of the name", "again", func() string { return web.ask(get("api", 8080)) })
		if left := glob(s.State + "/casemate/networks/*/*"); len(left) != 2 {
			t.Errorf("sockets: %q", left)
		}
		nameless := s.talk("--internal", "mocks")
		nameless.cmd.Process.Kill()
		<-nameless.ended
		s.talk("--internal", "mocks").end()
		if left := glob(s.State + "/casemate/networks/*/*"); len(left) != 2 {
			t.Errorf("sockets after a member was killed, and another one came: %q", left)
		}
		api.end()
		web.end()
		if left := append(glob(s.State+"/casemate/networks/*/*"), glob(s.State+"/casemate/names/*")...); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// TestInternalUsers: where root runs sandboxes of several users, a network of the same name is another one for each.
func TestInternalUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it takes root to run sandboxes of two users")
	}
	needs(t, "python3")
	needs(t, "curl")
	s, other := newSite(t, modes()[0]), newSite(t, modes()[1])
	other.State = s.State
	api := s.talk("--name", "api", "--internal", "mocks")
	begin, _ := servingWord("mine", 8080, "127.0.0.1")
	api.ask(begin)
	same, stranger := s.talk("--internal", "mocks"), other.talk("--internal", "mocks")
	answers(t, "control: one of the same user", "mine", func() string { return same.ask(get("api", 8080)) })
	refusedAtOnce(t, "one of another user", stranger, "api", 8080)
	for _, k := range []*talk{api, same, stranger} {
		k.end()
	}
}

// TestInternalFlood: while a member connects as fast as it can, others reach the same one as ever, and so does it afterwards.
func TestInternalFlood(t *testing.T) {
	inward(t, func(t *testing.T, s *site) {
		s.put("flood.py", `import socket, time
end = time.time() + 2
made = refused = 0
while time.time() < end:
    try:
        s = socket.create_connection(("api", 8080), 5)
        s.send(b"x")
        refused += s.recv(1) == b""
        made += 1
    except OSError:
        refused += 1
print("made", made, "refused", refused)
`, 0o644)
		s.put("busy.py", `import socket
l = socket.create_server(("127.0.0.1", 8080), backlog=100)
while True:
    c = l.accept()[0]; c.recv(1); c.send(b"y"); c.close()
`, 0o644)
		api, web := s.talk("--name", "api", "--internal", "mocks"), s.talk("--internal", "mocks")
		begin, _ := servingWord("calm", 8081, "127.0.0.1")
		api.ask(begin)
		api.ask("python3 busy.py >/dev/null 2>&1 &")
		third := s.talk("--internal", "mocks")
		answers(t, "before", "calm", func() string { return third.ask(get("api", 8081)) })
		for i := range 4 {
			web.ask(fmt.Sprintf("python3 flood.py >/tmp/flood%d 2>&1 &", i))
		}
		for range 5 {
			answers(t, "another one meanwhile", "calm", func() string { return third.ask(get("api", 8081)) })
		}
		eventually(t, long, "the flood ends", func() bool { return strings.Count(web.ask("cat /tmp/flood*"), "made") == 4 })
		answers(t, "after", "calm", func() string { return web.ask(get("api", 8081)) })
		t.Log(web.ask("cat /tmp/flood*"))
		for _, k := range []*talk{api, web, third} {
			k.end()
		}
	})
}

// TestInternalHostileGate: a gate that was taken over gets connections to members' own ports and nothing else, and puts no words into others' records.
func TestInternalHostileGate(t *testing.T) {
	s := inwardSite(t)
	api := s.talk("--name", "api", "--internal", "mocks", "--host-port", "5432")
	begin, _ := servingWord("word", 8080, "127.0.0.1")
	api.ask(begin)
	answers(t, "it serves", "word", func() string { return api.ask(get("127.0.0.1", 8080)) })
	cmd := s.withGate(`#!/usr/bin/python3
import json, os, socket
s = socket.socket(fileno=3)
s.sendall(b'{"ready":true}')
socket.recv_fds(s, 1 << 17, 16)
odd = good = 0
n = 0
for member in ("api", "../mocks/api", "api.sock", "./api", "", "API", "..", "a" * 500):
    for port in (8080, 61111, 5432, 0, -1, 70000):
        n += 1
        s.sendall(json.dumps({"call": {"id": n, "member": member, "port": port}}).encode())
        while True:
            data, fds, _, _ = socket.recv_fds(s, 1 << 17, 16)
            if not data: os._exit(0)
            met = json.loads(data).get("met")
            if met: break
        for fd in fds:
            c = socket.socket(fileno=fd)
            if (member, port) == ("api", 8080) and c.getpeername() == ("127.0.0.1", 8080): good += 1
            else: odd += 1
        if bool(fds) == bool(met.get("why")): odd += 1
say = lambda **r: s.sendall(json.dumps(dict(r, id=1, time="2026-01-01T00:00:00Z", verdict="denied")).encode())
say(name="false.example", peer="aaaaaaaa")
say(name="odd%d-%d.example" % (odd, good), why="the end")
while s.recv(1 << 17): pass
`, "--internal", "mocks", "--", "sh", "-c", "cat; echo the command went on")
	end, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	record := func() string {
		b, _ := os.ReadFile(filepath.Join(s.State, "casemate/connections.jsonl"))
		return string(b)
	}
	go func() {
		defer end.Close()
		eventually(t, time.Minute, "its last word", func() bool { return strings.Contains(record(), "the end") })
	}()
	out := s.finish(cmd)
	has(t, "the run", out.String(), "the command went on")
	has(t, "what it got", record(), `"odd0-1.example"`)
	hasNot(t, "the record of another sandbox", record(), `"sandbox":"aaaaaaaa"`)
	answers(t, "the member goes on", "word", func() string { return api.ask(get("127.0.0.1", 8080)) })
	api.end()
}
