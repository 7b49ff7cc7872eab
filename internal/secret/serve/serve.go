// Package serve hands values to the gate of one sandbox, each for a use that the policy names and a grant allows, for as long as the sandbox runs.
package serve

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/stores"
	"casemate.dev/internal/secret/uses"
)

// Options say where everything is.
type Options struct {
	Place      book.Place
	Log        uses.Log
	Getenv     func(string) string
	Passphrase book.Ask // nil: nobody can be asked
	Ready      func()   // is called once the beginning is over
}

// many is how many uses are looked at at once. The next one waits in the socket.
const many = 16

type server struct {
	Options
	conn  *conn
	begin ask.Begin
	who   book.Who
	kept  map[string]*kept // of every entry of begin

	keyed *book.Keyed

	mu      sync.RWMutex // guards what follows
	book    *book.Book   // nil: it cannot be read, for the reason wrong
	wrong   error
	seen    book.Stamp // of the file that book was read from
	changed int        // counts what happened to the entries of begin
}

// kept is a value of a store that takes time, for as long as it is fresh.
type kept struct {
	mu    sync.Mutex // held while the store is asked, so that a person is asked once
	entry book.Entry
	value secret.Value
	until time.Time
	read  time.Time
}

// Run speaks on a descriptor until the other end closes it.
func Run(fd int, o Options) error {
	s := &server{Options: o, conn: &conn{fd: fd}, kept: map[string]*kept{}}
	defer s.wipe()
	packet, err := s.conn.receive()
	if err != nil || packet == nil {
		return err
	}
	if s.begin, err = ask.DecodeBegin(packet); err != nil {
		return err
	}
	s.who = book.Who{Sandbox: s.begin.Sandbox, Project: s.begin.Project, Presets: s.begin.Presets}
	ready := s.prepare()
	if packet, err = ask.EncodeReady(ready); err != nil {
		return err
	}
	if err := s.conn.send(packet); err != nil || !ready.Ready {
		return err
	}
	if o.Ready != nil {
		o.Ready()
	}
	watch, err := s.watch()
	if err != nil {
		return err
	}
	defer watch()
	return s.loop()
}

func (s *server) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book.Wipe()
	for _, k := range s.kept {
		k.mu.Lock()
		k.value.Wipe()
		k.mu.Unlock()
	}
}

// prepare finds every entry, and says their shapes; or what is missing, and then nothing runs.
func (s *server) prepare() ask.Ready {
	shapes, err := s.shapes()
	if err != nil {
		r := ask.Ready{Error: cut(err.Error())}
		var p *secret.Problem
		if errors.As(err, &p) {
			r.Hint = cut(p.Help)
		}
		return r
	}
	return ask.Ready{Ready: true, Shapes: shapes}
}

// cut keeps a sentence within what a message may hold.
func cut(sentence string) string {
	if len(sentence) > ask.MaxSentence {
		sentence = strings.ToValidUTF8(sentence[:ask.MaxSentence], "")
	}
	return sentence
}

func (s *server) shapes() (map[string]ask.Shape, error) {
	var err error
	if s.keyed, err = book.Open(s.Place, s.Passphrase); err != nil {
		return nil, err
	}
	s.refresh()
	if s.book == nil {
		return nil, s.wrong
	}
	shapes := map[string]ask.Shape{}
	for _, named := range s.begin.Entries {
		e := s.book.Entry(named.Name)
		if e == nil {
			return nil, problem("casemate secret set "+named.Name, "there is no secret %q in the store", named.Name)
		}
		if err := e.Usable(s.who, time.Now()); err != nil {
			return nil, err
		}
		if !s.somewhere(e, named.Hosts) {
			return nil, problem(fmt.Sprintf("casemate secret grant %s --host %s", named.Name, strings.Join(named.Hosts, " --host ")),
				"no grant of secret %q covers a host that the policy names for it: %s", named.Name, strings.Join(named.Hosts, ", "))
		}
		shapes[named.Name] = e.Shape
		s.kept[named.Name] = &kept{}
	}
	return shapes, nil
}

// somewhere says whether the policy and one of the grants for this sandbox have a host in common. An entry that could never be used is a mistake, which is
// better said now than at the first request.
func (s *server) somewhere(e *book.Entry, hosts []string) bool {
	return slices.ContainsFunc(e.Grants, func(g book.Grant) bool {
		return g.For(s.who, time.Now()) && slices.ContainsFunc(hosts, func(h string) bool {
			return slices.ContainsFunc(g.Hosts, func(granted string) bool { return meet(h, granted) })
		})
	})
}

// meet says whether two host patterns have a host in common.
func meet(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	below := func(name, pattern string) bool { return pattern[0] == '*' && strings.HasSuffix(name, pattern[1:]) }
	return a == b || below(a, b) || below(b, a)
}

func problem(help, format string, args ...any) error {
	return &secret.Problem{Err: fmt.Errorf(format, args...), Help: help}
}

// loop answers until the gate is gone. A gate that sends what is no request has been taken over, or is another version: it gets nothing more.
func (s *server) loop() error {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	defer s.conn.end() // nobody waits for a gate that does not read
	slots := make(chan struct{}, many)
	for {
		packet, err := s.conn.receive()
		if err != nil || packet == nil {
			return err
		}
		r, err := ask.DecodeRequest(packet)
		if err != nil {
			return err
		}
		slots <- struct{}{}
		all.Go(func() {
			s.answer(ctx, r)
			<-slots
		})
	}
}

// answer replies to one request. What changed while it was decided is decided again: once the gate was told that an entry changed, it is never given the value
// from before. An error of sending is the end of the connection, which receive reports.
func (s *server) answer(ctx context.Context, r ask.Request) {
	for sent := false; !sent; {
		s.refresh()
		s.mu.RLock()
		decided := s.changed
		s.mu.RUnlock()
		packet, err := s.give(ctx, r)
		if err != nil {
			packet, err = ask.EncodeReply(ask.Reply{ID: r.ID, Refused: refusal(err)})
		}
		s.mu.RLock()
		if sent = decided == s.changed || err != nil; sent && err == nil {
			_ = s.conn.send(packet)
		}
		s.mu.RUnlock()
		clear(packet)
	}
}

// refusal is what the gate is told, with the way out.
func refusal(err error) string {
	var p *secret.Problem
	if errors.As(err, &p) && p.Help != "" {
		return cut(err.Error() + "; " + p.Help)
	}
	return cut(err.Error())
}

// give decides, notes the use and makes the packet with the value.
func (s *server) give(ctx context.Context, r ask.Request) (packet []byte, err error) {
	note := uses.Use{
		Time: time.Now().UTC(), Entry: r.Entry, Sandbox: s.who.Sandbox, Project: s.who.Project, Host: r.Host, Port: r.Port, Method: r.Method, Path: r.Path,
	}
	err = s.fetch(ctx, r, func(v secret.Value, until time.Time, grant *book.Grant) (err error) {
		note.Grant = grant.ID
		if packet, err = ask.EncodeReply(ask.Reply{ID: r.ID, Value: v, Until: until}); err != nil {
			return err
		}
		return s.Log.Add(note) // what cannot be noted is not given
	})
	if err == nil {
		return packet, nil
	}
	clear(packet)
	note.Refused, note.Grant = err.Error(), 0
	if noted := s.Log.Add(note); noted != nil {
		return nil, errors.Join(err, noted)
	}
	return nil, err
}

// decide says whether the use is one that the policy names and a grant allows, by the file as it is now.
func (s *server) decide(r ask.Request) (book.Entry, *book.Grant, error) {
	i := slices.IndexFunc(s.begin.Entries, func(e ask.Entry) bool { return e.Name == r.Entry })
	if i < 0 {
		return book.Entry{}, nil, fmt.Errorf("the policy names no secret %q", r.Entry)
	}
	if !book.MatchesOne(s.begin.Entries[i].Hosts, r.Host) {
		return book.Entry{}, nil, problem("add it to secrets."+r.Entry+".hosts", "the policy does not name the host %s for secret %q", r.Host, r.Entry)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.book == nil {
		return book.Entry{}, nil, s.wrong
	}
	e := s.book.Entry(r.Entry)
	if e == nil {
		return book.Entry{}, nil, problem("casemate secret set "+r.Entry, "secret %q was removed", r.Entry)
	}
	g, err := e.Find(s.who, book.Use{Host: r.Host, Port: r.Port, Method: r.Method, Path: r.Path}, time.Now())
	return *e, g, err
}

// fetch calls use with the value. It decides again after a store that takes time, because a grant may have been revoked meanwhile.
func (s *server) fetch(ctx context.Context, r ask.Request, use func(secret.Value, time.Time, *book.Grant) error) error {
	e, g, err := s.decide(r)
	if err != nil {
		return err
	}
	k := s.kept[r.Entry]
	k.mu.Lock()
	defer k.mu.Unlock()
	if fresh := stores.Fresh(e.Source.Store); !reflect.DeepEqual(k.entry, e) || time.Since(k.read) >= fresh || book.Expired(k.until, time.Now()) {
		if err := s.load(ctx, k, e); err != nil {
			return err
		}
		s.refresh()
		again, grant, err := s.decide(r)
		if err != nil {
			return err
		}
		if again.Version != e.Version {
			return problem("send the request again", "secret %q was rotated this very moment", r.Entry)
		}
		g = grant
	}
	until := soonest(k.until, e.Expires, g.Expires)
	err = use(k.value, until, g)
	if stores.Fresh(e.Source.Store) == 0 {
		k.value.Wipe()
	}
	return err
}

// load asks the store. k.mu is held.
func (s *server) load(ctx context.Context, k *kept, e book.Entry) error {
	k.value.Wipe()
	k.entry, k.read = book.Entry{}, time.Time{}
	store, err := stores.Open(&e, stores.Host{Getenv: s.Getenv, Value: s.value})
	if err != nil {
		return err
	}
	v, until, err := store.Get(ctx)
	if err != nil {
		return fmt.Errorf("secret %q: %w", e.Name, err)
	}
	if _, err := secret.ShapeOf(v); err != nil {
		v.Wipe()
		return problem("casemate secret rotate "+e.Name, "the value of secret %q cannot be sent: %w", e.Name, err)
	}
	k.value, k.until, k.entry, k.read = v, until, e, time.Now()
	return nil
}

// value copies one out of the book, which may be read anew and wiped at any moment.
func (s *server) value(name string) (secret.Value, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.book == nil {
		return secret.Value{}, s.wrong
	}
	return s.book.Value(name).Copy()
}

func soonest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
