package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
)

// processor is the time that the gate has used, in hundredths of a second.
func (b *box) processor() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.gate.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')'):])
	user, _ := strconv.ParseFloat(string(fields[12]), 64)
	system, _ := strconv.ParseFloat(string(fields[13]), 64)
	return user + system
}

// ways are through the gate, and from its place without it.
func ways(b *testing.B, port int, do func(b *testing.B, dial func() net.Conn)) {
	outside.name("a.example.com", "203.0.113.5")
	b.Run("gate", func(b *testing.B) {
		box := open(b, rulesOf(allow("a.example.com", port)))
		box.dial("a.example.com", port, v4).Close()
		before := box.processor()
		do(b, func() net.Conn { return box.dial("a.example.com", port, v4) })
		b.ReportMetric((box.processor()-before)*10/float64(b.N), "gate-ms/op")
		b.ReportMetric(float64(box.memory()), "gate-kB")
	})
	b.Run("direct", func(b *testing.B) {
		do(b, func() net.Conn {
			c, err := net.Dial("tcp", "203.0.113.5:"+strconv.Itoa(port))
			if err != nil {
				b.Fatal(err)
			}
			return c
		})
	})
}

// BenchmarkReply is a look-up inside, a connection and one reply.
func BenchmarkReply(b *testing.B) {
	outside.serve(b, "203.0.113.5:443", echo)
	ways(b, 443, func(b *testing.B, dial func() net.Conn) {
		for b.Loop() {
			c := dial().(*net.TCPConn)
			if err := ping(c); err != nil {
				b.Fatal(err)
			}
			c.SetLinger(0) // or ports run out
			c.Close()
		}
	})
}

// BenchmarkBulk is 64 MiB down one connection.
func BenchmarkBulk(b *testing.B) {
	const size = 64 << 20
	outside.serve(b, "203.0.113.5:5432", func(c *net.TCPConn) {
		block := make([]byte, 256<<10)
		io.ReadFull(c, block[:1])
		for range size / len(block) {
			c.Write(block)
		}
	})
	ways(b, 5432, func(b *testing.B, dial func() net.Conn) {
		b.SetBytes(size)
		buf := make([]byte, 256<<10)
		for b.Loop() {
			c := dial()
			c.Write([]byte{0})
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf)
			if n != size || err != nil {
				b.Fatal(n, err)
			}
			c.Close()
		}
	})
}
