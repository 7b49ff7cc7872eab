package ask

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/secret"
)

func value(t testing.TB, b []byte) secret.Value {
	t.Helper()
	v, err := secret.New(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func shape(prefix string, length int, alphabet string) Shape {
	return Shape{Prefix: prefix, Length: length, Alphabet: alphabet}
}

func bytesOf(t testing.TB, v secret.Value) []byte {
	t.Helper()
	var got []byte
	if err := v.Use(func(b []byte) error { got = bytes.Clone(b); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestWire fixes the form of the messages: gate, supervisor and store may be built from different changes of one tree.
func TestWire(t *testing.T) {
	until := time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, want string
		encode     func() ([]byte, error)
	}{
		{"request", `{"id":7,"entry":"anthropic","host":"api.anthropic.com","port":443,"method":"POST","path":"/v1/messages"}`, func() ([]byte, error) {
			return EncodeRequest(Request{ID: 7, Entry: "anthropic", Host: "api.anthropic.com", Port: 443, Method: "POST", Path: "/v1/messages"})
		}},
		{"value", `{"id":7,"until":"2026-11-22T15:00:00Z","value":"c2stMQ=="}`, func() ([]byte, error) {
			return EncodeReply(Reply{ID: 7, Until: until, Value: value(t, []byte("sk-1"))})
		}},
		{"refused", `{"id":7,"refused":"no grant"}`, func() ([]byte, error) { return EncodeReply(Reply{ID: 7, Refused: "no grant"}) }},
		{"changed", `{"changed":"anthropic"}`, func() ([]byte, error) { return EncodeReply(Reply{Changed: "anthropic"}) }},
		{"begin", `{"sandbox":"a1","project":"/p","presets":["claude"],"entries":[{"name":"anthropic","env":"KEY","hosts":["h"]}]}`, func() ([]byte, error) {
			return EncodeBegin(Begin{"a1", "/p", []string{"claude"}, []Entry{{Name: "anthropic", Env: "KEY", Hosts: []string{"h"}}}})
		}},
		{"ready", `{"ready":true,"shapes":{"anthropic":{"prefix":"sk-","length":10,"alphabet":"ab"}}}`, func() ([]byte, error) {
			return EncodeReady(Ready{Ready: true, Shapes: map[string]Shape{"anthropic": shape("sk-", 10, "ab")}})
		}},
		{"beginning of ssh", `{"logins":[{"keys":["k"],"hosts":["h"],"ports":[22],"origin":"o"}]}`, func() ([]byte, error) {
			return EncodeSSHBegin(SSHBegin{[]Login{{[]string{"k"}, []string{"h"}, []int{22}, "o"}}})
		}},
		{"ready for ssh", `{"ready":true,"known_hosts":"h ssh-ed25519 A\n"}`, func() ([]byte, error) { return EncodeSSHReady(SSHReady{Ready: true, KnownHosts: "h ssh-ed25519 A\n"}) }},
		{"signing", `{"id":7,"login":1,"host":"h","port":22,"user":"git","key":"SHA256:x","agent":true}`, func() ([]byte, error) {
			return EncodeSigning(Signing{ID: 7, Login: 1, Host: "h", Port: 22, User: "git", Key: "SHA256:x", Agent: true})
		}},
		{"permit", `{"id":7,"refused":"no"}`, func() ([]byte, error) { return EncodePermit(Permit{7, "no"}) }},
		{"error", `{"error":"no entry","hint":"set it"}`, func() ([]byte, error) { return EncodeReady(Ready{Error: "no entry", Hint: "set it"}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.encode()
			if err != nil || string(got) != c.want {
				t.Errorf("%s\n%v, want\n%s", got, err, c.want)
			}
		})
	}
}

func TestReplyKeepsNoCopy(t *testing.T) {
	packet, err := EncodeReply(Reply{ID: 1, Value: value(t, []byte("sk-ant-1"))})
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeReply(packet)
	if err != nil || string(bytesOf(t, r.Value)) != "sk-ant-1" {
		t.Fatalf("%v, %v", r, err)
	}
	if strings.Trim(string(packet), "\x00") != "" {
		t.Errorf("the packet still holds %q", packet)
	}
	if text := fmt.Sprintf("%v %+v %#v", r, r, &r); strings.Contains(text, "sk-ant") {
		t.Error(text)
	}
}

// TestLargest sends the most that the bounds allow, in the characters that JSON makes longest: it still fits.
func TestLargest(t *testing.T) {
	long := func(n int) string { return strings.Repeat("<", n) } // six bytes each in JSON
	if _, err := EncodeRequest(Request{1<<64 - 1, "e", long(MaxHost), 65535, long(MaxMethod), "/" + long(MaxPath-1)}); err != nil {
		t.Error(err)
	}
	if _, err := EncodeReply(Reply{ID: 1<<64 - 1, Until: time.Now(), Value: value(t, bytes.Repeat([]byte{0xff}, secret.MaxValue))}); err != nil {
		t.Error(err)
	}
	if _, err := EncodeReply(Reply{ID: 1, Refused: long(MaxSentence)}); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	ok := Request{ID: 1, Entry: "e", Host: "h", Port: 443, Method: "GET", Path: "/"}
	for name, change := range map[string]func(*Request){
		"no id": func(r *Request) { r.ID = 0 }, "name": func(r *Request) { r.Entry = "../e" }, "no host": func(r *Request) { r.Host = "" },
		"long host": func(r *Request) { r.Host = strings.Repeat("h", MaxHost+1) }, "control": func(r *Request) { r.Host = "h\n" },
		"port": func(r *Request) { r.Port = 70000 }, "path": func(r *Request) { r.Path = "x" }, "long path": func(r *Request) { r.Path = "/" + strings.Repeat("x", MaxPath) },
	} {
		bad := ok
		change(&bad)
		if _, err := EncodeRequest(bad); err == nil {
			t.Errorf("%s is sent", name)
		}
		raw, _ := json.Marshal(bad)
		if _, err := DecodeRequest(raw); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for _, raw := range []string{
		"", "{}", "null", "[]", `{"id":1,"entry":"e","host":"h","port":1} {}`, `{"id":1,"entry":"e","host":"h","port":1,"more":1}`,
		`{"id":-1,"entry":"e","host":"h","port":1}`, strings.Repeat(" ", MaxMessage) + `{"id":1,"entry":"e","host":"h","port":1}`,
	} {
		if _, err := DecodeRequest([]byte(raw)); err == nil {
			t.Errorf("%q is taken", raw)
		}
	}
	for _, raw := range []string{
		"{}", `{"id":1,"refused":"x"}`, `{"id":1,"login":-1}`, `{"id":1,"login":32}`, `{"id":1,"host":"a\n"}`, `{"id":1,"port":70000}`, `{"id":1,"user":"\u001b"}`, `{"refused":"a\nb"}`, `{"id":1,"more":1}`,
		`{"id":1,"user":"` + strings.Repeat("u", MaxUser+1) + `"}`,
	} {
		if _, err := DecodeSigning([]byte(raw)); err == nil {
			t.Errorf("%q is taken", raw)
		}
	}
	for _, raw := range []string{
		"{}", `{"id":1}`, `{"id":1,"value":""}`, `{"id":1,"value":"!"}`, `{"id":1,"value":"YQ==","refused":"x"}`, `{"id":1,"changed":"e"}`, `{"changed":"e","value":"YQ=="}`,
		`{"changed":"a b"}`, `{"id":1,"value":"YQ=="}x`,
	} {
		if _, err := DecodeReply([]byte(raw)); err == nil {
			t.Errorf("%q is taken", raw)
		}
	}
	for _, s := range []Shape{
		{}, shape("", 10, ""), shape("", 10, "a"), shape("", 10, "ba"), shape("", 10, "aab"), shape("", 10, "a b"), shape("abc", 3, "ab"), shape("a\n", 9, "ab"),
		shape("", 1<<20, "ab"),
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%+v is a shape", s)
		}
	}
}

// FuzzMessages: whatever arrives is refused or understood in one way, and what is understood can be sent again and means the same.
func FuzzMessages(f *testing.F) {
	for _, s := range []string{
		`{"id":7,"entry":"anthropic","host":"api.anthropic.com","port":443,"method":"POST","path":"/v1/messages"}`, `{"id":7,"value":"c2stMQ=="}`, `{"changed":"e"}`,
		`{"sandbox":"a","entries":[{"name":"e","env":"E","hosts":["*"]}]}`, `{"ready":true,"shapes":{"e":{"length":9,"alphabet":"ab"}}}`, `{"error":"e"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeRequest(b); err == nil {
			again(t, m, EncodeRequest, DecodeRequest)
		}
		if m, err := DecodeBegin(b); err == nil {
			again(t, m, EncodeBegin, DecodeBegin)
		}
		if m, err := DecodeReady(b); err == nil {
			again(t, m, EncodeReady, DecodeReady)
		}
		if m, err := DecodeReply(bytes.Clone(b)); err == nil && m.Value.Len() > 0 {
			packet, err := EncodeReply(m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeReply(packet)
			if err != nil || !bytes.Equal(bytesOf(t, got.Value), bytesOf(t, m.Value)) || got.ID != m.ID || !got.Until.Equal(m.Until) {
				t.Fatalf("%v, %v", got, err)
			}
		}
	})
}

func again[M any](t *testing.T, m M, encode func(M) ([]byte, error), decode func([]byte) (M, error)) {
	packet, err := encode(m)
	if err != nil {
		t.Fatalf("%+v was taken, and cannot be sent: %v", m, err)
	}
	back, err := decode(packet)
	if err != nil {
		t.Fatal(err)
	}
	if one, _ := encode(back); !bytes.Equal(one, packet) {
		t.Fatalf("%+v became %+v", m, back)
	}
}

// TestRandomReplies carries values of any bytes.
func TestRandomReplies(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b := make([]byte, 1+r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		packet, err := EncodeReply(Reply{ID: r.Uint64() | 1, Value: value(t, b)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeReply(packet)
		if err != nil || !reflect.DeepEqual(bytesOf(t, got.Value), b) {
			t.Fatalf("%v", err)
		}
	}
}
