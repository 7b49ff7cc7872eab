package requests

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

// sent is the target that goes out for a request, without its query; ok is false for one that no rule can allow.
func sent(t *testing.T, s *Session, r *http.Request) (path string, ok bool) {
	t.Helper()
	if s.refusal(r) != nil {
		return "", false
	}
	out := r.Clone(t.Context())
	s.rewrite(&httputil.ProxyRequest{In: r, Out: out}, nil)
	out.Body, out.ContentLength = nil, 0
	var b bytes.Buffer
	if err := out.Write(&b); err != nil {
		return "", false
	}
	line, _, _ := strings.Cut(b.String(), "\r\n")
	_, target, _ := strings.Cut(line, " ")
	target = target[:max(0, strings.LastIndex(target, " "))]
	target, _, _ = strings.Cut(target, "?")
	return target, true
}

func read(text string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
}

// TestWhatIsAsked: the rules are asked about each path and method that the server may see.
func TestWhatIsAsked(t *testing.T) {
	s := &Session{Name: "a.example", Port: 443, secure: true}
	for target, want := range map[string][]string{
		"/a?b=/c":                  {"/a"},
		"/%61":                     {"/%61"},
		"/a\"b":                    {"/a\"b", "/a%22b"},
		"http://a.example/a?b":     {"/a"},
		"https://a.example":        {"/"},
		"//a/b":                    {"//a/b"},
		"*":                        {"*"},
		"/a/../b":                  {"/a/../b"},
		"http://a.example/../x":    {"/../x"},
		"x:y://a.example/a":        nil,
		"ftp://a.example/a":        nil,
		"http://u:p@a.example/a":   nil,
		"http://a.example/%2e%2e/": {"/%2e%2e/"},
	} {
		r, err := read("OPTIONS " + target + " HTTP/1.1\r\nHost: a.example\r\n\r\n")
		if err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		path, ok := sent(t, s, r)
		if ok != (want != nil) {
			t.Errorf("%s: passed on: %v", target, ok)
		}
		if !ok {
			continue
		}
		raw, _, _ := strings.Cut(r.RequestURI, "?")
		if got := request(r, raw).Paths; !slices.Equal(got, want) || !slices.Contains(got, path) {
			t.Errorf("%s: %q is asked about, %q is sent", target, got, path)
		}
	}
	r, err := read("POST /a HTTP/1.1\r\nHost: a.example\r\nx-http-method-override: delete\r\nX-METHOD-OVERRIDE: PUT\r\nX-Rewrite-URL: /b?c\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if ask := request(r, "/a"); !slices.Equal(ask.Methods, []string{"POST", "DELETE", "PUT"}) || !slices.Equal(ask.Paths, []string{"/a", "/b"}) {
		t.Errorf("%+v", ask)
	}
}

// TestAllowing: what is said to allow a request holds nothing that a program could have put there for a person to copy.
func TestAllowing(t *testing.T) {
	s := &Session{Name: "a.example", Port: 8443, Sandbox: "k7f3q2ab"}
	for path, want := range map[string]string{
		"/v1/a":                          `network.allow: {host: "a.example", ports: [8443], methods: [GET], paths: ["/v1/a"]}`,
		"/*":                             "casemate allow k7f3q2ab net:a.example:8443",
		"/a/../b":                        "casemate allow k7f3q2ab net:a.example:8443",
		"/a/.":                           "casemate allow k7f3q2ab net:a.example:8443",
		"/a//b":                          "casemate allow k7f3q2ab net:a.example:8443",
		"/a'; rm -rf ~":                  "casemate allow k7f3q2ab net:a.example:8443",
		"/" + strings.Repeat("a", 1000):  "casemate allow k7f3q2ab net:a.example:8443",
		"":                               "casemate allow k7f3q2ab net:a.example:8443",
		"/a\n- host: evil.example\n  x:": "casemate allow k7f3q2ab net:a.example:8443",
	} {
		if got := s.allowing("GET", path); got != want {
			t.Errorf("%q: %s", path, got)
		}
	}
}

// FuzzWhatIsSent: whatever goes out was asked about.
func FuzzWhatIsSent(f *testing.F) {
	for _, target := range []string{"/a?b", "/%61", "//a", "http://a.example/a", "*", "/a\"b", "x:y://a.example/", "/a%zz", "http://a.example?x", "/ä", "/a;b", "/?#"} {
		f.Add(target)
	}
	s := &Session{Name: "a.example", Port: 443}
	f.Fuzz(func(t *testing.T, target string) {
		if strings.ContainsAny(target, " \r\n") {
			return
		}
		r, err := read("OPTIONS " + target + " HTTP/1.1\r\nHost: a.example\r\n\r\n")
		if err != nil {
			return
		}
		path, ok := sent(t, s, r)
		raw, _, _ := strings.Cut(r.RequestURI, "?")
		if ok && !slices.Contains(request(r, raw).Paths, path) {
			t.Errorf("%q: %q is sent, %q was asked about", target, path, request(r, raw).Paths)
		}
	})
}
