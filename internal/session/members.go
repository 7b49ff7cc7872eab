package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/relay"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// members is the part of a sandbox in private networks (network.internal).
//
// A network is a directory of the person's state, in which each member has a socket under its name: its door. The supervisor of one that wants to connect
// calls there with a port, and gets a socket that was made inside the other sandbox and is connected to that port of its loopback. So no two
// sandboxes share a network namespace, the sockets are in a directory that nothing inside sees, and what is reached is a port of the other's loopback and
// nothing behind it.
type members struct {
	s       *supervision
	name    *store.Name
	doors   []*door
	calls   []*call          // to others, not answered yet
	haste   haste            // of the gate in calling
	callers map[*caller]bool // from others, not answered yet
}

// door is one network.
type door struct {
	origin string // of the line that joined it
	dir    int    // of the network
	fd     int    // listens
	watch  *relay.Watch
	file   string
}

const (
	near       = 5 * time.Second // for what is on this machine to answer
	maxCallers = 64              // that are served at once; more are turned away
	maxCalls   = 128             // as many as the gate makes at once
	perSecond  = 500             // calls, so that one sandbox's haste is not another supervisor's work
	maxWords   = 1024            // bytes that members say to each other
)

// checkName refuses what cannot be a host's name, and numbers: programs take 127 for the address 0.0.0.127 (inet_aton(3)), and never ask for a name.
func checkName(name string) error {
	_, err := strconv.ParseUint(name, 0, 64)
	if number := !errors.Is(err, strconv.ErrSyntax); name != "" && (number || !wire.IsMember(name)) {
		return &Refusal{fmt.Errorf("%q cannot be the name of a sandbox", name), "names are made of a-z, 0-9 and -, at most 32 of them, and are neither numbers nor localhost"}
	}
	return nil
}

// name is by which others reach the sandbox.
func (r *Run) name() string {
	if r.Options.Name == "" {
		return r.Box.Record.ID
	}
	return r.Options.Name
}

// join takes the sandbox's name and makes its doors, before anything runs. Who calls waits until they are opened.
func (s *supervision) join() (err error) {
	r := s.run
	if r.Options.Name == "" && len(r.Plan.Network.Internal) == 0 {
		return nil
	}
	m := &members{s: s, callers: map[*caller]bool{}}
	if m.name, err = r.Store.TakeName(r.name()); errors.Is(err, store.ErrRunning) {
		return &Refusal{fmt.Errorf("a sandbox named %s runs already", r.name()), "choose another --name, or end that one; casemate ps lists them"}
	} else if err != nil {
		return err
	}
	s.members = m
	for _, n := range r.Plan.Network.Internal {
		// Root runs sandboxes of several users, which are not to meet.
		d, err := openDoor(filepath.Join(r.Store.Root, "networks", strconv.Itoa(r.Plan.User.UID)+"-"+n.Value), r.name())
		if err != nil {
			s.leave()
			return fmt.Errorf("network.internal (%s): %w", n.Origin, err)
		}
		d.sweep(r.Store)
		d.origin = "network.internal " + n.Value + " (" + n.Origin + ")"
		m.doors = append(m.doors, d)
	}
	return nil
}

// openDoor makes the socket of a name in a network. The name is ours, so one that is there was left by a supervisor that was killed. The paths of sockets
// are short (unix(7)), and those of state directories need not be: hence the way by descriptor.
func openDoor(dir, name string) (_ *door, err error) {
	if err := store.MakeDir(dir); err != nil {
		return nil, err
	}
	d := &door{dir: -1, fd: -1, file: name + ".sock"}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.dir, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.dir, &st); err != nil || int(st.Uid) != unix.Geteuid() || st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("%s is not a directory that is yours alone", dir)
	}
	unix.Unlinkat(d.dir, d.file, 0)
	if d.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err == nil {
		err = unix.Bind(d.fd, d.at(d.file))
	}
	if err == nil {
		err = unix.Listen(d.fd, maxCallers)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return d, nil
}

// sweep removes the sockets of members whose supervisor was killed: those whose names nobody holds. Who is starting holds its name already.
func (d *door) sweep(st *store.Store) {
	entries, err := os.ReadDir("/proc/self/fd/" + strconv.Itoa(d.dir) + "/.")
	if err != nil {
		return
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".sock")
		if !ok || e.Name() == d.file || !wire.IsMember(name) {
			continue
		}
		if held, err := st.FreeName(name); err == nil {
			unix.Unlinkat(d.dir, e.Name(), 0)
			held.Release()
		}
	}
}

func (d *door) at(file string) unix.Sockaddr {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(d.dir) + "/" + file}
}

func (d *door) close() {
	d.watch.Close()
	if d.fd >= 0 {
		unix.Unlinkat(d.dir, d.file, 0)
		unix.Close(d.fd)
	}
	if d.dir >= 0 {
		unix.Close(d.dir)
	}
}

// open begins to serve those who call.
func (m *members) open() {
	if m == nil {
		return
	}
	for _, d := range m.doors {
		d.watch = m.s.loop.Watch(d.fd, unix.POLLIN, func(int16) { m.accept(d) })
	}
}

// leave ends it all, and gives the name back.
func (s *supervision) leave() {
	m := s.members
	if m == nil {
		return
	}
	s.members = nil
	for _, d := range m.doors {
		d.close()
	}
	for g := range m.callers {
		g.end()
	}
	for _, c := range slices.Clone(m.calls) {
		c.end()
	}
	m.name.Release()
}

// wanted is what a supervisor says at another's door.
type wanted struct {
	Sandbox string `json:"sandbox"` // who calls
	Name    string `json:"name"`
	UID     int    `json:"uid"` // of the programs inside
	Port    int    `json:"port"`
}

// given is the answer. The socket comes with it.
type given struct {
	Sandbox string `json:"sandbox"`
	Why     string `json:"why,omitempty"` // a sentence, where there is none
}

// ours says whether the process at the other end is of the same user.
func ours(fd int) bool {
	who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && int(who.Uid) == unix.Geteuid()
}

// caller is somebody who calls: first words, then a socket from inside, which connects, and goes.
type caller struct {
	m     *members
	fd    int
	watch *relay.Watch
	late  *relay.Timer
	port  int
	inner int // the socket that connects; -1: none
	ready *relay.Watch
	over  bool
	heard bool
}

func (m *members) accept(d *door) {
	const atOnce = 16 // the rest in the next turn
	for range atOnce {
		fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		if !ours(fd) || len(m.callers) == maxCallers {
			unix.Close(fd)
			continue
		}
		g := &caller{m: m, fd: fd, inner: -1}
		m.callers[g] = true
		g.watch = m.s.loop.Watch(fd, unix.POLLIN, func(int16) { g.hear() })
		g.late = m.s.loop.At(time.Now().Add(near), func(time.Time) time.Time { g.refuse("nothing answered there"); return time.Time{} })
	}
}

// hear takes what the caller wants. Whatever else comes is that it has gone.
func (g *caller) hear() {
	var buf [maxWords]byte
	n, _, err := unix.Recvfrom(g.fd, buf[:], unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	var w wanted
	if err != nil || n == 0 || g.heard || json.Unmarshal(buf[:n], &w) != nil || w.UID != g.m.s.run.Plan.User.UID {
		g.end()
		return
	}
	g.heard, g.port = true, w.Port
	if why := g.m.s.closedTo(w.Port); why != "" {
		g.refuse(why)
		return
	}
	g.try(unix.AF_INET)
}

// closedTo says why a port is not for others: those on which the gate listens inside lead out of the sandbox again.
func (s *supervision) closedTo(port int) string {
	if port < 1 || port > 1<<16-1 || port == wire.GatePort || slices.Contains(s.run.Plan.Network.HostPorts, port) {
		return "its port " + strconv.Itoa(port) + " is not its own"
	}
	return ""
}

// try has a socket made inside and connects it there.
func (g *caller) try(family int) {
	g.m.s.fromInside(family, func(fds []int) {
		if g.over {
			return
		}
		if len(fds) == 0 {
			g.refuse("no socket could be made inside")
			return
		}
		fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0) // theirs is closed
		if err != nil {
			g.refuse(err.Error())
			return
		}
		g.inner = fd
		to := unix.Sockaddr(&unix.SockaddrInet4{Port: g.port, Addr: [4]byte{127, 0, 0, 1}})
		if family == unix.AF_INET6 {
			to = &unix.SockaddrInet6{Port: g.port, Addr: [16]byte{15: 1}}
		}
		if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
			g.failed(family, err)
			return
		}
		g.ready = g.m.s.loop.Watch(fd, unix.POLLOUT, func(int16) { g.connected(family) })
	})
}

func (g *caller) connected(family int) {
	n, err := unix.GetsockoptInt(g.inner, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	if err != nil {
		g.failed(family, err)
		return
	}
	g.answer("", []int{g.inner})
}

// failed goes on with the other family, on which alone a program may listen.
func (g *caller) failed(family int, err error) {
	g.drop()
	if family == unix.AF_INET && g.m.s.run.Plan.Network.IPv6 {
		g.try(unix.AF_INET6)
		return
	}
	g.refuse(fmt.Sprintf("its port %d: %v", g.port, err))
}

func (g *caller) refuse(why string) { g.answer(why, nil) }

func (g *caller) answer(why string, fds []int) {
	if g.over {
		return
	}
	if text, err := json.Marshal(given{Sandbox: g.m.s.run.Box.Record.ID, Why: why}); err == nil {
		_ = unix.Sendmsg(g.fd, text, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) // who does not take it has gone
	}
	g.end()
}

// drop lets go of the socket that was to connect.
func (g *caller) drop() {
	g.ready.Close()
	if g.inner >= 0 {
		unix.Close(g.inner)
		g.inner = -1
	}
}

func (g *caller) end() {
	if g.over {
		return
	}
	g.over = true
	g.drop()
	g.watch.Close()
	g.late.Close()
	unix.Close(g.fd)
	delete(g.m.callers, g)
}
