package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/gate/sigv4"
	"casemate.dev/internal/gate/wire"
)

// The two credentials: of a person's, and what a sandbox has in its stead.
const (
	realID, realKey, realToken = "AKIAREALREALREALREAL", "ReAlSeCrEt/ReAlSeCrEt/ReAlSeCrEtReAlSeCrE", "ReAlToKeN//ReAlToKeN=="
	fakeID, fakeKey, fakeToken = "AKIAFAKEFAKEFAKEFAKE", "FaKeSeCrEt/FaKeSeCrEt/FaKeSeCrEtFaKeSeCrE", "FaKeToKeN//FaKeToKeN=="

	atAWS = "https://api.example.com"
)

// signedTime is the one that is signed; the gate never looks at its clock for it.
var signedTime = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).Format("20060102T150405Z")

// signing is one credential that signs a request.
type signing struct {
	id, key, token string
	payload        string // the field X-Amz-Content-Sha256; "hash" is the body's; "" is none
	query          bool
	more           []string // other fields that are signed
	service        string
}

// sign signs a request as a client does.
func sign(t *testing.T, r *http.Request, body string, s signing) *http.Request {
	t.Helper()
	if s.service == "" {
		s.service = "s3"
	}
	payload := s.payload
	switch {
	case payload == "hash":
		payload = sigv4.Hash([]byte(body))
		fallthrough
	case payload != "":
		r.Header.Set("X-Amz-Content-Sha256", payload)
		s.more = append(s.more, "x-amz-content-sha256")
	case s.query:
		payload = "UNSIGNED-PAYLOAD"
	default:
		payload = sigv4.Hash([]byte(body))
	}
	scope, nothing := signedTime[:8]+"/eu-central-1/"+s.service+"/aws4_request", strings.Repeat("0", 64)
	fields := append([]string{"host"}, s.more...)
	if !s.query {
		fields = append(fields, "x-amz-date")
	}
	if s.token != "" && !s.query {
		fields = append(fields, "x-amz-security-token")
	}
	slices.Sort(fields)
	if s.query {
		r.URL.RawQuery += fmt.Sprintf("&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%s&X-Amz-Date=%s&X-Amz-Expires=600&X-Amz-SignedHeaders=%s&X-Amz-Signature=%s",
			url.QueryEscape(s.id+"/"+scope), signedTime, url.QueryEscape(strings.Join(fields, ";")), nothing)
		if s.token != "" {
			r.URL.RawQuery += "&X-Amz-Security-Token=" + url.QueryEscape(s.token)
		}
	} else {
		r.Header.Set("X-Amz-Date", signedTime)
		if s.token != "" {
			r.Header.Set("X-Amz-Security-Token", s.token)
		}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.id+"/"+scope+", SignedHeaders="+strings.Join(fields, ";")+", Signature="+nothing)
	}
	view := sigv4.Request{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: maps.Clone(r.Header)}
	view.Header["Host"] = []string{r.URL.Host}
	if r.ContentLength > 0 {
		view.Header["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	sig, err := sigv4.Read(view)
	if err != nil {
		t.Fatal(err)
	}
	query, first := sig.Again(view, sigv4.Way{Payload: payload}, sigv4.Credential{ID: s.id, Token: s.token, Key: sig.KeyFor([]byte(s.key))})
	r.URL.RawQuery = query
	if !s.query {
		r.Header["Authorization"] = view.Header["Authorization"]
	}
	if strings.HasPrefix(payload, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD") {
		text := inPieces(body, sig.KeyFor([]byte(s.key)), "20300102T030405Z\n"+scope, first, strings.HasSuffix(payload, "TRAILER"))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
	return r
}

// inPieces is a body whose pieces are signed, as S3's documentation has it.
func inPieces(body string, key sigv4.Key, when, last string, trailer bool) (out string) {
	const size = 8 << 10
	signed := func(kind, what string) string {
		h := hmac.New(sha256.New, key[:])
		h.Write([]byte("AWS4-HMAC-SHA256-" + kind + "\n" + when + "\n" + last + "\n" + what))
		last = hex.EncodeToString(h.Sum(nil))
		return last
	}
	for {
		piece := body[:min(size, len(body))]
		body = body[len(piece):]
		out += fmt.Sprintf("%x;chunk-signature=%s\r\n", len(piece), signed("PAYLOAD", sigv4.Empty+"\n"+sigv4.Hash([]byte(piece))))
		switch {
		case piece != "":
			out += piece + "\r\n"
		case trailer:
			return out + "x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:" + signed("TRAILER", sigv4.Hash([]byte("x-amz-checksum-crc32:AAAAAA==\n"))) + "\r\n\r\n"
		default:
			return out + "\r\n"
		}
	}
}

// inCloud is a stand-in for AWS: it knows the real key, and says what was wrong.
type inCloud struct {
	mu   sync.Mutex
	sent seen
	ids  []string
}

func (c *inCloud) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.sent.note(r, body)
	view := sigv4.Request{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: maps.Clone(r.Header)}
	view.Header["Host"] = []string{r.Host}
	if r.ContentLength > 0 {
		view.Header["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	sig, err := sigv4.Read(view)
	if err != nil || sig == nil {
		fmt.Fprintf(w, "unsigned: %v", err)
		return
	}
	c.mu.Lock()
	c.ids = append(c.ids, sig.ID)
	c.mu.Unlock()
	said, err := sig.Payload(view)
	list := append(sig.Unread(len(body) == 0), sigv4.Hash(body))
	if said != "" {
		list = []string{said}
		if len(said) == 64 && said != sigv4.Hash(body) {
			err = fmt.Errorf("the body is another one")
		}
	}
	if err == nil {
		var way sigv4.Way
		if way, err = sig.Verify(view, sig.KeyFor([]byte(realKey)), list...); err == nil && way.InPieces() {
			_, err = io.ReadAll(sig.Pieces(bytes.NewReader(body), way, sig.KeyFor([]byte(realKey)), sigv4.Credential{}, ""))
		}
	}
	switch {
	case err != nil || sig.ID != realID:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "SignatureDoesNotMatch %v", err)
	default:
		fmt.Fprintf(w, "signed by %s token %s at %s in %s: %s %q", sig.ID, sig.Token, sig.Time, sig.Region, sig.Hex, body)
	}
}

// withAWS opens a gate whose secret is an AWS credential.
func withAWS(t *testing.T, placeholder, value string, more func(*wire.Secret), rules ...wire.Allow) (*box, *storehouse) {
	t.Helper()
	b, store := withSecret(t, "sigv4", func(s *wire.Secret) {
		s.Placeholder = placeholder
		if more != nil {
			more(s)
		}
	}, rules...)
	store.mu.Lock()
	store.value = value
	store.mu.Unlock()
	return b, store
}

// TestSignedAnew: a request that was signed with the placeholders reaches AWS with the real credential's signature, in every way that clients sign; and what comes
// back says nothing of it.
func TestSignedAnew(t *testing.T) {
	var aws inCloud
	outside.site(t, aws.serve)
	two, three := fakeID+":"+fakeKey, fakeID+":"+fakeKey+":"+fakeToken
	both(t, func(t *testing.T, h2 bool) {
		for _, c := range []struct{ placeholder, value, token, want string }{
			{two, realID + ":" + realKey, "", ""}, {three, realID + ":" + realKey + ":" + realToken, fakeToken, realToken},
			{two, realID + ":" + realKey + ":" + realToken, "", realToken}, {three, realID + ":" + realKey, fakeToken, ""},
		} {
			b, _ := withAWS(t, c.placeholder, c.value, nil, allow("api.example.com", 443))
			client := b.client(h2)
			long := strings.Repeat("long ", 50<<10)
			for name, one := range map[string]struct {
				method, at, body string
				signing
				header []string
			}{
				"hash":                      {"PUT", "/bucket/a%20b%2Fc%24(d)", "text", signing{payload: "hash"}, nil},
				"no hash":                   {"POST", "/", "Action=ListUsers", signing{service: "iam", more: []string{"content-length"}}, nil},
				"no hash of a long body":    {"POST", "/", long, signing{service: "dynamodb"}, nil},
				"hash of a long body":       {"PUT", "/b", long, signing{payload: "hash"}, nil},
				"no body":                   {"GET", "/?list-type=2&prefix=a%2Fb&start-after=x+y&c", "", signing{payload: "hash"}, nil},
				"unsigned":                  {"PUT", "/x", long, signing{payload: "UNSIGNED-PAYLOAD"}, nil},
				"unsigned pieces":           {"PUT", "/x", "2\r\nab\r\n0\r\n\r\n", signing{payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, nil},
				"signed pieces":             {"PUT", "/x", "text", signing{payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, nil},
				"many signed pieces":        {"PUT", "/x", long, signing{payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, nil},
				"signed pieces, trailer":    {"PUT", "/x", long, signing{payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"}, nil},
				"a field of ours is signed": {"GET", "/x", "", signing{payload: "hash", more: []string{"accept-encoding", "te", "x-forwarded-for"}}, []string{"Accept-Encoding", "gzip", "Te", "trailers", "X-Forwarded-For", "1.2.3.4"}},
				"in the query":              {"GET", "/x?response-content-type=text%2Fplain", "", signing{query: true}, nil},
				"in the query, with a body": {"PUT", "/x?partNumber=1", "text", signing{query: true}, nil},
			} {
				one.id, one.key, one.token = fakeID, fakeKey, c.token
				at := strings.Replace(one.at, "?", "?q=1&", 1)
				r := sign(t, ask1(t, one.method, atAWS+at, one.body, one.header...), one.body, one.signing)
				mine := r.Header.Get("Authorization") + r.URL.RawQuery
				status, _, answer := try(t, client, r)
				want := fmt.Sprintf("signed by %s token %s at %s in eu-central-1: ", fakeID, c.token, signedTime)
				if c.want == "" || c.token == "" { // there is nothing to put in the token's place
					want = "signed by " + fakeID
				}
				if status != 200 || !strings.HasPrefix(answer, want) || strings.Contains(answer, realToken) || strings.Contains(answer, realID) {
					t.Errorf("%s: %d %s", name, status, answer)
				}
				if i := strings.Index(answer, "eu-central-1: "); i < 0 || !strings.Contains(mine, answer[i+14:i+14+64]) {
					t.Errorf("%s: it was told a signature that is not its own: %s", name, answer)
				}
			}
			if aws.sent.has(fakeID) || aws.sent.has(fakeKey) || aws.sent.has(fakeToken) || aws.sent.has(url.QueryEscape(fakeToken)) || aws.sent.has(realKey) || aws.sent.has(url.QueryEscape(realToken)) && c.want == "" {
				t.Errorf("it saw %.4000q", aws.sent.list)
			}
			aws.sent.forget()
			b.quiet()
		}
	})
}

// TestNotSignedAnew: what was not signed with the placeholders, or cannot be signed anew, reaches nobody; what has nothing to do with them, everybody.
func TestNotSignedAnew(t *testing.T) {
	var aws inCloud
	outside.site(t, aws.serve)
	b, store := withAWS(t, fakeID+":"+fakeKey+":"+fakeToken, realID+":"+realKey, func(s *wire.Secret) { s.Methods = []string{"GET", "PUT"} }, allow("api.example.com", 443))
	client := b.client(false)
	right := signing{id: fakeID, key: fakeKey, payload: "hash"}
	with := func(change func(*signing)) signing { s := right; change(&s); return s }
	for name, c := range map[string]struct {
		s      signing
		change func(*http.Request)
		why    string
	}{
		"another key":                 {with(func(s *signing) { s.key = realKey }), nil, "was not signed with the placeholder"},
		"another path":                {right, func(r *http.Request) { r.URL.Path = "/other" }, "was not signed with the placeholder"},
		"another query":               {right, func(r *http.Request) { r.URL.RawQuery = "acl" }, "was not signed with the placeholder"},
		"another field":               {with(func(s *signing) { s.more = []string{"x-amz-acl"} }), func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, "was not signed with the placeholder"},
		"without a field":             {with(func(s *signing) { s.more = []string{"te"} }), func(r *http.Request) { r.Header.Del("Te") }, `the field \"te\" is among those that it signs, and is not there`},
		"a field that is taken out":   {with(func(s *signing) { s.more = []string{"x-amz-acl"} }), func(r *http.Request) { r.Header.Set("Connection", "X-Amz-Acl, x") }, "says that it is not to be passed on"},
		"another method than granted": {right, func(r *http.Request) { r.Method = "DELETE" }, "names other methods or paths"},
		"two signatures":              {right, func(r *http.Request) { r.Header.Add("Authorization", "AWS4-HMAC-SHA256 x") }, "2 fields Authorization"},
		"two kinds of signatures":     {right, func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=" + strings.Repeat("0", 64) }, "a field Authorization beside it"},
		"a parameter twice":           {with(func(s *signing) { s.query = true }), func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Date=x" }, "the parameter \\\"X-Amz-Date\\\" twice"},
		"several regions":             {right, func(r *http.Request) { replaceIn(r, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256") }, "SigV4A (for several regions at once)"},
		"the old way":                 {right, func(r *http.Request) { r.Header.Set("Authorization", "AWS "+fakeID+":x") }, "Signature Version 2"},
		"the old way in the query":    {right, func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "AWSAccessKeyId=" + fakeID }, "Signature Version 2"},
		"no date":                     {right, func(r *http.Request) { r.Header.Del("X-Amz-Date") }, "0 fields X-Amz-Date"},
		"another day":                 {right, func(r *http.Request) { r.Header.Set("X-Amz-Date", "20310102T030405Z") }, "on the day of its credential"},
		"host is not signed":          {right, func(r *http.Request) { replaceIn(r, "host;", "hosts;") }, "Host is not among those that it signs"},
		"another's token":             {with(func(s *signing) { s.token = "another's token" }), nil, "its session token is another one's"},
		"signed events":               {with(func(s *signing) { s.payload = "STREAMING-AWS4-HMAC-SHA256-EVENTS" }), nil, "a stream of signed events"},
		"two hashes":                  {right, func(r *http.Request) { r.Header.Add("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }, "says 2 times what its body is"},
		"the id alone":                {signing{id: fakeID, key: fakeKey, payload: "hash"}, func(r *http.Request) { r.Header.Set("Authorization", fakeID) }, "names sigv4 for it"},
		"the key in a field":          {right, func(r *http.Request) { r.Header.Set("X-Key", fakeKey) }, "the field X-Key"},
		"the key in the body": {with(func(s *signing) { s.payload = "UNSIGNED-PAYLOAD" }), func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(fakeKey))
			r.ContentLength = int64(len(fakeKey))
		}, "the body of the request"},
		"the token in the path": {right, func(r *http.Request) { r.URL.Path = "/" + fakeToken }, "the path of the request"},
	} {
		r := sign(t, ask1(t, "PUT", atAWS+"/bucket/x", "text", "Te", "trailers", "X-Amz-Acl", "private"), "text", c.s)
		if c.change != nil {
			c.change(r)
		}
		aws.sent.forget()
		status, _, answer := try(t, client, r)
		if status != 403 || !strings.Contains(answer, c.why) || len(aws.sent.list) > 0 || strings.Contains(answer, fakeID) || strings.Contains(answer, fakeKey) {
			t.Errorf("%s: %d %s; it saw %q", name, status, answer, aws.sent.list)
		}
	}
	b.await("the alarm", alarmed("was not signed with the placeholder"))
	b.await("the alarm", alarmed("SigV4A"))
	if len(store.requests()) > 0 {
		t.Errorf("the store was asked: %+v", store.requests())
	}
	// The controls: the same request as it should be, one with a credential of its own, and one without any.
	if status, _, answer := try(t, client, sign(t, ask1(t, "PUT", atAWS+"/bucket/x", "text"), "text", right)); status != 200 {
		t.Errorf("control: %d %s", status, answer)
	}
	for name, r := range map[string]*http.Request{
		"SignatureDoesNotMatch": sign(t, ask1(t, "PUT", atAWS+"/bucket/x", "text"), "text", signing{id: "AKIAOTHEROTHEROTHERO", key: fakeKey[:30] + "0123456789", payload: "hash"}), "unsigned": ask1(t, "GET", atAWS+"/bucket/x", ""),
	} {
		if _, _, answer := try(t, client, r); !strings.HasPrefix(answer, name) {
			t.Errorf("%s: %s", name, answer)
		}
	}
	b.quiet()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.records {
		if text := fmt.Sprintf("%+v", r); strings.Contains(text, fakeID) || strings.Contains(text, fakeKey) || strings.Contains(text, fakeToken) {
			t.Errorf("it is told: %s", text)
		}
	}
}

func replaceIn(r *http.Request, old, by string) {
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, by, 1))
}

// TestSignedBodies: a body whose hash the request does not say is held up to a bound, and nothing of a longer one is sent.
func TestSignedBodies(t *testing.T) {
	var aws inCloud
	outside.site(t, aws.serve)
	b, _ := withAWS(t, fakeID+":"+fakeKey, realID+":"+realKey, nil, allow("api.example.com", 443))
	client := b.client(false)
	long := strings.Repeat("x", 16<<20+1)
	s := signing{id: fakeID, key: fakeKey, service: "lambda"}
	status, _, answer := try(t, client, sign(t, ask1(t, "POST", atAWS+"/", long), long, s))
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(answer, "X-Amz-Content-Sha256") || len(aws.sent.list) > 0 {
		t.Errorf("too long: %d %s", status, answer)
	}
	b.await("the denial", func(r wire.Record) bool {
		return r.Verdict == wire.Denied && r.Secret == "" && strings.Contains(r.Why, "longer than the 16 MiB")
	})
	s.payload = "hash"
	if status, _, answer = try(t, client, sign(t, ask1(t, "POST", atAWS+"/", long), long, s)); status != 200 {
		t.Errorf("control: %d %.300s", status, answer)
	}
	// In a long body that is held the key is found before anything is sent.
	aws.sent.forget()
	s.payload = ""
	leaking := strings.Repeat("x", 200<<10) + fakeKey
	if status, _, answer = try(t, client, sign(t, ask1(t, "POST", atAWS+"/", leaking), leaking, s)); status != 403 || !strings.Contains(answer, "the body of the request") || len(aws.sent.list) > 0 {
		t.Errorf("a leak: %d %s", status, answer)
	}
	b.quiet()
}

// TestChangedPieces: a body of signed pieces ends where one is not what was signed, and is told as an alarm.
func TestChangedPieces(t *testing.T) {
	var aws inCloud
	outside.site(t, aws.serve)
	both(t, func(t *testing.T, h2 bool) {
		b, _ := withAWS(t, fakeID+":"+fakeKey, realID+":"+realKey, nil, allow("api.example.com", 443))
		for name, size := range map[string]int{"small": 20 << 10, "large": 200 << 10} {
			body := strings.Repeat("x", size)
			r := sign(t, ask1(t, "PUT", atAWS+"/x", body), body, signing{id: fakeID, key: fakeKey, payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"})
			text, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			r.Body = io.NopCloser(strings.NewReader(string(text[:len(text)-200]) + "y" + string(text[len(text)-199:])))
			status, _, answer := try(t, b.client(h2), r)
			if status != 403 || !strings.Contains(answer, "a piece of its body was not signed with the placeholder") {
				t.Errorf("%s: %d %s", name, status, answer)
			}
		}
		if aws.sent.has("xyx") {
			t.Errorf("it saw %.1000q", aws.sent.list)
		}
		b.await("the alarm", alarmed("a piece of its body"))
		b.quiet()
	})
}

// TestHeldBodiesMakeRoom: bodies that were held and sent stand in no other's way while their answers are waited for.
func TestHeldBodiesMakeRoom(t *testing.T) {
	const polls = 40
	arrived, answer := make(chan bool, 2*polls), make(chan bool)
	outside.site(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		arrived <- true
		<-answer
	})
	b, _ := withAWS(t, fakeID+":"+fakeKey, realID+":"+realKey, nil, allow("api.example.com", 443))
	client := b.client(true)
	var all sync.WaitGroup
	poll := func(size int, payload string, unknown bool) {
		body := strings.Repeat("x", size)
		r := sign(t, ask1(t, "POST", atAWS+"/poll", body), body, signing{id: fakeID, key: fakeKey, service: "sqs", payload: payload})
		if unknown {
			r.ContentLength = -1
		}
		all.Go(func() {
			if answer, err := client.Do(r); err != nil || answer.StatusCode != 200 {
				t.Errorf("%v, %v", answer, err)
			}
		})
	}
	arrives := func() {
		t.Helper()
		select {
		case <-arrived:
		case <-time.After(time.Minute):
			t.Fatal("a request waits for another one's answer")
		}
	}
	for i := range 2 * polls {
		poll([]int{10, 100 << 10}[i%2], []string{"", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}[i/polls], false)
	}
	for range 2 * polls {
		arrives()
	}
	for range 6 { // of a body without a length as much is held as there can be, and of all together four times that
		poll(10, "", true)
		arrives()
	}
	close(answer)
	all.Wait()
}

// TestUnsignedControl: without the broker the stand-in refuses what the placeholders signed.
func TestUnsignedControl(t *testing.T) {
	var aws inCloud
	outside.site(t, aws.serve)
	b := open(t, rulesOf(some(nil, "/*")))
	r := sign(t, ask1(t, "PUT", atAWS+"/bucket/x", "text"), "text", signing{id: fakeID, key: fakeKey, payload: "hash"})
	if status, _, answer := try(t, b.client(false), r); status != 403 || !strings.HasPrefix(answer, "SignatureDoesNotMatch") || !bytes.Contains([]byte(strings.Join(aws.sent.list, "")), []byte(fakeID)) {
		t.Errorf("%d %s", status, answer)
	}
}
