package requests

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"casemate.dev/internal/gate/broker"
	"casemate.dev/internal/gate/http1"
)

// connect makes the server's side: this one connection and no other. gone is called when it can take no more requests and nothing is under way, so that
// the client hears of it.
func (s *Session) connect(ctx context.Context, gone func()) {
	protocols := new(http.Protocols)
	scheme := "http"
	switch {
	case s.secure:
		scheme = "https"
		protocols.SetHTTP1(true)
		protocols.SetHTTP2(true)
	case s.HTTP2:
		protocols.SetUnencryptedHTTP2(true)
	default:
		protocols.SetHTTP1(true)
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return s.Server, nil }
	t := &http.Transport{
		DialContext: dial, DialTLSContext: dial, Protocols: protocols,
		DisableCompression: true, MaxResponseHeaderBytes: http1.Max, ExpectContinueTimeout: time.Second,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: fromServer, MaxReceiveBufferPerStream: fromServer},
	}
	var err error
	if s.upstream, err = t.NewClientConn(ctx, scheme, s.address()); err != nil {
		s.broken = err
		return
	}
	s.upstream.SetStateHook(func(c *http.ClientConn) {
		if spent(c) && !s.awaitsRefusal() {
			gone()
		}
	})
}

// awaitsRefusal says that a server has ended because the client has no certificate for it, most likely: the first request is answered with that.
func (s *Session) awaitsRefusal() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked && !s.answered && s.complained == nil
}

// spent says that a connection takes no more requests, and has none under way.
func spent(c *http.ClientConn) bool { return c.Err() != nil || c.Available() == 0 && c.InFlight() == 0 }

// promptly is how long the bytes of an answer wait for more, where it has said its length. One that has not, such as an event stream, never waits
// (httputil.ReverseProxy); the most that have are whole by then, and go out in one piece.
const promptly = 2 * time.Millisecond

// pass passes a request on and the answer back, both as they are but for what is about one connection only (RFC 9110, 7.6.1).
func (s *Session) pass(w http.ResponseWriter, r *http.Request, f *flight) {
	if r.ProtoMajor == 1 {
		_ = http.NewResponseController(w).EnableFullDuplex() // both ways at once, as the host may do
	}
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { s.rewrite(p, f) }, Transport: s.upstream, FlushInterval: promptly, BufferPool: buffers{}, ErrorLog: silent(),
		ModifyResponse: func(answer *http.Response) error {
			s.mend(w, answer)
			if s.Broker != nil {
				return s.scrub(answer, f)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { s.fail(w, r, f, err) },
	}
	proxy.ServeHTTP(w, r)
	if s.Broker != nil {
		f.use.Header(s.Broker, w.Header()) // trailers, which go out when this returns
	}
	if stopped(context.Cause(r.Context())) && !f.told { // as the gate left it the host may have ended its answer in good order; it is not whole
		panic(http.ErrAbortHandler)
	}
}

// rewrite undoes what ReverseProxy does to a request beyond what it must.
func (s *Session) rewrite(p *httputil.ProxyRequest, f *flight) {
	in, out := p.In, p.Out
	if out.URL.Scheme = "http"; s.secure {
		out.URL.Scheme = "https"
	}
	out.URL.Host, out.Host = s.address(), in.Host
	out.URL.RawQuery = in.URL.RawQuery
	out.Trailer = in.Trailer // filled in when the body has been read
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := in.Header[name]; ok {
			out.Header[name] = values
		}
	}
	if !webSocket(in) { // bytes after another upgrade might be requests that nobody decides about, h2c's are
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
	}
	if s.Broker != nil {
		s.inject(out, f)
	}
}

// webSocket says whether a request asks for one (RFC 6455, 4.1).
func webSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && r.ContentLength == 0 && len(r.Header["Upgrade"]) == 1 && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// mend keeps net/http from adding to an answer, and tells the client of the server's end.
func (s *Session) mend(w http.ResponseWriter, answer *http.Response) {
	s.mu.Lock()
	s.answered = true
	s.mu.Unlock()
	if answer.StatusCode == http.StatusSwitchingProtocols {
		if s.plain != nil {
			s.plain.Raw()
		}
		return
	}
	for _, name := range []string{"Date", "Content-Type"} {
		if _, ok := answer.Header[name]; !ok {
			w.Header()[name] = nil
		}
	}
	if answer.Close || s.upstream.Err() != nil {
		w.Header().Set("Connection", "close")
	}
}

// fail is for a request without an answer. Where the connection has served before, it ends as the server's did: clients know what they may send again then.
func (s *Session) fail(w http.ResponseWriter, r *http.Request, f *flight, err error) {
	var no *ended
	var leak *broker.Leak
	switch cause := context.Cause(r.Context()); {
	case errors.As(cause, &no): // the record was told of it, and of the next
		f.told = true
		s.answer(w, r, f.path, http.StatusForbidden, denied, no.d.Why, s.allowing(f.method, f.path))
		return
	case errors.As(cause, &leak):
		f.told = true
		if s.plain != nil { // the host's connection ended with the half of a request that it got
			w.Header().Set("Connection", "close")
		}
		s.answer(w, r, f.path, http.StatusForbidden, denied, leak.Error(), "")
		return
	case errors.As(err, new(*broker.Unreadable)):
		s.answer(w, r, f.path, http.StatusBadGateway, "casemate cannot pass the answer on", err.Error(), "")
		return
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	answered := s.answered
	if !answered {
		err = s.explain(err)
	}
	if s.Broker != nil {
		err = errors.New(f.use.Text(s.Broker, err.Error())) // it may quote what the host said
	}
	s.complained = err
	s.mu.Unlock()
	if answered {
		panic(http.ErrAbortHandler)
	}
	s.answer(w, r, f.path, http.StatusBadGateway, "casemate cannot reach the host", err.Error(), "")
}

// buffers lends what bodies are copied with.
type buffers struct{}

var pool = sync.Pool{New: func() any { return new([16 << 10]byte) }}

func (buffers) Get() []byte { return pool.Get().(*[16 << 10]byte)[:] }

func (buffers) Put(b []byte) { pool.Put((*[16 << 10]byte)(b)) }
