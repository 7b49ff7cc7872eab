package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/sigv4"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
)

// signed is a request that was signed with the placeholders of an AWS credential, and is to be signed anew.
type signed struct {
	secret     wire.Secret
	parts      []string // of the placeholder: the key's id, the key, the token
	signature  *sigv4.Signature
	way        sigv4.Way
	credential sigv4.Credential
	body       *inPieces // nil: its pieces are not signed
	room       room
}

// Bodies of requests whose signature is over a body of which they say no hash are read whole before anything is sent, up to maxSigned; all of them together, and
// the pieces of others that are held, are maxHeld at most.
const (
	maxSigned = 16 << 20
	maxHeld   = 64 << 20
)

const securityToken = "X-Amz-Security-Token"

// readSigned finds a signature that was made with a placeholder. why is set where there is one that is not made anew: the placeholder is a leak then.
func (u *Use) readSigned(granted []wire.Secret, r *http.Request) (why error) {
	if !slices.ContainsFunc(granted, signs) {
		return nil
	}
	sent := incoming(r)
	sig, err := sigv4.Read(sent)
	if err != nil || sig == nil {
		return err
	}
	for _, s := range granted {
		parts := rules.Placeholders(s)
		if !signs(s) || parts[0] != sig.ID {
			continue
		}
		if sig.Token != "" && !slices.Contains(parts[2:], sig.Token) {
			return errors.New("its session token is another one's")
		}
		for text := range strings.SplitSeq(strings.ToLower(strings.Join(r.Header["Connection"], ",")), ",") { // ReverseProxy takes these out
			if name := strings.TrimSpace(text); slices.Contains(sig.Signed, name) {
				return fmt.Errorf("it signs the field %.40q, and says that it is not to be passed on", name)
			}
		}
		if err := sig.Agrees(u.site.Host); err != nil {
			return err
		}
		if _, err := sig.Payload(sent); err != nil {
			return err
		}
		u.signed = &signed{secret: s, parts: parts, signature: sig}
	}
	return nil
}

func signs(s wire.Secret) bool { return s.Place == policy.PlaceSigV4 }

// without is a field's value without the placeholders that are in their place.
func (g *signed) without(name, value string) string {
	switch {
	case g == nil:
	case name == "Authorization" && !g.signature.InQuery:
		return strings.Replace(value, "Credential="+g.parts[0]+"/", "Credential=/", 1)
	case name == securityToken && !g.signature.InQuery && value == g.signature.Token:
		return ""
	}
	return value
}

// incoming is a request as its client signed it.
func incoming(r *http.Request) sigv4.Request {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") {
		path = r.URL.EscapedPath()
	}
	header := maps.Clone(r.Header)
	header["Host"] = []string{r.Host}
	if r.ContentLength > 0 {
		header["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	return sigv4.Request{Method: r.Method, Path: path, Query: r.URL.RawQuery, Header: header}
}

// outgoing is a request as net/http will send it.
func outgoing(r *http.Request) sigv4.Request {
	header := maps.Clone(r.Header)
	header["Host"] = []string{r.Host}
	delete(header, "Content-Length")
	if r.ContentLength > 0 || r.ContentLength == 0 && slices.Contains([]string{"POST", "PUT", "PATCH"}, r.Method) {
		header["Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	}
	return sigv4.Request{Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Header: header}
}

// Check holds a request to its signature. An error is a Leak, or a Refused one where too much would have to be held.
//
// A key's id is no secret: it stands in logs and addresses. Without the check, whoever has seen it could have requests signed. And it finds the way in which the
// program writes its requests down, which services do not agree on.
func (b *Broker) Check(r *http.Request, u *Use, leaked func(*Leak)) error {
	g := u.signed
	if g == nil {
		return nil
	}
	sent, key := incoming(r), g.signature.KeyFor([]byte(g.parts[1]))
	said, err := g.signature.Payload(sent)
	if err != nil {
		return g.leak(err)
	}
	noBody := r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0
	payloads := []string{said}
	if said == "" {
		payloads = g.signature.Unread(noBody)
	}
	g.way, err = g.signature.Verify(sent, key, payloads...)
	if errors.Is(err, sigv4.ErrForged) && said == "" && !noBody {
		hash, failed := b.readBody(r, g)
		if failed != nil {
			return failed
		}
		g.way, err = g.signature.Verify(sent, key, hash)
	}
	if err != nil {
		return g.leak(err)
	}
	if g.way.InPieces() && !noBody {
		if !g.room.take(&b.held, sigv4.MaxPiece) {
			return tooMany(r)
		}
		g.body = &inPieces{ReadCloser: r.Body, signed: g, key: key, leaked: leaked}
		r.Body = g.body
	}
	return nil
}

// inPieces is a body whose pieces are signed anew on their way. leaked is told of one that is not what it should be; the body ends there with an error.
type inPieces struct {
	io.ReadCloser
	signed *signed
	key    sigv4.Key // of the placeholder
	leaked func(*Leak)
	pieces *sigv4.Pieces // nil until the request itself was signed anew
}

func (p *inPieces) Read(b []byte) (int, error) {
	n, err := p.pieces.Read(b)
	if err != nil {
		p.signed.room.leave()
	}
	var bad *sigv4.ErrPiece
	if errors.As(err, &bad) {
		l := p.signed.leak(err)
		p.leaked(l)
		return n, l
	}
	return n, err
}

func (g *signed) leak(err error) *Leak {
	return &Leak{Found: Found{Name: g.secret.Name}, Where: "the signature of the request", Why: err.Error()}
}

// readBody holds a body as a whole, and says its hash.
func (b *Broker) readBody(r *http.Request, g *signed) (hash string, err error) {
	most := int64(maxSigned)
	if r.ContentLength >= 0 {
		most = r.ContentLength
	}
	if most > maxSigned {
		return "", tooLong(r)
	}
	if !g.room.take(&b.held, most) {
		return "", tooMany(r)
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if int64(len(text)) > most {
		return "", tooLong(r)
	}
	r.Body.Close()
	if err != nil {
		return "", err
	}
	r.Body = &roomy{io.NopCloser(bytes.NewReader(text)), &g.room}
	return sigv4.Hash(text), nil
}

// TooMuch is a body that cannot be held.
type TooMuch struct {
	Status int
	Why    string
}

func (t *TooMuch) Error() string { return t.Why }

func tooLong(r *http.Request) error {
	return drained(r, &TooMuch{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request's signature is over its body, which is longer than the %d MiB that are held to sign it anew: "+
		"have the program say the body's hash in the field X-Amz-Content-Sha256, and it may be of any length", maxSigned>>20)})
}

// tooMany is an answer after which AWS's programs wait, and try again. To wait here instead would stop all of an HTTP/2 connection: the bodies that wait take
// the room of those that are read.
func tooMany(r *http.Request) error {
	return drained(r, &TooMuch{http.StatusServiceUnavailable, fmt.Sprintf("the bodies of requests that are to be signed anew take more than %d MiB at this moment", maxHeld>>20)})
}

// drained reads what is left of a body: many programs hear no answer before they have sent it.
func drained(r *http.Request, why error) error {
	_, err := io.Copy(io.Discard, r.Body)
	r.Body.Close()
	if err != nil {
		return err
	}
	return why
}

// room is what one body takes of the memory for those that are held. The zero room is none.
type room struct {
	mu   sync.Mutex
	of   *atomic.Int64
	size int64
}

func (o *room) take(of *atomic.Int64, size int64) bool {
	if of.Add(size) > maxHeld {
		of.Add(-size)
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of, o.size = of, size
	return true
}

// leave gives it back, once: when the body has been sent, as the answer may be long in coming.
func (o *room) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of != nil {
		o.of.Add(-o.size)
		o.of = nil
	}
}

// roomy is a body that was held as a whole.
type roomy struct {
	io.ReadCloser
	room *room
}

func (y *roomy) Read(p []byte) (int, error) {
	n, err := y.ReadCloser.Read(p)
	if err != nil {
		y.room.leave()
	}
	return n, err
}

// fetchKeys asks the store for what a request is signed with.
func (b *Broker) fetchKeys(ctx context.Context, u *Use) error {
	g := u.signed
	if g == nil {
		return nil
	}
	if err := b.value(ctx, u, g.secret, func(value []byte) error { return b.putKeys(u, value) }); err != nil {
		return fmt.Errorf("the secret %q: %w", g.secret.Name, err)
	}
	return nil
}

// putKeys notes a credential. Of the key itself only what signs in the scope of this request is kept.
func (b *Broker) putKeys(u *Use, value []byte) error {
	g, parts := u.signed, bytes.Split(value, []byte(":"))
	if len(parts) < 2 || len(parts) > 3 {
		return errors.New("its value is not an AWS credential")
	}
	for i, part := range parts {
		if err := presentable(part); err != nil {
			return err
		}
		placeholder := ""
		if i < len(g.parts) {
			placeholder = g.parts[i]
		}
		b.Prints.Add(Found{Name: g.secret.Name, Value: true}, part)
		u.list = append(u.list, replacements(part, []byte(placeholder))...)
	}
	g.credential = sigv4.Credential{ID: string(parts[0]), Key: g.signature.KeyFor(parts[1])}
	if len(parts) == 3 {
		g.credential.Token = string(parts[2])
	}
	return nil
}

// Sign signs a request anew, when it is as it will be sent. The host's answer may quote the signature; the program is told its own.
func (u *Use) Sign(out *http.Request) {
	g := u.signed
	if g == nil {
		return
	}
	r := outgoing(out)
	query, signature := g.signature.Again(r, g.way, g.credential)
	out.URL.RawQuery = query
	for _, name := range []string{"Authorization", securityToken} {
		if delete(out.Header, name); len(r.Header[name]) > 0 {
			out.Header[name] = r.Header[name]
		}
	}
	if p := g.body; p != nil {
		p.pieces = g.signature.Pieces(p.ReadCloser, g.way, p.key, g.credential, signature)
	}
	u.list = append(u.list, replacement{[]byte(signature), []byte(g.signature.Hex)})
}

func (g *signed) end() {
	if g != nil {
		g.room.leave()
		g.credential = sigv4.Credential{}
	}
}
