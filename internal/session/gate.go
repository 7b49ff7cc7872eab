package session

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/event"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/relay"
	"golang.org/x/sys/unix"
)

// gateway is the gate of one run as its supervisor sees it: a process of its own, which parses what hostile programs send, and a socket to it. What it
// says is only ever written down. When it ends, for whatever reason, its listeners end with it, and with them the network.
type gateway struct {
	run     *Run
	process *os.Process
	fd      int
	buf     []byte // for what it says: one each time would be a collection of garbage for every few connections
	watch   *relay.Watch
	log     *os.File           // the record of connections, open only while there is something to be written
	words   *os.File           // what it writes to its standard error
	grants  int                // inotify, for what casemate allow writes
	want    func(wire.Request) // does what the gate asks for
	asked   int                // sockets, and not here yet
	told    map[string]bool
	met     map[string]bool // ids of the sandboxes that it was connected with
	kept    kept
	ended   bool
	asking  asking
	force   plan.Reachable // what the policy says now

	withdrawn map[string]bool // secrets that it names no more

	shut   bool // what casemate allow opened is closed: the organisation lets nobody open anything
	ruling *ruling
}

// Denial is one thing that was tried and not reached.
type Denial struct {
	Name  string `json:"name"`
	Port  int    `json:"port,omitempty"` // 0: its name was looked up
	Times int    `json:"times"`
	Why   string `json:"why"`

	method, rule string // of a request on a connection that was allowed, and what would allow it
}

// Allow is how to allow it from the start of a run; empty where no rule can.
func (d Denial) Allow() string {
	c := Connection{Record: wire.Record{Name: d.Name, Port: d.Port}}
	switch {
	case d.rule != "":
		return "network.allow: " + d.rule
	case d.method != "" || !c.Allowable(): // --allow would allow every request to the host, which a policy has said not to
		return ""
	}
	return "--allow " + c.Target()
}

// maxDenials is how many different ones a result lists.
const maxDenials = 100

// startGate starts the gate where the plan opens the network. It confines itself while the sandbox is prepared.
func (s *supervision) startGate() error {
	r := s.run
	if r.Plan.Network.Kind != plan.Gate {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	wait := unix.NsecToTimeval(int64(lastWords)) // a gate that takes nothing does not stop the supervisor
	unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	theirs := os.NewFile(uintptr(pair[1]), "gate")
	defer theirs.Close()
	os.Remove(filepath.Join(r.Box.Dir, grantsFile)) // of the run before
	g := &gateway{run: r, fd: pair[0], grants: -1, told: map[string]bool{}, met: map[string]bool{}, force: r.Plan.Network.Reachable()}
	g.want = s.serveGate
	if g.words, err = lastPage(); err != nil {
		unix.Close(pair[0])
		return err
	}
	if g.process, err = r.execGate(theirs, g.words); err != nil {
		unix.Close(pair[0])
		g.words.Close()
		return err
	}
	s.gate = g
	if g.log, err = r.Store.Connections(); err == nil {
		err = g.watchGrants(&s.loop)
	}
	if err == nil && r.Plan.Network.Ask {
		err = g.watchWatchers(&s.loop)
	}
	if err == nil {
		err = g.greet()
	}
	if err != nil {
		s.endGate()
	}
	return err
}

// greet tells the gate what it has to prepare.
func (g *gateway) greet() error {
	var start wire.Start
	if tls := g.run.Plan.Network.TLS; tls != nil {
		for _, host := range tls.Hosts {
			start.Open = append(start.Open, host.Value)
		}
	}
	text, err := json.Marshal(start)
	if err == nil {
		err = unix.Sendto(g.fd, text, unix.MSG_NOSIGNAL, nil)
	}
	if err == unix.EPIPE || err == unix.ECONNRESET {
		return nil // gateReady says why it ended
	}
	return err
}

// gateReady waits until the gate is confined and takes its rules: nothing is executed inside before, so a gate that cannot be had is a failed start.
func (s *supervision) gateReady() error {
	g := s.gate
	if g == nil {
		return nil
	}
	patience := unix.NsecToTimeval(int64(10 * time.Second))
	unix.SetsockoptTimeval(g.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
	buf := make([]byte, wire.MaxMessage)
	n, err := hear(g.fd, buf, 0)
	var answer wire.Ready
	if err == nil {
		err = json.Unmarshal(buf[:n], &answer)
	}
	if err != nil || !answer.Ready {
		return &Refusal{fmt.Errorf("gate: it did not come up%s", g.said()), "casemate-gate must be of the same build as casemate: make install installs both"}
	}
	if t := s.run.trusted; t != nil {
		if err := t.fill(answer.Authority); err != nil {
			return err
		}
	}
	g.watch = s.loop.Watch(g.fd, unix.POLLIN, func(int16) { g.receive() })
	return nil
}

const page = 4096

// lastPage is memory for a few words, which cannot grow, whoever writes to it.
func lastPage() (*os.File, error) {
	fd, err := unix.MemfdCreate("gate", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	f := os.NewFile(uintptr(fd), "gate")
	if err = unix.Ftruncate(fd, page); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("gate: %w", err)
	}
	return f, nil
}

// said returns what the gate wrote to its standard error, as the end of a sentence.
func (g *gateway) said() string {
	b := make([]byte, page)
	n, _ := g.words.ReadAt(b, 0)
	text, _, _ := strings.Cut(strings.TrimRight(string(b[:n]), "\x00"), "\n")
	if text = strings.TrimPrefix(text, "casemate-gate: "); text == "" {
		return ""
	}
	return ": " + text
}

// execGate executes the gate as the sandbox's user: as root it needs no more than that.
func (r *Run) execGate(theirs, words *os.File) (*os.Process, error) {
	program, err := sibling("casemate-gate")
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	as := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if r.Facts.EUID == 0 {
		as.Credential = &syscall.Credential{Uid: uint32(r.Plan.User.UID), Gid: uint32(r.Plan.User.GID)}
	}
	p, err := os.StartProcess(program, []string{program}, &os.ProcAttr{Dir: "/", Env: r.verifiers, Files: []*os.File{null, null, words, theirs}, Sys: as})
	if err != nil {
		return nil, &Refusal{fmt.Errorf("gate: %w", err), "casemate-gate must lie beside casemate, where the sandbox's user can execute it; make install puts it there"}
	}
	return p, nil
}

// sibling finds one of casemate's other programs, which lie beside this one.
func sibling(name string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(exe), name)
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return "", &Refusal{fmt.Errorf("%s is not there", path), name + " lies beside casemate: make install installs both"}
	}
	return path, nil
}

// openNetwork passes the listeners that came from inside on to the gate. Nobody else has them then: pid 1 closes its own before the command starts.
func (s *supervision) openNetwork(fds []int) error {
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	n := s.run.Plan.Network
	first := wire.Message{Sandbox: s.run.Box.Record.ID, Listeners: wire.Listeners(n.IPv6, n.HostPorts)}
	if n.Auto && len(fds) > 0 { // the last one is for us
		s.watchPorts(fds[len(fds)-1])
		fds = fds[:len(fds)-1]
	}
	if s.gate == nil || len(first.Listeners) != len(fds) {
		return fmt.Errorf("bug: %d listeners came from inside", len(fds))
	}
	for _, p := range s.published {
		first.Listeners, fds = append(first.Listeners, wire.Published(p.inside)), append(fds, p.fd)
	}
	s.published = nil
	if fd := s.secrets.hand(); fd >= 0 {
		first.Listeners, fds = append(first.Listeners, wire.StoreEnd), append(fds, fd)
	}
	s.followPolicies()
	first.Proxy = s.run.Person.proxy()
	for _, n := range n.Internal {
		first.Internal = append(first.Internal, n.Value)
	}
	return s.gate.send(first, fds)
}

// send sends a message with the rules as they are now, in as many messages as they need. The descriptors go with the first.
func (g *gateway) send(m wire.Message, fds []int) error {
	const atOnce = 200 // rules, each with a handful of ports and ranges
	rules := g.rules()
	for {
		n, deny := min(atOnce, len(rules.Allow)), min(atOnce, len(rules.Deny))
		m.Rules = wire.Rules{Allow: rules.Allow[:n], Deny: rules.Deny[:deny], Ask: rules.Ask, Unasked: rules.Unasked}
		rules = wire.Rules{Allow: rules.Allow[n:], Deny: rules.Deny[deny:], Secrets: rules.Secrets}
		if len(rules.Secrets) > 0 { // one each time: a placeholder may be as long as a value
			m.Rules.Secrets, rules.Secrets = rules.Secrets[:1], rules.Secrets[1:]
		}
		m.More = len(rules.Allow)+len(rules.Deny)+len(rules.Secrets) > 0
		text, err := json.Marshal(m)
		if err == nil {
			err = unix.Sendmsg(g.fd, text, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		}
		if err != nil {
			return fmt.Errorf("gate: its rules could not be sent: %w%s", err, g.said())
		}
		if !m.More {
			return nil
		}
		m, fds = wire.Message{}, nil
	}
}

// proxy is how this machine gets out, as most programs read it from the environment. Empty: directly.
func (p Person) proxy() wire.Proxy {
	either := func(names ...string) string {
		for _, n := range names {
			if v := p.getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	return wire.Proxy{URL: either("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), Except: either("no_proxy", "NO_PROXY")}
}

// maxAsked is how many sockets pid 1 is asked for at a time for the gate. The gate asks for no more by itself; one that was taken over could otherwise have
// the supervisor and pid 1 wait for each other.
const maxAsked = 64

// askSocket has pid 1 make a socket for the gate. What a gate has no reason to ask for is answered with none.
func (s *supervision) askSocket(family int) {
	if family != unix.AF_INET && family != unix.AF_INET6 || s.gate.asked == maxAsked {
		s.gate.pass(wire.Message{Socket: family}, nil)
		return
	}
	s.gate.asked++
	s.fromInside(family, func(fds []int) {
		if s.gate != nil {
			s.gate.asked--
			s.gate.pass(wire.Message{Socket: family}, fds)
		}
	})
}

// fromInside has pid 1 make a TCP socket of a family, and then calls what is given with it, or with none if it could not be made. Pid 1 answers in order.
// The socket is closed afterwards.
func (s *supervision) fromInside(family int, then func(fds []int)) {
	s.awaited = append(s.awaited, then)
	s.box.Send(inside.Socket, unix.Signal(family))
}

// newSocket is pid 1's answer.
func (s *supervision) newSocket(fds []int) {
	if len(s.awaited) > 0 {
		then := s.awaited[0]
		s.awaited = s.awaited[1:]
		then(fds)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// pass sends the gate something that it may be waiting for. One that takes nothing waits in vain.
func (g *gateway) pass(m wire.Message, fds []int) bool {
	text, err := json.Marshal(m)
	if err == nil {
		err = unix.Sendmsg(g.fd, text, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	}
	return err == nil
}

// rules are the policy's, and what was allowed since.
func (g *gateway) rules() wire.Rules {
	var rules wire.Rules
	for _, a := range g.force.Allow {
		rules.Allow = append(rules.Allow, wire.Allow(a))
	}
	if !g.shut {
		rules.Allow = append(rules.Allow, readGrants(g.run.Box.Dir)...)
	}
	for _, d := range g.force.Deny {
		rules.Deny = append(rules.Deny, d.Value)
	}
	rules.Secrets = g.secretRules()
	rules.Ask, rules.Unasked = g.asking.asks()
	return rules
}

// reload sends the rules anew. A gate that does not take them would go on by the old ones, which may be too wide.
func (g *gateway) reload() {
	err := g.send(wire.Message{}, nil)
	if err != nil && !g.ended {
		g.run.emit(event.Event{Kind: event.Warned, Subject: "network", Detail: fmt.Sprintf("the gate did not take new rules, and was ended: %v", err)})
		g.process.Kill()
	}
}

// receive takes what the gate says. It is bounded by what is there, so that a gate that floods keeps nobody from running.
func (g *gateway) receive() {
	defer g.written()
	defer g.tellQuestions()
	if g.buf == nil {
		g.buf = make([]byte, longest+1)
	}
	for range 64 {
		n, err := hear(g.fd, g.buf, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return
		case err != nil || n == 0:
			g.lost()
			return
		default:
			g.note(g.buf[:n])
		}
	}
}

// lost is about a gate that ended by itself. There is no way out beside it.
func (g *gateway) lost() {
	if g.ended {
		return
	}
	g.ended = true
	g.watch.Close()
	g.stopAsking()
	g.asking.on = false
	g.run.emit(event.Event{Kind: event.Warned, Subject: "network", Detail: "the gate ended, and the network with it" + g.said()})
	g.run.notice("the gate ended, and the network with it; the command went on without%s", g.said())
}

// longest is how long what the gate says may be, which cuts names and sentences. Of anything longer a byte more is read, and then it is thrown away.
const longest = 8 << 10

// note writes one record down.
func (g *gateway) note(text []byte) {
	var said struct {
		wire.Record
		wire.Request
	}
	if len(text) > longest || json.Unmarshal(text, &said) != nil {
		return
	}
	if said.Socket != 0 || said.Call != nil {
		g.want(said.Request)
		return
	}
	if said.Question != nil {
		g.question(*said.Question)
		return
	}
	r := said.Record
	if slices.Contains([]wire.Verdict{wire.Ruled, wire.Signed, wire.Unsigned}, r.Verdict) { // that is not a gate's to say
		return
	}
	entry := Connection{Sandbox: g.run.Box.Record.ID, Record: r}
	if other, ok := g.otherSide(r); ok {
		g.write(other)
	}
	g.write(entry)
	if r.Verdict != wire.Denied {
		return
	}
	d := Denial{Name: r.Name, Port: r.Port, Times: max(r.Times, 1), Why: r.Why, method: r.Method, rule: r.AllowRule()}
	g.run.denied(d)
	allow := entry.AllowCommand()
	if d.rule != "" { // narrower than the command, which allows every request
		allow = d.Allow()
	}
	if r.Secret != "" {
		g.alarm(entry)
		return
	}
	if key := entry.Target() + " " + r.Method + " " + r.Path; !g.told[key] && len(g.told) < maxDenials {
		g.told[key] = true
		g.run.emit(event.Event{Kind: event.Denied, Subject: "net:" + entry.Target(), Rule: r.Rule, Detail: r.Why, Allow: allow})
	}
}

// alarm is about a placeholder, or a value, where it must not be. Nothing would allow that.
func (g *gateway) alarm(c Connection) {
	if key := "secret " + c.Secret + " " + c.Target() + " " + c.Why; !g.told[key] && len(g.told) < maxDenials {
		g.told[key] = true
		g.run.emit(event.Event{Kind: event.Alarm, Subject: "secret:" + c.Secret, Detail: c.Target() + ": " + c.Why})
	}
}

// write adds a line to the record of connections, unless this run has had its share. On a full disk the run goes on, and the events say what was denied.
func (g *gateway) write(c Connection) {
	line, err := json.Marshal(c)
	if err != nil {
		return
	}
	if g.kept.takes(c.Record, len(line)+1) {
		g.append(line)
	} else if !g.kept.told {
		g.writeLost()
	}
}

// writeLost says that records were left out: when that begins, and at the end how many.
func (g *gateway) writeLost() {
	if r, some := g.kept.lost(); some {
		if line, err := json.Marshal(Connection{Sandbox: g.run.Box.Record.ID, Record: r}); err == nil {
			g.append(line)
		}
	}
}

func (g *gateway) append(line []byte) {
	var err error
	if g.log == nil {
		g.log, err = g.run.Store.Connections()
	}
	if err == nil {
		_, _ = g.log.Write(append(line, '\n'))
	}
}

// written closes the record: another run may put it aside as too long, and what is written to that one no casemate net and no watch ever sees.
func (g *gateway) written() {
	if g.log != nil {
		g.log.Close()
		g.log = nil
	}
}

// denied counts what was denied.
func (r *Run) denied(d Denial) {
	for i := range r.Denials {
		if r.Denials[i].Name == d.Name && r.Denials[i].Port == d.Port {
			r.Denials[i].Times += d.Times
			return
		}
	}
	if len(r.Denials) < maxDenials {
		r.Denials = append(r.Denials, d)
	}
}

// lastWords is how long an ended run waits for its gate's records, and any for it to take a message.
const lastWords = time.Second

// endGate ends the gate, and takes the records of the connections that end with it.
func (s *supervision) endGate() {
	g := s.gate
	if g == nil {
		return
	}
	s.gate, g.want = nil, func(wire.Request) {}
	g.stopAsking()
	g.asking.on = false
	if g.grants >= 0 {
		unix.Close(g.grants)
	}
	if g.ruling != nil {
		g.ruling.files.close()
	}
	unix.Shutdown(g.fd, unix.SHUT_WR)
	wait := unix.NsecToTimeval(int64(lastWords))
	unix.SetsockoptTimeval(g.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	buf := make([]byte, wire.MaxMessage)
	for until := time.Now().Add(lastWords); !g.ended && time.Now().Before(until); {
		n, err := hear(g.fd, buf, 0)
		if err != nil || n == 0 {
			break
		}
		g.note(buf[:n])
	}
	g.ended = true
	g.process.Kill()
	g.process.Wait()
	unix.Close(g.fd)
	g.words.Close()
	g.writeLost()
	g.written()
}
