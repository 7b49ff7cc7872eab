package broker

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"testing"

	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"golang.org/x/sys/unix"
)

// stocked is a broker with a store that gives the value to whoever asks.
func stocked(t testing.TB) *Broker {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range pair {
		file := os.NewFile(uintptr(fd), "store")
		c, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	go func() {
		buf := make([]byte, ask.MaxMessage)
		for {
			n, err := ends[1].Read(buf)
			if err != nil || n == 0 {
				return
			}
			r, err := ask.DecodeRequest(buf[:n])
			if err != nil {
				return
			}
			v, _ := secret.New([]byte(theValue))
			packet, err := ask.EncodeReply(ask.Reply{ID: r.ID, Value: v})
			if err != nil {
				return
			}
			ends[1].Write(packet)
		}
	}()
	var book rules.Book
	book.Replace(wire.Rules{Secrets: []wire.Secret{{Name: "a", Placeholder: thePlaceholder, Hosts: []string{"api.example"}, Ports: []int{443}, Origin: "a test"}}})
	b := New(&book)
	b.Learn()
	b.Store.Connect(ends[0])
	return b
}

// request is what an agent asks, and what becomes of it here: its head, the value, and the answer's head.
func (b *Broker) request(t testing.TB) {
	r, err := http.NewRequest(http.MethodPost, "https://api.example/v1/messages?beta=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{
		"X-Api-Key": {thePlaceholder}, "Accept": {"application/json"}, "User-Agent": {"claude-cli/2.1.330 (external, cli)"}, "Content-Type": {"application/json"},
		"Anthropic-Version": {"2023-06-01"}, "Anthropic-Beta": {"oauth-2025-04-20,interleaved-thinking-2025-05-14"}, "X-Stainless-Arch": {"x64"}, "X-Stainless-Lang": {"js"},
		"X-Stainless-Os": {"Linux"}, "X-Stainless-Retry-Count": {"0"}, "X-Stainless-Runtime": {"node"}, "X-Stainless-Timeout": {"600"}, "Accept-Encoding": {"gzip, deflate, br, zstd"},
	}
	u, leak := b.Read(Site{"api.example", 443, true}, r, rules.Request{Methods: []string{"POST"}, Paths: []string{"/v1/messages"}})
	if leak != nil {
		t.Fatal(leak)
	}
	if err := b.Fetch(context.Background(), u); err != nil {
		t.Fatal(err)
	}
	u.Apply(r.Header, r.URL)
	if r.Header["X-Api-Key"][0] != theValue {
		t.Fatal(r.Header)
	}
	u.Header(b, http.Header{"Content-Type": {"application/json"}, "Request-Id": {"req_0123456789"}, "Date": {"Sun, 22 Nov 2026 17:00:00 GMT"}, "Server": {"cloudflare"}})
	u.End()
}

func BenchmarkRequest(b *testing.B) {
	broker := stocked(b)
	for b.Loop() {
		broker.request(b)
	}
}

// TestCosts counts what each request and each piece of a body would pay for: it was 201 and, for a piece, three copies of it.
func TestCosts(t *testing.T) {
	b := stocked(t)
	if n := testing.AllocsPerRun(200, func() { b.request(t) }); n > 150 {
		t.Errorf("a request makes %.0f allocations", n)
	}
	search := b.Prints.Search()
	piece := bytes.Repeat([]byte(`{"role":"user","content":"a line\nwith \"quotes\" and more"},`+"\n"), 250)
	if n := testing.AllocsPerRun(200, func() { search.Next(piece) }); n > 4 {
		t.Errorf("a piece of a body makes %.0f allocations", n)
	}
}

// BenchmarkScrub is an answer, such as what git fetches, to a request that was given a value.
func BenchmarkScrub(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	piece := make([]byte, 16<<10)
	for i := range piece {
		piece[i] = byte(random.Uint32())
	}
	s := Scrub{list: replacements([]byte(theValue), []byte(thePlaceholder))}
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		s.Next(piece)
	}
}
