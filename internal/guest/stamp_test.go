package guest

import (
	"testing"
	"time"
)

func FuzzDecode(f *testing.F) {
	s := newStamp()
	s.watch("/nowhere/at/all")
	f.Add(s.encode([]byte("result")))
	f.Add([]byte(stampMagic + "\x001\x002\x0099999999999\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { decode(b, time.Now()) })
}

func TestStamp(t *testing.T) {
	dir := tree(t, map[string]string{"a": "1", "d/": ""})
	s := newStamp()
	s.watch(dir + "/a")
	s.watch(dir + "/absent")
	if _, ok := decode(s.encode(nil), time.Now()); ok {
		t.Error("believed although the file was made a moment before")
	}
	s.built = s.built.Add(time.Second) // as if it had been looked at later
	data := s.encode([]byte("result"))
	if got, ok := decode(data, time.Now().Add(time.Second)); !ok || string(got) != "result" {
		t.Errorf("%q, %v", got, ok)
	}
	for name, now := range map[string]time.Time{"too old": time.Now().Add(maxAge + time.Minute), "from the future": time.Now().Add(-time.Hour)} {
		if _, ok := decode(data, now); ok {
			t.Errorf("believed: %s", name)
		}
	}
	plant(t, dir, map[string]string{"absent": "now it is there"})
	if _, ok := decode(data, time.Now()); ok {
		t.Error("believed although an absent file came to be")
	}
}
