package broker

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/sigv4"
	"casemate.dev/internal/gate/wire"
)

// TestSignedForAnotherHost: what is signed for a service is not signed anew at a host of AWS's behind which a customer's program answers.
func TestSignedForAnotherHost(t *testing.T) {
	const id = "AKIAFAKEFAKEFAKEFAKE"
	book := new(rules.Book)
	book.Replace(wire.Rules{Secrets: []wire.Secret{{Name: "aws", Placeholder: id + ":FaKeSeCrEt/FaKeSeCrEt", Hosts: []string{"*.amazonaws.com"}, Ports: []int{443}, Place: "sigv4", Origin: "the test"}}})
	b := New(book)
	b.Learn()
	for host, why := range map[string]string{
		"iam.us-east-1.amazonaws.com": "", "a.execute-api.us-east-1.amazonaws.com": "is one of execute-api", "iam.eu-west-1.amazonaws.com": "is in eu-west-1", "iam.us-east-1.amazonaws.com.evil.example": "it is for other hosts",
	} {
		r, err := http.NewRequest("GET", "https://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Date", "20300102T030405Z")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+id+"/20300102/us-east-1/iam/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64))
		use, leak := b.Read(Site{Host: host, Port: 443, Secure: true}, r, rules.Request{Methods: []string{"GET"}, Paths: []string{"/"}})
		switch {
		case why == "" && (leak != nil || !use.Any()):
			t.Errorf("%s: %v", host, leak)
		case why != "" && (leak == nil || !strings.Contains(leak.Why, why)):
			t.Errorf("%s: %v", host, leak)
		}
		if why != "" {
			continue
		}
		if err := b.Check(r, use, nil); err == nil || !strings.Contains(err.Error(), "was not signed with the placeholder") {
			t.Errorf("%s: a signature that nobody made: %v", host, err)
		}
	}
}

// TestNoRoom: what finds no room for its body is answered so that it tries again, when its body was read; it waits for nobody.
func TestNoRoom(t *testing.T) {
	signature := &sigv4.Signature{Time: "20300102T030405Z", Date: "20300102", Signed: []string{"host"}, Hex: strings.Repeat("0", 64)}
	b := New(new(rules.Book))
	others := new(room)
	if !others.take(&b.held, maxHeld-100) {
		t.Fatal("there is no room in the beginning")
	}
	for _, c := range []struct{ size, says, status int }{{100, 100, 0}, {101, 101, 503}, {5, -1, 503}, {maxSigned + 1, maxSigned + 1, 413}} {
		body := strings.NewReader(strings.Repeat("x", c.size))
		r, err := http.NewRequest("POST", "https://a.example/", body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = int64(c.says)
		u := &Use{signed: &signed{parts: []string{"id", "key"}, signature: signature}}
		var no *TooMuch
		switch err := b.Check(r, u, nil); {
		case c.status == 0 && (err == nil || errors.As(err, &no)): // the signature is nobody's
			t.Errorf("%d bytes: %v", c.size, err)
		case c.status != 0 && (!errors.As(err, &no) || no.Status != c.status):
			t.Errorf("%d bytes: %v", c.size, err)
		}
		if body.Len() > 0 {
			t.Errorf("%d bytes: %d were not read", c.size, body.Len())
		}
		u.End()
		if b.held.Load() != maxHeld-100 {
			t.Errorf("%d bytes: it left no room behind: %d", c.size, b.held.Load())
		}
	}
	others.leave()
	others.leave()
	if b.held.Load() != 0 {
		t.Errorf("%d", b.held.Load())
	}
}
