package rules

import (
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
)

func api() wire.Rules {
	return wire.Rules{
		Allow: []wire.Allow{
			{Host: "api.example.com", Ports: []int{443}, Methods: []string{"GET", "POST"}, Paths: []string{"/v1/*", "/health"}, Origin: "api"},
			{Host: "api.example.com", Ports: []int{443}, Methods: []string{"OPTIONS"}, Origin: "options"},
			{Host: "*.example.com", Ports: []int{443}, Paths: []string{"/public/*"}, Origin: "public", Until: time.Unix(1000, 0)},
			{Host: "whole.example.com", Ports: []int{443}, Origin: "whole"},
			{Host: "whole.example.com", Ports: []int{443, 80}, Methods: []string{"GET"}, Origin: "some"},
		},
		Deny: []string{"evil.example.com"},
	}
}

func TestDecideRequest(t *testing.T) {
	for _, c := range []struct {
		host, method, path string
		port               int
		rule, why          string
	}{
		{"api.example.com", "GET", "/v1/a", 443, "api", ""},
		{"API.example.com.", "POST", "/v1/a/b", 443, "api", ""},
		{"api.example.com", "GET", "/health", 443, "api", ""},
		{"api.example.com", "GET", "/v1/%61%7e%C3%A9", 443, "api", ""},
		{"api.example.com", "GET", "/v1/100%25", 443, "api", ""},
		{"api.example.com", "GET", "/v1/a;b=c", 443, "api", ""},
		{"api.example.com", "DELETE", "/v1/a", 443, "", "no rule allows DELETE /v1/a at api.example.com:443"},
		{"api.example.com", "get", "/v1/a", 443, "", "no rule allows get"},
		{"api.example.com", "HEAD", "/v1/a", 443, "", "no rule allows HEAD"},
		{"api.example.com", "GET", "/v2/a", 443, "", "no rule allows GET /v2/a"},
		{"api.example.com", "GET", "/v1", 443, "", "no rule"},
		{"api.example.com", "GET", "", 443, "", "does not begin with a slash"},
		{"api.example.com", "GET", "v1/a", 443, "", "does not begin with a slash"},
		{"api.example.com", "OPTIONS", "*", 443, "options", ""},
		{"api.example.com", "OPTIONS", "/../x", 443, "options", ""},
		{"api.example.com", "DELETE", "/public/a", 443, "public", ""},
		{"other.example.com", "GET", "/public/a", 443, "public", ""},
		{"other.example.com", "GET", "/v1/a", 443, "", "no rule"},
		{"whole.example.com", "DELETE", "/../..//", 443, "whole", ""},
		{"whole.example.com", "DELETE", "/", 80, "", "no rule allows DELETE / at whole.example.com:80"},
		{"whole.example.com", "GET", "/", 80, "some", ""},
		{"evil.example.com", "GET", "/public/a", 443, "", "deny wins"},
		{"api.example.com", "GET", "/v1/a", 80, "", "a rule allows it on port 443"},
		{"api.example.com", "GET", "/v1/../admin", 443, "", "dot segment"},
		{"api.example.com", "GET", "/v1/./a", 443, "", "dot segment"},
		{"api.example.com", "GET", "/v1/..", 443, "", "dot segment"},
		{"api.example.com", "GET", "/v1/%2e%2E/admin", 443, "", "dot segment"},
		{"api.example.com", "GET", "/v1/..;/admin", 443, "", "dot segment"},
		{"api.example.com", "GET", "/v1/..%3b/admin", 443, "", "dot segment"},
		{"api.example.com", "GET", "/v1//admin", 443, "", "empty segment"},
		{"api.example.com", "GET", "//v1/a", 443, "", "empty segment"},
		{"api.example.com", "GET", "/v1/;/admin", 443, "", "empty segment"},
		{"api.example.com", "GET", "/v1/a%2fb", 443, "", "slash"},
		{"api.example.com", "GET", `/v1/a\..\b`, 443, "", "backslash"},
		{"api.example.com", "GET", "/v1/a%5Cb", 443, "", "backslash"},
		{"api.example.com", "GET", "/v1/a%00", 443, "", "control character"},
		{"api.example.com", "GET", "/v1/a%0d%0ab", 443, "", "control character"},
		{"api.example.com", "GET", "/v1/a#b", 443, "", "ends a path"},
		{"api.example.com", "GET", "/v1/a%3Fb", 443, "", "ends a path"},
		{"api.example.com", "GET", "/v1/a%c0%afb", 443, "", "UTF-8"},
		{"api.example.com", "GET", "/v1/%252e%252e/b", 443, "", "encoded twice"},
		{"api.example.com", "GET", "/v1/%zz", 443, "", "not encoded rightly"},
	} {
		set := Compile(api())
		d := set.DecideRequest(c.host, c.port, Request{[]string{c.method}, []string{c.path}}, time.Unix(999, 0))
		if d.Allowed != (c.rule != "") || d.Rule != c.rule && c.rule != "" || !strings.Contains(d.Why, c.why) {
			t.Errorf("%s %s%s:%d: %+v", c.method, c.host, c.path, c.port, d)
		}
	}
}

// TestOverride: what a request asks its server to take instead of its own method or path must be allowed as well.
func TestOverride(t *testing.T) {
	set := Compile(api())
	for _, c := range []struct {
		r    Request
		want bool
	}{
		{Request{[]string{"POST", "GET"}, []string{"/v1/a"}}, true},
		{Request{[]string{"POST", "DELETE"}, []string{"/v1/a"}}, false},
		{Request{[]string{"POST"}, []string{"/v1/a", "/health"}}, true},
		{Request{[]string{"POST"}, []string{"/v1/a", "/admin"}}, false},
		{Request{[]string{"POST"}, []string{"/v1/a", "https://x/v1/a"}}, false},
	} {
		if d := set.DecideRequest("api.example.com", 443, c.r, time.Unix(0, 0)); d.Allowed != c.want {
			t.Errorf("%v: %+v", c.r, d)
		}
	}
}

// TestWholeHostsAreNotOpened: a rule without methods and paths lets the connection through as it is, with its own networks only.
func TestWholeHostsAreNotOpened(t *testing.T) {
	set := Compile(api())
	now := time.Unix(999, 0)
	for host, want := range map[string]bool{"api.example.com": true, "other.example.com": true, "whole.example.com": false} {
		if d := set.Decide(host, 443, now); !d.Allowed || d.Requests != want {
			t.Errorf("%s: %+v", host, d)
		}
	}
	if d := set.Decide("other.example.com", 443, time.Unix(1000, 0)); d.Allowed {
		t.Errorf("%+v", d)
	}
}

// FuzzDecideRequest: what is allowed under a path is below it, however its encoding is undone.
func FuzzDecideRequest(f *testing.F) {
	for _, seed := range []string{"/v1/a", "/v1/%2e%2e/b", "/v1/..;/b", "/v1//b", "/v1/%252e./b", `/v1/a\b`, "/v1/a%2f..%2f..", "/v1/\x00", "/v1/%c0%ae", "/health"} {
		f.Add("GET", seed)
	}
	set := Compile(wire.Rules{Allow: []wire.Allow{{Host: "api.example.com", Ports: []int{443}, Methods: []string{"GET", "POST"}, Paths: []string{"/v1/*"}}}})
	f.Fuzz(func(t *testing.T, method, raw string) {
		d := set.DecideRequest("api.example.com", 443, Request{[]string{method}, []string{raw}}, time.Unix(0, 0))
		if d.Allowed == (d.Why != "") {
			t.Fatalf("%+v", d)
		}
		if !d.Allowed {
			return
		}
		if !slices.Contains([]string{"GET", "POST"}, method) {
			t.Errorf("%q is allowed", method)
		}
		for _, seen := range readings(raw) {
			if clean := path.Clean(seen); !strings.HasPrefix(clean+"/", "/v1/") || strings.ContainsAny(seen, "\\\x00") {
				t.Errorf("%q is allowed, and is %q to some server", raw, clean)
			}
		}
	})
}

// readings are what servers make of a path: as it is, decoded once or twice, and cut at semicolons.
func readings(raw string) (list []string) {
	once := lenient(raw)
	for _, text := range []string{raw, once, lenient(once)} {
		list = append(list, text)
		segments := strings.Split(text, "/")
		for i := range segments {
			segments[i], _, _ = strings.Cut(segments[i], ";")
		}
		list = append(list, strings.Join(segments, "/"))
	}
	return list
}

// lenient decodes what can be decoded, and leaves the rest.
func lenient(text string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			high, low := strings.IndexByte(digits, text[i+1]|0x20), strings.IndexByte(digits, text[i+2]|0x20)
			if high >= 0 && low >= 0 {
				b.WriteByte(byte(high<<4 | low))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
