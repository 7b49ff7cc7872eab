package guest

import (
	"reflect"
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

func TestViewRecord(t *testing.T) {
	v := View{
		System:  []Place{{Target: "/usr", Source: "/usr", Dev: 1 << 40, Ino: 7, Hide: []string{"/usr/etc/npmrc"}}, {Target: "/bin", Source: "usr/bin", Link: true}},
		Tools:   []Tool{{Name: "n", Why: "w", Places: []Place{{Target: "/t", Source: "/s", File: true}}, Env: []Variable{{"A", "", "c"}}}, {Name: "m"}},
		Path:    "/usr/bin",
		Refused: []Refusal{{"/x", "y"}},
	}
	if got, ok := viewOf(v.record()); !ok || !reflect.DeepEqual(got, v) {
		t.Errorf("%v %+v", ok, got)
	}
	for n := range v.record() {
		if _, ok := viewOf(v.record()[:n]); ok {
			t.Errorf("believed when cut after %d bytes", n)
		}
	}
}

func FuzzViewOf(f *testing.F) {
	f.Add(View{Path: "/usr/bin", System: []Place{{Target: "/usr"}}}.record())
	f.Add([]byte("zzzzzz\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, ok := viewOf(b); ok {
			if again, ok := viewOf(v.record()); !ok || !reflect.DeepEqual(v, again) {
				t.Errorf("%+v became %+v", v, again)
			}
		}
	})
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
