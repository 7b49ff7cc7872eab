// Package serve hands values to the gate of one sandbox, each for a use that the policy names and a grant allows, for as long as the sandbox runs.
package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/login"
	"casemate.dev/internal/secret/uses"
)

// Options say where everything is.
type Options struct {
	Place      book.Place
	Log        uses.Log
	Getenv     func(string) string
	Passphrase book.Ask // nil: nobody can be asked
	Renew      func(context.Context, login.File) error
	Ready      func() // is called once the beginning is over
}

// many is how many uses are looked at at once. The next one waits in the socket.
const many = 16

// How many refusals of a run are noted one by one, and how many uses of each entry: all day, for a program that sends the same request again and again.
const (
	eachUpTo  = 1000
	givenUpTo = 5000
)

type server struct {
	Options
	conn  *conn
	begin ask.Begin
	who   book.Who
	kept  map[string]*kept // of every entry of begin

	refused uses.Tally
	given   map[string]*uses.Tally // of every entry of begin

	keyed *book.Keyed

	mu      sync.RWMutex // guards what follows
	book    *book.Book   // nil: it cannot be read, for the reason wrong
	wrong   error
	seen    book.Stamp // of the file that book was read from
	changed int        // counts what happened to the entries of begin
}

// Run speaks on a descriptor until the other end closes it.
func Run(fd int, o Options) (err error) {
	s := &server{Options: o, conn: &conn{fd: fd}, kept: map[string]*kept{}, refused: uses.Tally{Each: eachUpTo}, given: map[string]*uses.Tally{}}
	defer s.wipe()
	defer func() {
		err = errors.Join(err, s.refused.Rest(s.Log))
		for _, t := range s.given {
			err = errors.Join(err, t.Rest(s.Log))
		}
	}()
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
	var there []ask.Entry
	for _, named := range s.begin.Entries {
		e, err := s.usable(named)
		if err != nil && named.Optional {
			continue
		}
		if err != nil {
			return nil, err
		}
		shapes[named.Name] = e.Shape
		s.kept[named.Name], s.given[named.Name] = &kept{}, &uses.Tally{Each: givenUpTo}
		there = append(there, named)
	}
	s.begin.Entries = there
	return shapes, nil
}

// usable finds an entry that this sandbox may use for a host that the policy names.
func (s *server) usable(named ask.Entry) (*book.Entry, error) {
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
	return e, nil
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
