package requests

import (
	"context"
	"errors"
	"io"
	"net/http"

	"casemate.dev/internal/gate/broker"
	"casemate.dev/internal/gate/rules"
)

func (s *Session) site() broker.Site {
	return broker.Site{Host: s.Name, Port: s.Port, Secure: s.secure}
}

// examine finds placeholders in a request's head.
func (s *Session) examine(r *http.Request, ask rules.Request) (*broker.Use, *broker.Leak) {
	if s.Broker == nil {
		return nil, nil
	}
	return s.Broker.Read(s.site(), r, ask)
}

// alarm turns a request away that leaks, and tells of it. No rule would allow it.
func (s *Session) alarm(w http.ResponseWriter, r *http.Request, path string, l *broker.Leak) {
	if s.Broker.In(path, "") != nil {
		path = s.Broker.Shown(path)
	}
	if s.Broker.In(r.Method, "") != nil {
		r.Method = ""
	}
	s.Denied(r.Method, path, l.Decision())
	s.answer(w, r, path, http.StatusForbidden, denied, l.Error(), "")
}

// prepare looks through the body of a request that is allowed, and fetches what is to be put in. It is false where the request was answered.
func (s *Session) prepare(w http.ResponseWriter, r *http.Request, f *flight) (scrubbed http.ResponseWriter, release func(), ready bool) {
	leaked := func(l *broker.Leak) {
		s.Denied(f.method, f.path, l.Decision())
		f.cancel(l)
	}
	leak, release := s.Broker.Hold(r, leaked)
	if leak != nil {
		release()
		s.alarm(w, r, f.path, leak)
		return nil, func() {}, false
	}
	if err := s.Broker.Check(r, f.use, leaked); err != nil {
		s.unsigned(w, r, f, err)
		return nil, release, false
	}
	if err := s.Broker.Fetch(r.Context(), f.use); err != nil {
		status, what := http.StatusBadGateway, "casemate has no credential for this request"
		if errors.As(err, new(*broker.Refused)) {
			status, what = http.StatusForbidden, denied
		}
		s.Denied(f.method, f.path, rules.Decision{Why: err.Error()})
		s.answer(w, r, f.path, status, what, err.Error(), "")
		return nil, release, false
	}
	return &scrubbing{w, s.Broker, f.use}, release, true
}

// unsigned answers a request whose signature is not made anew.
func (s *Session) unsigned(w http.ResponseWriter, r *http.Request, f *flight, err error) {
	var leak *broker.Leak
	var no *broker.TooMuch
	switch {
	case errors.As(context.Cause(r.Context()), &leak): // it was in the body, and is told
		s.answer(w, r, f.path, http.StatusForbidden, denied, leak.Error(), "")
	case errors.As(err, &leak):
		s.alarm(w, r, f.path, leak)
	case errors.As(err, &no):
		s.Denied(f.method, f.path, rules.Decision{Why: no.Why})
		s.answer(w, r, f.path, no.Status, denied, no.Why, "")
	default: // its body did not come
		panic(http.ErrAbortHandler)
	}
}

// inject puts the credentials in, in what goes out.
func (s *Session) inject(out *http.Request, f *flight) {
	s.Broker.Ask(s.site(), out.Header)
	if webSocket(out) {
		out.Header.Del("Sec-Websocket-Extensions") // or its frames were compressed
	}
	f.use.Apply(out.Header, out.URL)
	f.use.Sign(out)
}

// scrub takes the credentials out of an answer.
func (s *Session) scrub(answer *http.Response, f *flight) error {
	var leak *broker.Leak
	if errors.As(context.Cause(answer.Request.Context()), &leak) { // the host has answered what it got of a request that was ended
		return leak
	}
	f.use.Header(s.Broker, answer.Header)
	told := func(l *broker.Leak) { s.Denied(f.method, f.path, l.Decision()) }
	if answer.StatusCode == http.StatusSwitchingProtocols {
		if c, ok := answer.Body.(io.ReadWriteCloser); ok {
			answer.Body = s.Broker.Tunnel(c, told)
		}
		return nil
	}
	return f.use.Answer(s.Broker, answer, func(name string) {
		told(&broker.Leak{Found: broker.Found{Name: name, Value: true}, Where: "an answer of the host to a request that was given none, where it was overwritten"})
	})
}

// scrubbing is a client that is told no credential, not even by an answer that comes before the answer (1xx).
type scrubbing struct {
	http.ResponseWriter
	broker *broker.Broker
	use    *broker.Use
}

func (s *scrubbing) WriteHeader(status int) {
	s.use.Header(s.broker, s.Header())
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (s *scrubbing) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// stopped says whether a request was ended by the gate.
func stopped(cause error) bool {
	return errors.As(cause, new(*ended)) || errors.As(cause, new(*broker.Leak))
}
