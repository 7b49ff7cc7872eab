package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// frame is one of a WebSocket, masked as a client's are.
func frame(code byte, mask uint32, payload string) string {
	head := []byte{code, 0x80 | byte(len(payload))}
	if len(payload) > 125 {
		head = binary.BigEndian.AppendUint16([]byte{code, 0x80 | 126}, uint16(len(payload)))
	}
	key := binary.BigEndian.AppendUint32(nil, mask)
	text := []byte(payload)
	for i := range text {
		text[i] ^= key[i&3]
	}
	return string(head) + string(key) + string(text)
}

// unframed reads a server's frames until one holds the mark, or the connection ends.
func unframed(r *bufio.Reader, mark string) string {
	var all strings.Builder
	for !strings.Contains(all.String(), mark) {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			return all.String()
		}
		text := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(r, text); err != nil {
			return all.String()
		}
		all.Write(text)
	}
	return all.String()
}

// TestWebSocketFrames: its handshake may have the secret; no frame may, masked, split over frames or around another one, or over reads; and what comes back
// is overwritten (E60).
func TestWebSocketFrames(t *testing.T) {
	heard := make(chan string, 100)
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != brokered || r.Header.Get("Sec-Websocket-Extensions") != "" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		c, rest, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Echo: "+brokered+"\r\n\r\n")
		fmt.Fprintf(c, "\x81%c%s", len("hello "+brokered+" end"), "hello "+brokered+" end")
		var all strings.Builder
		defer func() { heard <- all.String() }()
		for {
			head := make([]byte, 6)
			if _, err := io.ReadFull(rest, head); err != nil {
				return
			}
			text := make([]byte, head[1]&0x7f)
			if _, err := io.ReadFull(rest, text); err != nil {
				return
			}
			for i := range text {
				text[i] ^= head[2+i&3]
			}
			all.Write(text)
		}
	})
	b, _ := withSecret(t, "", nil, allow("api.example.com", 443))
	for name, c := range map[string]struct {
		pieces []string
		whole  bool // it gets through
	}{
		"fine":                     {[]string{frame(0x81, 7, "something else"), frame(0x88, 9, "")}, true},
		"text":                     {[]string{frame(0x81, 0x12345678, standIn)}, false},
		"binary":                   {[]string{frame(0x82, 0xdeadbeef, "\x00\xff"+standIn+"\x00")}, false},
		"split over frames":        {[]string{frame(0x01, 1<<31+1, standIn[:17]), frame(0x80, 77777, standIn[17:])}, false},
		"around a ping":            {[]string{frame(0x01, 5, standIn[:17]), frame(0x89, 6, "ping"), frame(0x80, 7, standIn[17:])}, false},
		"in a ping":                {[]string{frame(0x89, 0x01020304, standIn)}, false},
		"over reads":               {strings.SplitAfter(frame(0x82, 0x0a0b0c0d, standIn), ""), false},
		"the value":                {[]string{frame(0x81, 0x55aa55aa, brokered)}, false},
		"not masked":               {[]string{"\x81" + string(rune(len(standIn))) + standIn}, false},
		"a compressed frame":       {[]string{frame(0xc1, 3, "anything")}, false},
		"a frame of no known kind": {[]string{frame(0x83, 3, "anything")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn := b.secure("http/1.1")
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(conn, "GET /v1/socket HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\nX-Api-Key: "+standIn+"\r\n\r\n")
			in := bufio.NewReader(conn)
			answer, err := http.ReadResponse(in, nil)
			if err != nil || answer.StatusCode != 101 || answer.Header.Get("X-Echo") != standIn {
				t.Fatalf("%+v %v", answer, err)
			}
			if got := unframed(in, " end"); got != "hello "+strings.Repeat("*", len(brokered))+" end" {
				t.Errorf("it was told %q", got)
			}
			for _, p := range c.pieces {
				if _, err := io.WriteString(conn, p); err != nil {
					break
				}
			}
			if c.whole {
				conn.Close()
			} else if _, err := io.Copy(io.Discard, in); isLate(err) {
				t.Error("it was not ended")
			}
			select {
			case got := <-heard:
				if strings.Contains(got, standIn) || strings.Contains(got, brokered) || c.whole && got != "something else" {
					t.Errorf("the host heard %q", got)
				}
			case <-time.After(20 * time.Second):
				t.Error("the host's side was not ended")
			}
		})
	}
	b.await("the alarm", alarmed("a frame of the WebSocket"))
	b.quiet()
}

func isLate(err error) bool {
	late, ok := err.(net.Error)
	return ok && late.Timeout()
}
