package broker

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/rules"
)

// TestUnreadBodies: nothing is left of a compressed body that nobody reads to its end and nobody closes, as of a request that the store refuses, or of HTTP/2
// with a length of 0. What runs inside can send as many of these as it likes.
func TestUnreadBodies(t *testing.T) {
	b := New(new(rules.Book))
	for _, length := range []int64{0, -1, maxWhole + 1} {
		for range 20 {
			r, err := http.NewRequest("POST", "https://api.example.com/", struct{ *strings.Reader }{strings.NewReader("not gzip")})
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = length
			r.Header.Set("Content-Encoding", "gzip")
			found, release := b.Hold(r, func(*Leak) {})
			if found != nil {
				t.Fatal(found)
			}
			if length < 0 { // of some, a piece was read
				var some [3]byte
				if _, err := r.Body.Read(some[:]); err != nil {
					t.Fatal(err)
				}
			}
			release()
		}
	}
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		n := strings.Count(string(stacks), "unpacker).run(")
		if n == 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d bodies are still being undone", n)
		}
	}
}
