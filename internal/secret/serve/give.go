package serve

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/stores"
	"casemate.dev/internal/secret/uses"
)

// kept is a value of a store that takes time, for as long as it is fresh.
type kept struct {
	mu    sync.Mutex // held while the store is asked, so that a person is asked once
	entry book.Entry
	value secret.Value
	until time.Time
	read  time.Time
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

// withheld is an error whose words are for the person alone: what they call things in their password manager, or where their server is.
type withheld struct {
	error
	name string
}

func (w *withheld) Unwrap() error { return w.error }

// refusal is what the gate is told, with the way out. The sandbox reads it too.
func refusal(err error) string {
	var w *withheld
	if errors.As(err, &w) {
		return cut(fmt.Sprintf("secret %q cannot be read where it lies (casemate secret uses %s says why)", w.name, w.name))
	}
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
		return s.given[r.Entry].note(s.Log, note) // what cannot be noted is not given
	})
	if err == nil {
		return packet, nil
	}
	clear(packet)
	note.Refused, note.Grant = err.Error(), 0
	return nil, errors.Join(err, s.refused.note(s.Log, note))
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
	store, err := stores.Open(&e, stores.Host{Getenv: s.Getenv, Value: s.value, Renew: s.Renew})
	if err != nil {
		return err
	}
	v, until, err := stores.Get(ctx, store, &e)
	if err != nil {
		if err = fmt.Errorf("secret %q: %w", e.Name, err); e.Source.Store != book.Login { // whose words are to log in again
			err = &withheld{err, e.Name}
		}
		return err
	}
	if _, err := secret.ShapeOf(e.Kind, v); err != nil {
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
