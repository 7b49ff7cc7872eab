package sigv4

import (
	"strings"
	"testing"
)

// TestAgrees: what is signed for one of AWS's hosts is for its region, and where customers' programs answer for that service; elsewhere nothing can be told.
func TestAgrees(t *testing.T) {
	for _, c := range []struct {
		host, region, service, why string
	}{
		{"s3.eu-central-1.amazonaws.com", "eu-central-1", "s3", ""},
		{"bucket.s3.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1", "s3", ""},
		{"email.eu-central-1.amazonaws.com", "eu-central-1", "ses", ""},
		{"us-east-1.s3.eu-central-1.amazonaws.com", "eu-central-1", "s3", ""},
		{"execute-api.s3.eu-central-1.amazonaws.com", "eu-central-1", "s3", ""}, // a bucket's name
		{"s3.amazonaws.com", "eu-central-1", "s3", ""},
		{"iam.amazonaws.com", "us-east-1", "iam", ""},
		{"minio.example", "nowhere", "s3", ""},
		{"a.execute-api.us-east-1.evil.example", "eu-west-1", "iam", ""},
		{"a.execute-api.us-east-1.amazonaws.com", "us-east-1", "execute-api", ""},
		{"search-a.us-east-1.es.amazonaws.com", "us-east-1", "es", ""},
		{"a.lambda-url.us-east-1.on.aws", "us-east-1", "lambda", ""},
		{"S3.EU-central-1.amazonaws.com.", "us-east-1", "s3", "is in eu-central-1"},
		{"s3.cn-north-1.amazonaws.com.cn", "us-east-1", "s3", "is in cn-north-1"},
		{"a.execute-api.us-east-1.amazonaws.com", "us-east-1", "iam", "is one of execute-api"},
		{"a.execute-api.us-east-1.vpce.amazonaws.com", "us-east-1", "sts", "is one of execute-api"},
		{"search-a.us-east-1.es.amazonaws.com", "us-east-1", "s3", "is one of es"},
		{"a.lambda-url.us-east-1.on.aws", "us-east-1", "sts", "is one of lambda"},
		{"a.appsync-api.us-east-1.amazonaws.com", "us-east-1", "sts", "is one of appsync"},
		{"a-0b1.7d67968.vpc-lattice-svcs.us-east-1.on.aws", "us-east-1", "vpc-lattice-svcs", ""},
		{"a-0b1.7d67968.vpc-lattice-svcs.us-east-1.on.aws", "us-east-1", "sts", "is one of vpc-lattice-svcs"},
	} {
		err := (&Signature{Region: c.region, Service: c.service}).Agrees(c.host)
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s, signed for %s in %s: %v", c.host, c.service, c.region, err)
		}
	}
	for _, v := range vectors(t, "botocore.txt") {
		if err := read(t, v).Agrees(strings.TrimSpace(v.Header["Host"][0])); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
}

// FuzzRead: whatever a request holds, it is read or refused; what is read can be signed anew, is then the new credential's, and says nothing of the old one.
func FuzzRead(f *testing.F) {
	for _, file := range []string{"s3.txt", "botocore.txt"} {
		for _, v := range vectors(f, file) {
			first := func(name string) string { return strings.Join(v.Header[name], "") }
			f.Add(v.Method, v.Path, v.Query, first("Authorization"), first(fieldDate), first(fieldToken), first(fieldPayload))
		}
	}
	f.Add("GET", "/%zz/../a//", "a=%&&=&+&X-Amz-Date", algorithm+" Credential=a/b/c/d/"+last+",SignedHeaders=host,Signature=x", "", "", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
	f.Fuzz(func(t *testing.T, method, path, query, authorization, date, token, payload string) {
		if strings.ContainsAny(path, "?") {
			return
		}
		r := Request{method, path, query, map[string][]string{"Host": {"a.example"}}}
		for name, value := range map[string]string{"Authorization": authorization, fieldDate: date, fieldToken: token, fieldPayload: payload} {
			if value != "" {
				r.Header[name] = []string{value}
			}
		}
		sig, err := Read(r)
		if sig == nil || err != nil {
			return
		}
		said, err := sig.Payload(r)
		if err != nil {
			return
		}
		if said == "" {
			said = Empty
		}
		_, _ = sig.Verify(r, sig.KeyFor([]byte("secret")), said)
		for path := range pathWays {
			anew := sent{"", "", r}.clone().Request
			const id, token = "AKIAANOTHER+1", "another/token=="
			anew.Query, _ = sig.Again(anew, Way{path: path, Payload: said}, Credential{id, token, sig.KeyFor([]byte("another"))})
			again, err := Read(anew)
			if err != nil || again.ID != id || again.Token != token || again.InQuery != sig.InQuery {
				t.Fatalf("signed anew: %+v, %v", again, err)
			}
			if _, err := again.Verify(anew, again.KeyFor([]byte("another")), said); err != nil {
				t.Fatalf("signed anew: %v", err)
			}
		}
	})
}
