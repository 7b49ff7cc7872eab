package broker

import (
	"net/http"
	"strings"
	"testing"

	"casemate.dev/internal/gate/rules"
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
