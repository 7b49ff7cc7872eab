package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"casemate.dev/internal/gate/wire"
)

const (
	queries   = 2000 // a second; npm's busiest installs make some hundreds
	burst     = 4000
	streams   = 64               // TCP connections at once
	streamEnd = 10 * time.Second // idle time of one
	maxQuery  = 4096             // bytes of a query
)

// Server is the resolver on its sockets. NewServer makes one.
type Server struct {
	*Resolver
	mu   sync.Mutex
	rate rate
}

// NewServer is a server that has answered nothing yet.
func NewServer(r *Resolver) *Server {
	return &Server{Resolver: r, rate: rate{perSecond: queries, burst: burst, left: burst, last: time.Now()}}
}

// answer is Answer within the rate.
func (s *Server) answer(query []byte) []byte {
	s.mu.Lock()
	ok := s.rate.take(time.Now())
	s.mu.Unlock()
	if !ok {
		s.Log.TellOnce(wire.Record{Verdict: wire.Failed, Why: "the sandbox looks names up so fast that some of its queries are not answered"})
		return nil
	}
	return s.Answer(query)
}

// Packets answers on the UDP socket until it is closed.
func (s *Server) Packets(c *net.UDPConn) {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			if over(err) {
				return
			}
			continue
		}
		if reply := s.answer(buf[:n]); reply != nil {
			_, _ = c.WriteToUDPAddrPort(reply, from) // whoever asked has gone
		}
	}
}

// over is false for an error that passes, such as that no descriptor is left: who uses them all up must not end the resolver for good.
func over(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	time.Sleep(20 * time.Millisecond)
	return false
}

// Streams answers on TCP connections until the listener is closed.
func (s *Server) Streams(l *net.TCPListener) {
	slots := make(chan struct{}, streams)
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if over(err) {
				return
			}
			continue
		}
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				s.stream(c)
			}()
		default:
			reset(c)
		}
	}
}

// stream answers one query after the other, in order; whoever sends several at once (RFC 7766, 6.2.1.1) finds the answers waiting.
func (s *Server) stream(c *net.TCPConn) {
	defer c.Close()
	buf := make([]byte, maxQuery)
	for {
		if c.SetDeadline(time.Now().Add(streamEnd)) != nil {
			return
		}
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf))
		if n > len(buf) {
			reset(c)
			return
		}
		if _, err := io.ReadFull(c, buf[:n]); err != nil {
			return
		}
		reply := s.answer(buf[:n])
		if reply == nil {
			reset(c)
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
