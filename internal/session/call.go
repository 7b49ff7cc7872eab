package session

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/relay"
	"golang.org/x/sys/unix"
)

// call is a connection to another sandbox that the gate waits for.
type call struct {
	m     *members
	id    uint64
	door  *door
	fd    int
	watch *relay.Watch
	late  *relay.Timer
}

// serveGate does what the gate asks for between its records.
func (s *supervision) serveGate(r wire.Request) {
	switch {
	case r.Call != nil && s.members != nil:
		s.members.call(*r.Call)
	case r.Call != nil:
		s.gate.pass(wire.Message{Met: &wire.Met{Call: r.Call.ID, Why: "the sandbox is on no private network"}}, nil)
	default:
		s.askSocket(r.Socket)
	}
}

// haste bounds how many calls there are in a second.
type haste struct {
	second time.Time
	calls  int
}

func (h *haste) allows(now time.Time) bool {
	if now.Sub(h.second) >= time.Second {
		h.second, h.calls = now, 0
	}
	h.calls++
	return h.calls <= perSecond
}

// call goes to the first network on which the other sandbox is, now.
func (m *members) call(r wire.Call) {
	refuse := func(why string) { m.s.gate.pass(wire.Message{Met: &wire.Met{Call: r.ID, Why: why}}, nil) }
	if !m.haste.allows(time.Now()) || len(m.calls) == maxCalls {
		refuse("too many connections to other sandboxes at once")
		return
	}
	if !wire.IsMember(r.Member) {
		refuse("that is no sandbox's name")
		return
	}
	text, err := json.Marshal(wanted{Sandbox: m.s.run.Box.Record.ID, Name: m.s.run.name(), UID: m.s.run.Plan.User.UID, Port: r.Port})
	if err != nil {
		refuse(err.Error())
		return
	}
	for _, d := range m.doors {
		fd, err := d.knock(r.Member)
		if err == nil {
			if err = unix.Sendto(fd, text, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil); err != nil {
				unix.Close(fd)
			}
		}
		switch err {
		case nil:
			m.wait(r.ID, d, fd)
			return
		case unix.EAGAIN:
			refuse(r.Member + " has too many connections to serve")
			return
		}
	}
	refuse("no sandbox named " + r.Member + " runs")
}

// knock connects to another member's door. Nobody but its own supervisor listens there: the directory is ours alone.
func (d *door) knock(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Connect(fd, d.at(name+".sock")); err == nil && !ours(fd) {
		err = unix.EPERM
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (m *members) wait(id uint64, d *door, fd int) {
	c := &call{m: m, id: id, door: d, fd: fd}
	m.calls = append(m.calls, c)
	c.watch = m.s.loop.Watch(fd, unix.POLLIN, func(int16) { c.hear() })
	c.late = m.s.loop.At(time.Now().Add(near+time.Second), func(time.Time) time.Time {
		c.tell(given{Why: "the sandbox did not answer"}, nil)
		return time.Time{}
	})
}

// hear takes the answer and passes it on to the gate.
func (c *call) hear() {
	var buf [maxWords]byte
	n, fds, err := receive(c.fd, buf[:])
	if err == unix.EAGAIN {
		return
	}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	var g given
	if err != nil || n == 0 || json.Unmarshal(buf[:n], &g) != nil || len(fds) > 1 || (len(fds) == 0) != (g.Why != "") {
		c.tell(given{Why: "the sandbox has gone, or has too many connections to serve"}, nil)
		return
	}
	c.tell(g, fds)
}

func (c *call) tell(g given, fds []int) {
	if s := c.m.s; s.gate != nil {
		if g.Sandbox != "" && len(s.gate.met) < maxMet {
			s.gate.met[g.Sandbox] = true
		}
		s.gate.pass(wire.Message{Met: &wire.Met{Call: c.id, Sandbox: g.Sandbox, Rule: c.door.origin, Why: g.Why}}, fds)
	}
	c.end()
}

func (c *call) end() {
	c.watch.Close()
	c.late.Close()
	unix.Close(c.fd)
	c.m.calls = slices.DeleteFunc(c.m.calls, func(o *call) bool { return o == c })
}

// maxMet is with how many other sandboxes the record of connections is shared.
const maxMet = 1000

// otherSide is what the record of connections says of the sandbox at the other end: only of one that the gate was connected with.
func (g *gateway) otherSide(r wire.Record) (Connection, bool) {
	if r.Peer == "" || !g.met[r.Peer] { // the gate could have been taken over
		return Connection{}, false
	}
	self := g.run.Box.Record.ID
	hash := fnv.New32a()
	hash.Write([]byte(self))
	o := wire.Record{
		ID: 1<<63 | uint64(hash.Sum32())<<31&(1<<63-1) | r.ID&(1<<31-1), Time: r.Time, Verdict: r.Verdict, Name: g.run.name(), Port: r.Port, Peer: self, Inward: true,
		Rule: r.Rule, Why: strings.TrimSpace(r.Why), Sent: r.Got, Got: r.Sent, Elapsed: r.Elapsed, Times: r.Times,
	}
	return Connection{Sandbox: r.Peer, Record: o}, true
}

// Shown is how it is listed: HOST:PORT, or who connected to which port of the sandbox's own.
func (c Connection) Shown() string {
	if c.Inward {
		return fmt.Sprintf("from %s to :%d", c.Name, c.Port)
	}
	return c.Target()
}
