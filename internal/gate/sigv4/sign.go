package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
)

// Key signs within one scope: on one day, in one region, for one service. The secret cannot be found from it.
type Key [sha256.Size]byte

// KeyFor makes the key of the signature's scope.
func (s *Signature) KeyFor(secret []byte) (k Key) {
	seed := append([]byte("AWS4"), secret...)
	defer clear(seed)
	sum := seed
	for _, text := range []string{s.Date, s.Region, s.Service, last} {
		sum = mac(sum, text)
	}
	copy(k[:], sum)
	clear(sum)
	return k
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (s *Signature) of(r Request, signed []string, w Way, k Key) string {
	text := strings.Join([]string{algorithm, s.Time, s.scope(), Hash([]byte(r.canonical(signed, w)))}, "\n")
	return hex.EncodeToString(mac(k[:], text))
}

// ErrForged is a signature that the secret did not make, or not of this request.
var ErrForged = errors.New("the request was not signed with the placeholder of the secret access key, or was changed since")

// Verify finds the way in which the request was written down when it was signed, with one of the payloads.
func (s *Signature) Verify(r Request, k Key, payloads ...string) (Way, error) {
	for _, name := range s.Signed {
		if len(r.Header[textproto.CanonicalMIMEHeaderKey(name)]) == 0 {
			return Way{}, fmt.Errorf("the field %.60q is among those that it signs, and is not there", name)
		}
	}
	for _, payload := range payloads {
		for _, w := range s.ways(r, payload) {
			if subtle.ConstantTimeCompare([]byte(s.of(r, s.Signed, w, k)), []byte(s.Hex)) == 1 {
				return w, nil
			}
		}
	}
	return Way{}, ErrForged
}

// Credential is what a request is signed with anew.
type Credential struct {
	ID, Token string
	Key       Key
}

// Again signs the request as it is sent, in the same way and scope, and puts the new signature where the old one was: into the header, which it changes, or
// the query, which it returns. Fields that were signed and are not sent are left out; one that is signed later than it should be would be nobody's.
func (s *Signature) Again(r Request, w Way, c Credential) (query, signature string) {
	signed := slices.DeleteFunc(slices.Clone(s.Signed), func(name string) bool {
		return len(r.Header[textproto.CanonicalMIMEHeaderKey(name)]) == 0 || name == strings.ToLower(fieldToken) && c.Token == ""
	})
	if s.InQuery {
		return s.againQuery(r, signed, w, c)
	}
	delete(r.Header, fieldToken)
	if c.Token != "" {
		r.Header[fieldToken] = []string{c.Token}
		if name := strings.ToLower(fieldToken); s.Token == "" && !slices.Contains(signed, name) {
			signed = append(signed, name)
			slices.Sort(signed)
		}
	}
	signature = s.of(r, signed, w, c.Key)
	r.Header["Authorization"] = []string{fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%s", algorithm, c.ID, s.scope(), strings.Join(signed, ";"), signature)}
	return r.Query, signature
}

func (s *Signature) againQuery(r Request, signed []string, w Way, c Credential) (query, signature string) {
	var parts []string
	for _, p := range parameters(r.Query) {
		switch {
		case p.name == queryCredential:
			p.raw = p.name + "=" + escape(c.ID+"/"+s.scope())
		case p.name == querySigned:
			p.raw = p.name + "=" + escape(strings.Join(signed, ";"))
		case p.name == fieldToken && c.Token == "", p.name == querySignature:
			continue
		case p.name == fieldToken:
			p.raw = p.name + "=" + escape(c.Token)
		}
		parts = append(parts, p.raw)
	}
	if s.Token == "" && c.Token != "" {
		parts = append(parts, fieldToken+"="+escape(c.Token))
	}
	r.Query = strings.Join(parts, "&")
	signature = s.of(r, signed, w, c.Key)
	return r.Query + "&" + querySignature + "=" + signature, signature
}
