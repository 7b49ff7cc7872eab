package keeper

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"casemate.dev/internal/gate/authority"
	"casemate.dev/internal/gate/wire"
	"golang.org/x/sys/unix"
)

// errGone is the end of the supervisor.
var errGone = errors.New("the supervisor has gone")

const maxRules = 1 << 16 // openings, so that a supervisor gone mad is noticed

// opening is what the gate needs to open connections.
type opening struct {
	authority *authority.Authority
	roots     *x509.CertPool
}

// prepare makes it for the hosts that will be opened; the zero value where there are none.
func prepare(hosts []string) (o opening, err error) {
	if len(hosts) == 0 {
		return o, nil
	}
	if o.authority, err = authority.New(hosts, time.Now()); err != nil {
		return o, fmt.Errorf("an authority for the hosts that are opened: %w", err)
	}
	if o.roots, err = x509.SystemCertPool(); err != nil { // now, so that a change of the files does not matter later
		o.roots = x509.NewCertPool() // each connection says that its host's certificate is not valid here
	}
	return o, nil
}

// greetSupervisor takes the first message and answers it. The supervisor may be gone already, whose start failed.
func greetSupervisor(supervisor *net.UnixConn) (o opening, gone bool, err error) {
	buf := make([]byte, wire.MaxMessage)
	n, err := supervisor.Read(buf)
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		return o, true, nil
	}
	var start wire.Start
	if err == nil {
		err = json.Unmarshal(buf[:n], &start)
	}
	if err != nil {
		return o, false, fmt.Errorf("the supervisor's first message: %w", err)
	}
	if o, err = prepare(start.Open); err != nil {
		return o, false, err
	}
	answer := wire.Ready{Ready: true}
	if o.authority != nil {
		answer.Authority = o.authority.PEM()
	}
	text, err := json.Marshal(answer)
	if err == nil {
		_, err = supervisor.Write(text)
	}
	if err != nil {
		return o, false, fmt.Errorf("answer the supervisor: %w", err)
	}
	return o, false, nil
}

// receive takes one message, or the several over which rules are spread. What cannot be read ends the gate, and the network with it: rules that are
// half understood are none.
func (k *Keeper) receive(begun bool) error {
	var all wire.Rules
	var listeners []listener
	defer func() {
		for _, l := range listeners {
			l.file.Close()
		}
	}()
	for {
		m, fds, err := k.message()
		if err != nil {
			return err
		}
		if m.Socket != 0 {
			k.sockets.deliver(m.Socket, fds)
			continue
		}
		if m.Offer != 0 {
			k.offer(m.Offer, fds)
			continue
		}
		if m.Met != nil {
			k.calls.deliver(*m.Met, fds)
			continue
		}
		if m.Withdraw != 0 {
			k.withdraw(m.Withdraw)
			continue
		}
		if m.Answer != nil {
			k.questions.answer(*m.Answer)
			continue
		}
		for i, fd := range fds {
			l := listener{file: os.NewFile(uintptr(fd), "listener")}
			if i < len(m.Listeners) {
				l.kind = m.Listeners[i]
			}
			listeners = append(listeners, l)
		}
		if len(m.Listeners) != len(fds) || begun && len(fds) > 0 {
			return fmt.Errorf("%d listeners came for the %d that were named", len(fds), len(m.Listeners))
		}
		if !begun && m.Sandbox != "" {
			k.sandbox = m.Sandbox
		}
		all.Allow, all.Deny = append(all.Allow, m.Rules.Allow...), append(all.Deny, m.Rules.Deny...)
		all.Secrets = append(all.Secrets, m.Rules.Secrets...)
		all.Ask, all.Unasked = all.Ask || m.Rules.Ask, all.Unasked+m.Rules.Unasked
		if len(all.Allow)+len(all.Deny)+len(all.Secrets) > maxRules {
			return fmt.Errorf("more than %d rules", maxRules)
		}
		if m.Proxy.URL != "" {
			if err := k.upstream.set(m.Proxy); err != nil {
				return err
			}
		}
		if m.More {
			continue
		}
		k.replace(all) // before anything can ask
		if !begun {
			k.internal = m.Internal
			k.only4 = !slices.ContainsFunc(listeners, func(l listener) bool { return l.kind == wire.TCP6 })
		}
		for _, l := range listeners {
			if err := k.adopt(l.kind, l.file); err != nil {
				return err
			}
		}
		return nil
	}
}

// listener is one that came from inside.
type listener struct {
	kind wire.Listener
	file *os.File
}

// message reads one message and its descriptors. Where this process can have no more of them, what was handed over beside the rules does not come, and the
// gate goes on without it; listeners that come with rules are its all.
func (k *Keeper) message() (m wire.Message, fds []int, err error) {
	const most = 253 // SCM_MAX_FD
	buf, control := make([]byte, wire.MaxMessage+1), make([]byte, unix.CmsgSpace(4*most))
	n, cn, flags, _, err := k.supervisor.ReadMsgUnix(buf, control)
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		return m, nil, errGone
	}
	if err != nil {
		return m, nil, fmt.Errorf("the supervisor's socket: %w", err)
	}
	if flags&unix.MSG_TRUNC != 0 || n > wire.MaxMessage {
		return m, nil, errors.New("a message of the supervisor is too long")
	}
	if fds, err = descriptors(control[:cn]); err != nil {
		return m, nil, err
	}
	if err := json.Unmarshal(buf[:n], &m); err != nil {
		return m, nil, fmt.Errorf("a message of the supervisor: %w", err)
	}
	if flags&unix.MSG_CTRUNC == 0 {
		return m, fds, nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	switch {
	case m.Met != nil:
		m.Met.Why = "too many files are open"
	case m.Socket == 0 && m.Offer == 0:
		return m, nil, errors.New("the supervisor's listeners did not come: too many files are open")
	}
	return m, nil, nil
}

func descriptors(control []byte) (fds []int, err error) {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, fmt.Errorf("descriptors of the supervisor: %w", err)
	}
	for _, c := range list {
		rights, err := unix.ParseUnixRights(&c)
		if err != nil {
			return nil, fmt.Errorf("descriptors of the supervisor: %w", err)
		}
		fds = append(fds, rights...)
	}
	return fds, nil
}

// sockets are those asked for and not yet there. One of a family is as good as another, so whoever waits longest gets the next; whoever gives up leaves the
// line, or an answer that was lost would cost all that come after it theirs.
type sockets struct {
	asking  sync.Mutex // keeps the requests in the order of the waiters
	mu      sync.Mutex
	waiting map[int][]chan int
}

// socket asks the supervisor for a TCP socket that was made inside.
func (k *Keeper) socket(ctx context.Context, family int) (int, error) {
	text, err := json.Marshal(wire.Request{Socket: family})
	if err != nil {
		return -1, err
	}
	came := make(chan int, 1)
	if err := k.sockets.ask(family, came, func() error {
		_, err := k.supervisor.Write(text)
		return err
	}); err != nil {
		return -1, err
	}
	select {
	case fd := <-came:
		if fd < 0 {
			return -1, errors.New("no socket could be made inside")
		}
		return fd, nil
	case <-ctx.Done():
		k.sockets.leave(family, came)
		return -1, context.Cause(ctx)
	}
}

func (s *sockets) ask(family int, came chan int, send func() error) error {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.mu.Lock()
	if s.waiting == nil {
		s.waiting = map[int][]chan int{}
	}
	s.waiting[family] = append(s.waiting[family], came)
	s.mu.Unlock()
	return send()
}

func (s *sockets) leave(family int, came chan int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[family] = slices.DeleteFunc(s.waiting[family], func(c chan int) bool { return c == came })
	select {
	case fd := <-came: // it came at the same moment
		if fd >= 0 {
			unix.Close(fd)
		}
	default:
	}
}

func (s *sockets) deliver(family int, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd := -1
	if len(fds) > 0 {
		fd, fds = fds[0], fds[1:]
	}
	for _, extra := range fds {
		unix.Close(extra)
	}
	list := s.waiting[family]
	if len(list) == 0 {
		if fd >= 0 {
			unix.Close(fd)
		}
		return
	}
	s.waiting[family] = list[1:]
	list[0] <- fd
}
