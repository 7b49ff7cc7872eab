package session

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/relay"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

const (
	lookAgain  = 500 * time.Millisecond // between two looks at the ports inside
	maxOffers  = 64                     // ports at once
	maxNews    = 1000                   // events of ports in one run: a program inside could open and close one for ever
	unoffered  = 1024                   // below it the host's ports are never taken
	forLow     = 8000                   // and what listens on such a one inside is offered that much above: 80 as 8080
	neighbours = 32                     // ports that are tried before any that is free will do
)

// offers are the ports inside that are offered on the host's loopback as long as a program listens on them (publish: auto).
//
// The kernel tells nobody that a program begins to listen, so it is asked twice a second, by a socket of the sandbox's network that lists its listeners
// and nothing else (sock_diag(7)). That takes 0.05 ms, 6 ms of processor in a minute; /proc/PID/net/tcp would walk the whole machine's connections,
// which takes a hundred times that.
type offers struct {
	s      *supervision
	fd     int
	watch  *relay.Watch
	next   *relay.Timer
	family byte
	seen   [1 << 16 / 64]uint64 // bit N: something listens on port N, as far as this look has come
	open   map[int]*offer       // by the port inside
	taken  map[int]bool         // ports inside that are never offered
	news   int
	told   map[string]bool
	full   bool // more are open than are offered, which was said
	deaf   bool // the gate took no message in this turn
}

// offer is one of them.
type offer struct {
	host   int
	unseen int  // looks in a row that did not see it: a listing that is long can miss one, and a server that restarts is back soon
	said   bool // to the person, or it was said before
}

// offering is how a record writes it.
func offering(host, inside int) string { return strconv.Itoa(host) + ":" + strconv.Itoa(inside) }

// watchPorts begins to look, with the socket that came from inside.
func (s *supervision) watchPorts(fd int) {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) // the caller closes its own
	if err != nil {
		s.run.warnNetwork("the ports inside cannot be watched: %v", err)
		return
	}
	o := &offers{s: s, fd: fd, open: map[int]*offer{}, taken: map[int]bool{wire.GatePort: true}, told: map[string]bool{}}
	for _, p := range s.run.Plan.Network.HostPorts {
		o.taken[p] = true
	}
	for _, p := range s.run.Plan.Network.Publish {
		o.taken[p.Inside] = true
	}
	o.watch = s.loop.Watch(fd, unix.POLLIN, func(int16) { o.read() })
	o.next = s.loop.At(time.Now(), func(time.Time) time.Time {
		clear(o.seen[:])
		o.ask(unix.AF_INET)
		return time.Time{}
	})
	s.offers = o
}

func (o *offers) close() {
	if o != nil && o.fd >= 0 {
		o.watch.Close()
		o.next.Close()
		unix.Close(o.fd)
		o.fd = -1
	}
}

// ask requests the listeners of a family: struct nlmsghdr, then struct inet_diag_req_v2, in the machine's byte order.
func (o *offers) ask(family byte) {
	const (
		byFamily = 20 // SOCK_DIAG_BY_FAMILY
		listen   = 10 // TCP_LISTEN
		size     = unix.SizeofNlMsghdr + 56
	)
	o.family = family
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, size), size)
	b = binary.NativeEndian.AppendUint16(b, byFamily)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = append(b, make([]byte, 8)...) // sequence, port
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 1<<listen)
	if err := unix.Sendto(o.fd, b[:size], unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		o.fail(err)
	}
}

// read takes one part of the answer. What is in it is the kernel's own, and numbers.
func (o *offers) read() {
	var buf [32 << 10]byte // the most that the kernel puts into one
	n, _, err := unix.Recvfrom(o.fd, buf[:], unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil {
		o.fail(err)
		return
	}
	for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			o.fail(unix.EBADMSG)
			return
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			o.answered()
			return
		case unix.NLMSG_ERROR:
			o.fail(refusedBy(body))
			return
		default:
			o.mark(body)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
}

func refusedBy(body []byte) error {
	if len(body) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
}

// mark notes a listener: struct inet_diag_msg, with the family, then at 4 the port and at 8 the address as the network writes them. Only what the gate
// reaches counts, by 127.0.0.1 or ::1.
func (o *offers) mark(b []byte) {
	if len(b) < 24 {
		return
	}
	port, address := binary.BigEndian.Uint16(b[4:]), [16]byte(b[8:24])
	var reached [][16]byte
	if b[0] == unix.AF_INET {
		reached = [][16]byte{{}, {0: 127, 3: 1}}
		clear(address[4:])
	} else {
		reached = [][16]byte{{}, {15: 1}, {10: 0xff, 11: 0xff}, {10: 0xff, 11: 0xff, 12: 127, 15: 1}}
	}
	if slices.Contains(reached, address) {
		o.seen[port/64] |= 1 << (port % 64)
	}
}

func (o *offers) has(port int) bool { return o.seen[port/64]&(1<<(port%64)) != 0 }

// answered goes on with the other family, or acts on what both have.
func (o *offers) answered() {
	if o.family == unix.AF_INET && o.s.run.Plan.Network.IPv6 {
		o.ask(unix.AF_INET6)
		return
	}
	o.settle()
	o.next.Reset(time.Now().Add(lookAgain))
}

// fail gives up where the kernel does not answer: ports are then not offered, and the run goes on.
func (o *offers) fail(err error) {
	if err == unix.ENOBUFS || err == unix.EBUSY { // the answer was lost, or the last is not read yet
		o.next.Reset(time.Now().Add(lookAgain))
		return
	}
	o.close()
	o.s.run.warnNetwork("the ports inside are not offered any more: the kernel does not list them (%v; it needs inet_diag)", err)
}

// settle makes what is offered what is open.
func (o *offers) settle() {
	if o.s.gate == nil || o.s.gate.ended {
		return
	}
	changed := false
	o.deaf = false
	for inside, p := range o.open {
		if p.unseen++; o.has(inside) {
			p.unseen = 0
		}
		if p.unseen > 1 && o.tell(wire.Message{Withdraw: inside}, nil) {
			delete(o.open, inside)
			o.emit(event.TakenIn, p.host, inside)
			changed = true
		}
	}
	for word, bits := range o.seen {
		for bit := 0; bits>>bit != 0 && !o.deaf; bit++ { // there may be ten thousands of ports
			if inside := word*64 + bit; o.has(inside) && o.open[inside] == nil && !o.taken[inside] && inside != 0 {
				changed = o.offer(inside) || changed
			}
		}
	}
	for inside, p := range o.open {
		o.say(inside, p)
	}
	if changed {
		o.record()
	}
}

// offer begins to offer a port.
func (o *offers) offer(inside int) bool {
	if len(o.open) == maxOffers {
		if !o.full {
			o.full = true
			o.s.run.emit(event.Event{Kind: event.Limited, Subject: "network.publish", Detail: fmt.Sprintf("programs inside listen on more ports than the %d that are offered", maxOffers)})
		}
		return false
	}
	fds, host := freePort(inside)
	if len(fds) == 0 {
		return false
	}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	if !o.tell(wire.Message{Offer: inside}, fds) {
		return false
	}
	o.open[inside] = &offer{host: host}
	o.emit(event.Offered, host, inside)
	return true
}

// freePort listens on the host's loopback: under the port's own number, one of the next, or any.
func freePort(inside int) (fds []int, host int) {
	if inside < unoffered {
		inside += forLow
	}
	for port := inside; port < min(inside+neighbours, 1<<16); port++ {
		if fds := listenBoth(port); fds != nil {
			return fds, port
		}
	}
	for range neighbours {
		fd, err := listen4(0)
		if err != nil {
			return nil, 0
		}
		at, err := unix.Getsockname(fd)
		unix.Close(fd)
		v4, ok := at.(*unix.SockaddrInet4)
		if err != nil || !ok {
			return nil, 0
		}
		if v4.Port < unoffered {
			continue
		}
		if fds := listenBoth(v4.Port); fds != nil {
			return fds, v4.Port
		}
	}
	return nil, 0
}

// listenBoth takes a port of both families, as "localhost" may lead to either. A machine may have no IPv6.
func listenBoth(port int) []int {
	fd, err := listen4(port)
	if err != nil {
		return nil
	}
	six, err := listen6(port)
	switch err {
	case nil:
		return []int{fd, six}
	case unix.EADDRINUSE:
		unix.Close(fd)
		return nil
	}
	return []int{fd}
}

// tell sends a message to the gate without waiting for it. What it does not take is tried again at the next look.
func (o *offers) tell(m wire.Message, fds []int) bool {
	o.deaf = !o.s.gate.pass(m, fds)
	return !o.deaf
}

// sentence is what a person wants to know of a port.
func sentence(host, inside int) string {
	return fmt.Sprintf("http://127.0.0.1:%d is the sandbox's port %d", host, inside)
}

func (o *offers) emit(kind event.Kind, host, inside int) {
	if o.news++; o.news <= maxNews {
		o.s.run.emit(event.Event{Kind: kind, Subject: "port:" + strconv.Itoa(inside), Detail: sentence(host, inside)})
	}
}

// say tells the person once, as soon as the terminal is not another program's.
func (o *offers) say(inside int, p *offer) {
	if p.said {
		return
	}
	line := sentence(p.host, inside)
	if o.told[line] || len(o.told) == maxNews {
		p.said = true
		return
	}
	if p.said = o.s.say(line); p.said {
		o.told[line] = true
	}
}

// say shows a line on the person's terminal while the command runs. It is false where that cannot be now, and true where it never will.
func (s *supervision) say(line string) bool {
	line = "casemate: " + workspace.Visible(line)
	switch {
	case !s.run.Options.Meanwhile:
		return true
	case s.term != nil:
		return s.term.Say(line)
	}
	ready := []unix.PollFd{{Fd: int32(s.host[2]), Events: unix.POLLOUT}}
	if n, err := unix.Poll(ready, 0); err != nil || n == 0 { // Ctrl-S: it would hold us
		return false
	}
	unix.Write(s.host[2], []byte(line+"\n"))
	return true
}

// record keeps the ports where casemate ps finds them.
func (o *offers) record() {
	rec := &o.s.run.Box.Record
	rec.Ports = nil
	for _, p := range o.s.run.Plan.Network.Publish {
		rec.Ports = append(rec.Ports, offering(p.Host, p.Inside))
	}
	inside := make([]int, 0, len(o.open))
	for port := range o.open {
		inside = append(inside, port)
	}
	slices.Sort(inside)
	for _, port := range inside {
		rec.Ports = append(rec.Ports, offering(o.open[port].host, port))
	}
	o.s.run.Box.Save(false)
}

// warnNetwork is for what the person should know and does not end the run.
func (r *Run) warnNetwork(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.emit(event.Event{Kind: event.Warned, Subject: "network", Detail: text})
	r.notice("%s", text)
}
