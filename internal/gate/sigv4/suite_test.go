package sigv4

import (
	"net/textproto"
	"os"
	"strings"
	"testing"
)

const (
	suiteSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	s3Secret    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// sent is a request of a file of vectors.
type sent struct {
	name, body string
	Request
}

// vectors reads a file of them. Its requests are not such as net/http takes: there are blanks in paths.
func vectors(t testing.TB, file string) (list []sent) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "\n-- ")[1:] {
		name, rest, _ := strings.Cut(part, " --\n")
		head, body, _ := strings.Cut(rest, "\n\n")
		lines := strings.Split(strings.ReplaceAll(strings.TrimSpace(head), "\n ", " "), "\n")
		method, target, _ := strings.Cut(strings.TrimSuffix(lines[0], " HTTP/1.1"), " ")
		path, query, _ := strings.Cut(target, "?")
		one := sent{name, strings.TrimSuffix(body, "\n"), Request{method, path, query, map[string][]string{}}}
		for _, line := range lines[1:] {
			key, value, _ := strings.Cut(line, ":")
			key = textproto.CanonicalMIMEHeaderKey(key)
			one.Header[key] = append(one.Header[key], value)
		}
		for _, key := range []string{fieldDate, fieldToken, fieldPayload, "Authorization"} { // net/http does so
			for i, v := range one.Header[key] {
				one.Header[key][i] = strings.TrimSpace(v)
			}
		}
		list = append(list, one)
	}
	return list
}

// payloads are those that may stand for its body.
func (s sent) payloads(t testing.TB, sig *Signature) []string {
	t.Helper()
	said, err := sig.Payload(s.Request)
	if err != nil {
		t.Fatal(s.name, err)
	}
	if said != "" {
		return []string{said}
	}
	return append(sig.Unread(s.body == ""), Hash([]byte(s.body)))
}

func (s sent) clone() sent {
	header := map[string][]string{}
	for name, values := range s.Header {
		header[name] = append([]string(nil), values...)
	}
	s.Header = header
	return s
}

func read(t testing.TB, s sent) *Signature {
	t.Helper()
	sig, err := Read(s.Request)
	if err != nil || sig == nil {
		t.Fatalf("%s: %v, %v", s.name, sig, err)
	}
	return sig
}

// TestVectors: each signature of the suites is that of its secret; made again it is the same, and made with another secret it is that one's.
func TestVectors(t *testing.T) {
	for file, secret := range map[string]string{"aws-sig-v4-test-suite.txt": suiteSecret, "s3.txt": s3Secret, "botocore.txt": suiteSecret} {
		list := vectors(t, file)
		if len(list) < 5 {
			t.Fatalf("%s has %d vectors", file, len(list))
		}
		for _, v := range list {
			sig := read(t, v)
			way, err := sig.Verify(v.Request, sig.KeyFor([]byte(secret)), v.payloads(t, sig)...)
			if err != nil {
				t.Errorf("%s: %v", v.name, err)
				continue
			}
			same := v.clone()
			if query, hex := sig.Again(same.Request, way, Credential{sig.ID, sig.Token, sig.KeyFor([]byte(secret))}); hex != sig.Hex || query != v.Query && !sig.InQuery {
				t.Errorf("%s: made again it is %s, want %s", v.name, hex, sig.Hex)
			}
			for _, token := range []string{"", "aToken//+=", sig.Token} {
				anew := v.clone()
				anew.Query, _ = sig.Again(anew.Request, way, Credential{"AKIAANOTHER", token, sig.KeyFor([]byte("another secret"))})
				check := read(t, anew)
				if check.ID != "AKIAANOTHER" || check.Token != token || check.Date != sig.Date || check.Region != sig.Region || check.Service != sig.Service || check.Time != sig.Time {
					t.Errorf("%s: signed anew it is %+v", v.name, check)
				}
				if _, err := check.Verify(anew.Request, check.KeyFor([]byte("another secret")), anew.payloads(t, check)...); err != nil {
					t.Errorf("%s: signed anew with the token %q: %v", v.name, token, err)
				}
				if _, err := check.Verify(anew.Request, check.KeyFor([]byte(secret)), anew.payloads(t, check)...); err == nil {
					t.Errorf("%s: signed anew, the old secret made it", v.name)
				}
			}
		}
	}
}

// TestForged: whatever of a request is changed, its signature is another one's.
func TestForged(t *testing.T) {
	for _, v := range append(vectors(t, "s3.txt"), vectors(t, "aws-sig-v4-test-suite.txt")...) {
		secret := suiteSecret
		if strings.Contains(v.Header["Host"][0], "examplebucket") {
			secret = s3Secret
		}
		for what, change := range map[string]func(*sent){
			"method": func(s *sent) { s.Method = "DELETE" },
			"path":   func(s *sent) { s.Path += "x" },
			"query":  func(s *sent) { s.Query = "acl&" + s.Query },
			"host":   func(s *sent) { s.Header["Host"] = []string{"other.example.com"} },
			"a field": func(s *sent) {
				for _, name := range read(t, *s).Signed {
					name = textproto.CanonicalMIMEHeaderKey(name)
					if name != fieldDate && name != fieldPayload {
						s.Header[name] = append(s.Header[name], "x")
						return
					}
				}
			},
			"nothing": func(*sent) {},
		} {
			other := v.clone()
			change(&other)
			sig := read(t, other)
			_, err := sig.Verify(other.Request, sig.KeyFor([]byte(secret)), other.payloads(t, sig)...)
			if (err == nil) != (what == "nothing") {
				t.Errorf("%s: with another %s: %v", v.name, what, err)
			}
			if _, err := sig.Verify(other.Request, sig.KeyFor([]byte(secret)), Hash([]byte("another body"))); err == nil {
				t.Errorf("%s: with another body", v.name)
			}
		}
	}
}
