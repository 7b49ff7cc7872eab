// Package requests serves a connection that the gate has opened: each of its requests is decided by itself, and those that are allowed are passed on.
package requests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"casemate.dev/internal/gate/broker"
	"casemate.dev/internal/gate/claim"
	"casemate.dev/internal/gate/http1"
	"casemate.dev/internal/gate/rules"
)

// What one connection may hold. The windows are what HTTP/2 may have under way to a peer that is slow; HTTP/1 has nothing but the kernel's buffers.
const (
	streams    = 100
	patience   = 10 * time.Second // for a server's TLS handshake
	fromClient = 128 << 10
	fromServer = 512 << 10
)

// Session is one connection between a client and the host that it looked up. Fill it in, call Secure where it is TLS, then Serve.
type Session struct {
	Name    string // of the host, or its address
	Port    int
	Sandbox string
	Client  net.Conn
	Server  net.Conn
	HTTP2   bool          // without TLS; Secure sets it too
	Idle    time.Duration // without a request
	Head    time.Duration // for a client that has begun one

	// Decide is asked about each request, and again about those under way when the rules have changed.
	Decide func(rules.Request) rules.Decision
	// Broker puts credentials in, and finds placeholders; nil where the sandbox has none.
	Broker *broker.Broker
	// Denied is told of each that is denied. path has no query.
	Denied func(method, path string, d rules.Decision)

	secure     bool
	broken     error // why there is no server: every request that is allowed is answered with it
	asked      bool  // the server asked for a certificate of the client's
	plain      *http1.Conn
	upstream   *http.ClientConn
	mu         sync.Mutex
	none       sync.Cond // when a flight has ended
	flights    map[*flight]struct{}
	allowed    int
	answered   bool
	complained error // the last thing that went wrong with the server
}

// flight is a request under way.
type flight struct {
	rules.Request
	method, path string
	cancel       context.CancelCauseFunc
	told         bool // the client, that it is not allowed any more
	use          *broker.Use
}

// ended is the cause of a request's end where the rules have changed.
type ended struct{ d rules.Decision }

func (e *ended) Error() string { return e.d.Why }

// Serve answers requests until either side ends or ctx does. It closes the client's connection, and returns when nothing of it is left.
func (s *Session) Serve(ctx context.Context) {
	client := s.Client
	if !s.HTTP2 {
		s.plain = http1.New(client, nil, s.agree, s.Head, !s.secure)
		client = s.plain
	}
	server := s.server(ctx)
	if s.broken == nil {
		s.connect(ctx, func() { go server.Shutdown(ctx) })
	}
	one := newListener(client)
	_ = server.Serve(one) // it says that there are no more connections
	one.abandon()
	<-one.ended
	s.mu.Lock()
	for len(s.flights) > 0 {
		s.none.Wait()
	}
	s.mu.Unlock()
	if s.upstream != nil {
		s.upstream.Close()
	}
}

// server reads the client.
func (s *Session) server(ctx context.Context) *http.Server {
	protocols, head := new(http.Protocols), s.Head
	if s.HTTP2 {
		protocols.SetUnencryptedHTTP2(true) // TLS, if any, is done
	} else {
		protocols.SetHTTP1(true)
		head = s.Idle // http1 sees to it
	}
	return &http.Server{
		Handler: s, Protocols: protocols, BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: silent(),
		MaxHeaderBytes: http1.Max, ReadHeaderTimeout: head, IdleTimeout: s.Idle, DisableGeneralOptionsHandler: true,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams, MaxReceiveBufferPerConnection: fromClient, MaxReceiveBufferPerStream: fromClient},
	}
}

func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// ServeHTTP is called for each request.
func (s *Session) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.plain != nil {
		defer s.plain.Answered()
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if s.plain != nil && s.plain.Refusal() != nil && r.Method == http1.RefusedMethod {
		r.Method, path = "", "" // it stands for one that could not be read
	}
	ask := request(r, path)
	use, leak := s.examine(r, ask)
	if leak != nil {
		s.alarm(w, r, path, leak)
		return
	}
	if no := s.refusal(r); no != nil {
		s.deny(w, r, path, no.Status, rules.Decision{Why: no.Err.Error()})
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	f := &flight{Request: ask, method: r.Method, path: path, cancel: cancel, use: use}
	s.begin(f)
	defer s.end(f)
	if d := s.Decide(f.Request); !d.Allowed { // after begin, so that no change of the rules is missed
		s.deny(w, r, path, http.StatusForbidden, d)
		return
	}
	if s.broken != nil {
		s.answer(w, r, path, http.StatusBadGateway, "casemate cannot reach the host", s.broken.Error(), "")
		return
	}
	r = r.WithContext(ctx)
	if s.Broker != nil {
		defer use.End()
		scrubbed, release, ready := s.prepare(w, r, f)
		defer release()
		if !ready {
			return
		}
		w = scrubbed
	}
	s.count()
	s.pass(w, r, f)
}

// refusal is about requests that no rule can allow.
func (s *Session) refusal(r *http.Request) *http1.Refusal {
	switch {
	case r.Method == "":
		return s.plain.Refusal()
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return &http1.Refusal{Status: http.StatusMethodNotAllowed, Err: errors.New(r.Method + " is refused on every connection that the gate opens")}
	case r.URL.Opaque != "" || r.URL.Scheme != "" && (s.HTTP2 || r.URL.Scheme != "http" && r.URL.Scheme != "https") || r.URL.User != nil:
		return &http1.Refusal{Status: http.StatusBadRequest, Err: fmt.Errorf("the request's target %.80q is ambiguous", r.RequestURI)}
	case s.HTTP2:
		return s.misdirected(r)
	}
	return nil
}

// misdirected is for HTTP/2; for HTTP/1 the head was read before.
func (s *Session) misdirected(r *http.Request) *http1.Refusal {
	said := claim.Claim{Protocol: claim.HTTP}
	for _, text := range append([]string{r.Host}, r.Header["Host"]...) {
		h, err := claim.Authority(text)
		if err != nil {
			return &http1.Refusal{Status: http.StatusBadRequest, Err: err}
		}
		said.Hosts = append(said.Hosts, h)
	}
	if err := s.agree(said); err != nil {
		return &http1.Refusal{Status: http.StatusMisdirectedRequest, Err: err}
	}
	return nil
}

func (s *Session) agree(c claim.Claim) error { return c.Agree(s.Name, s.Port) }

// request is what the rules are asked: about the path as it came, and as it will be sent if that is spelled otherwise. Frameworks let a POST carry another method or path in its header, and some do so unasked.
func request(r *http.Request, path string) rules.Request {
	ask := rules.Request{Methods: []string{r.Method}, Paths: []string{path}}
	if u, err := url.Parse(path); err == nil && u.IsAbs() { // the absolute form, whose host was compared
		ask.Paths[0] = "/" + strings.TrimPrefix(u.EscapedPath(), "/")
	}
	if sent := r.URL.EscapedPath(); sent != ask.Paths[0] && sent != "" {
		ask.Paths = append(ask.Paths, sent)
	}
	for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
		for _, method := range r.Header[name] {
			ask.Methods = append(ask.Methods, strings.ToUpper(strings.TrimSpace(method)))
		}
	}
	for _, name := range []string{"X-Original-Url", "X-Rewrite-Url"} {
		for _, text := range r.Header[name] {
			other, _, _ := strings.Cut(text, "?")
			ask.Paths = append(ask.Paths, other)
		}
	}
	return ask
}

func (s *Session) begin(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights == nil {
		s.flights, s.none.L = map[*flight]struct{}{}, &s.mu
	}
	s.flights[f] = struct{}{}
}

func (s *Session) end(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flights, f)
	s.none.Broadcast()
}

func (s *Session) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed++
}

// Reconsider ends the requests under way that the rules do not allow any more.
func (s *Session) Reconsider() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.flights {
		if d := s.Decide(f.Request); !d.Allowed {
			d.Why = "its rule holds no more: " + d.Why
			f.cancel(&ended{d})
			s.Denied(f.method, f.path, d)
		}
	}
}

// Allowed is how many requests were passed on.
func (s *Session) Allowed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allowed
}

// Failure is why no request was ever answered by the host; nil where one was, or none was sent.
func (s *Session) Failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.answered:
		return nil
	case s.complained != nil:
		return s.complained
	}
	return s.broken
}

func (s *Session) address() string { return net.JoinHostPort(s.Name, strconv.Itoa(s.Port)) }
