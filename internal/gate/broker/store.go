package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
)

// How long a value is kept at most, for how many different requests at once, and how long the store may take: it may have to ask another machine.
const (
	keptFor  = 5 * time.Second
	maxKept  = 256
	patience = 30 * time.Second
)

// ErrGone is a store that has ended. Nothing is sent then that would need it.
var ErrGone = errors.New("the secret store has ended, so no credential can be used until the sandbox is started again")

// Refused is the store's no, in its own sentence.
type Refused struct{ Why string }

func (r *Refused) Error() string { return r.Why }

// Store is the way to the values. The zero Store has none.
type Store struct {
	mu      sync.Mutex
	conn    *net.UnixConn
	gone    error
	last    uint64
	waiting map[uint64]waiter
	kept    map[use]*kept
	changes map[string]uint64 // of each entry
}

// use is what a value is asked for: the answer to another one may be no.
type use struct {
	entry, host  string
	port         int
	method, path string
}

// waiting are those who asked, and what they get: an answer, and how often its entry had changed when it came.
type waiter struct {
	use  use
	came chan answer
}

type answer struct {
	ask.Reply
	change uint64
}

type kept struct {
	value secret.Value
	end   *time.Timer
}

// Connect takes the socket to the store.
func (s *Store) Connect(conn *net.UnixConn) {
	s.mu.Lock()
	s.conn, s.waiting, s.kept, s.changes = conn, map[uint64]waiter{}, map[use]*kept{}, map[string]uint64{}
	s.mu.Unlock()
	go s.listen(conn)
}

// Close ends it, and overwrites what is kept.
func (s *Store) Close() {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
	s.end(ErrGone)
}

// listen takes what the store says until it ends.
func (s *Store) listen(conn *net.UnixConn) {
	defer conn.Close()
	buf := make([]byte, ask.MaxMessage+1)
	for {
		n, err := conn.Read(buf)
		if err != nil || n == 0 {
			s.end(ErrGone)
			return
		}
		reply, err := ask.DecodeReply(buf[:n]) // it overwrites buf
		switch {
		case err != nil:
			s.end(fmt.Errorf("the secret store said what this gate does not understand: %w", err))
			return
		case reply.Changed != "":
			s.forget(reply.Changed)
		default:
			s.deliver(reply)
		}
	}
}

func (s *Store) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == nil {
		s.gone = why
	}
	for id, w := range s.waiting {
		close(w.came)
		delete(s.waiting, id)
	}
	for u := range s.kept {
		s.drop(u)
	}
}

// forget drops what is kept of an entry; what has come before, and was not used yet, is not kept either.
func (s *Store) forget(entry string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes[entry]++
	for u := range s.kept {
		if u.entry == entry {
			s.drop(u)
		}
	}
}

func (s *Store) drop(u use) {
	if k := s.kept[u]; k != nil {
		k.end.Stop()
		k.value.Wipe()
		delete(s.kept, u)
	}
}

func (s *Store) deliver(r ask.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.waiting[r.ID]
	if !ok { // whoever asked has gone
		r.Value.Wipe()
		return
	}
	delete(s.waiting, r.ID)
	w.came <- answer{r, s.changes[w.use.entry]} // it has room for one
}

// Use asks for a value and calls f with it, which must not keep it.
func (s *Store) Use(ctx context.Context, r ask.Request, f func([]byte) error) error {
	u := use{r.Entry, r.Host, r.Port, r.Method, r.Path}
	s.mu.Lock()
	if k := s.kept[u]; k != nil {
		value := k.value
		s.mu.Unlock()
		if err := value.Use(f); !errors.Is(err, secret.ErrWiped) { // its time may have ended just now
			return err
		}
		s.mu.Lock()
	}
	came, err := s.ask(r, u)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case reply, ok := <-came:
		if !ok {
			return s.why()
		}
		return s.take(u, reply, f)
	case <-ctx.Done():
		s.leave(came)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("the secret store did not answer within %v", patience)
		}
		return ctx.Err()
	}
}

// ask sends a request. The caller holds the lock.
func (s *Store) ask(r ask.Request, u use) (chan answer, error) {
	switch {
	case s.gone != nil:
		return nil, s.gone
	case s.conn == nil:
		return nil, errors.New("this sandbox was started without a secret store")
	}
	s.last++
	r.ID = s.last
	packet, err := ask.EncodeRequest(r)
	if err != nil {
		return nil, &Refused{fmt.Sprintf("the secret store cannot be asked about this request: %v", err)}
	}
	came := make(chan answer, 1)
	s.waiting[r.ID] = waiter{u, came}
	if err = s.conn.SetWriteDeadline(time.Now().Add(patience)); err == nil {
		_, err = s.conn.Write(packet)
	}
	if err != nil {
		delete(s.waiting, r.ID)
		return nil, ErrGone
	}
	return came, nil
}

func (s *Store) leave(came chan answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.waiting {
		if w.came == came {
			delete(s.waiting, id)
		}
	}
	select {
	case late, ok := <-came:
		if ok {
			late.Value.Wipe()
		}
	default:
	}
}

func (s *Store) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// take uses a value that has come, and keeps it for a moment.
func (s *Store) take(u use, a answer, f func([]byte) error) error {
	if a.Refused != "" {
		return &Refused{a.Refused}
	}
	err := a.Value.Use(f)
	long := keptFor
	if !a.Until.IsZero() {
		long = min(long, time.Until(a.Until))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil || s.kept[u] != nil || len(s.kept) >= maxKept || long <= 0 || s.changes[u.entry] != a.change {
		a.Value.Wipe()
		return err
	}
	k := &kept{value: a.Value}
	k.end = time.AfterFunc(long, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.kept[u] == k {
			s.drop(u)
		}
	})
	s.kept[u] = k
	return err
}
