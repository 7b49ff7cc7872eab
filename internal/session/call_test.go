package session

import (
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/store"
)

// TestHaste: a sandbox calls others as often as it may in a second, and again in the next.
func TestHaste(t *testing.T) {
	var h haste
	now := time.Now()
	for second := range 3 {
		allowed := 0
		for i := range 3 * perSecond {
			if h.allows(now.Add(time.Duration(second)*time.Second + time.Duration(i)*time.Microsecond)) {
				allowed++
			}
		}
		if allowed != perSecond {
			t.Errorf("second %d: %d calls", second, allowed)
		}
	}
}

// TestOtherSide: what a gate says of another sandbox is put on that one's record only if it was connected with it.
func TestOtherSide(t *testing.T) {
	g := &gateway{run: &Run{Options: Options{Name: "web"}, Box: &store.Sandbox{Record: store.Record{ID: "aaaaaaaa"}}}, met: map[string]bool{"bbbbbbbb": true}}
	r := wire.Record{ID: 7, Verdict: wire.Closed, Name: "api", Port: 8080, Peer: "bbbbbbbb", Sent: 1, Got: 2}
	o, ok := g.otherSide(r)
	if !ok || o.Sandbox != "bbbbbbbb" || o.Peer != "aaaaaaaa" || !o.Inward || o.Sent != 2 || o.Got != 1 || o.ID == r.ID || o.Shown() != "from web to :8080" {
		t.Errorf("%+v %v", o, ok)
	}
	for _, peer := range []string{"", "cccccccc"} {
		r.Peer = peer
		if o, ok := g.otherSide(r); ok {
			t.Errorf("%q: %+v", peer, o)
		}
	}
}

// TestCheckName: a sandbox has no name by which no program would reach it.
func TestCheckName(t *testing.T) {
	for name, want := range map[string]bool{
		"": true, "db": true, "db-2": true, "2db": true, "7f": true, "localhost": false, "-a": false, "A": false, "a.b": false, "../x": false,
		"127": false, "0": false, "0x7f": false, "0177": false, "99999999999999999999999999": false,
	} {
		if err := checkName(name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}
