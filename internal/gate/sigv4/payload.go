package sigv4

import (
	"errors"
	"fmt"
	"strings"
)

// What may stand for a body instead of its hash.
const (
	unsigned        = "UNSIGNED-PAYLOAD"
	unsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// Empty is the hash of no body.
const Empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Payload is what a request says for its body; "" where it says nothing.
func (s *Signature) Payload(r Request) (string, error) {
	said := r.Header[fieldPayload]
	for _, p := range parameters(r.Query) {
		if p.name == fieldPayload {
			said = append(said[:len(said):len(said)], p.value)
		}
	}
	switch {
	case len(said) == 0:
		return "", nil
	case len(said) > 1:
		return "", fmt.Errorf("it says %d times what its body is (%s)", len(said), fieldPayload)
	}
	text := said[0]
	switch {
	case text == unsigned || text == unsignedTrailer || text == pieces || text == piecesTrailer || len(text) == 64 && strings.Trim(text, "0123456789abcdef") == "":
		return text, nil
	case strings.HasPrefix(text, "STREAMING-AWS4-HMAC-SHA256-EVENTS"):
		return "", errors.New("its body is a stream of signed events, which is not signed anew: have the program send its data whole")
	}
	return "", fmt.Errorf("%s says %.60q, which is no hash", fieldPayload, text)
}

// Unread are the payloads that need no look at the body.
func (s *Signature) Unread(noBody bool) (list []string) {
	if s.InQuery {
		list = append(list, unsigned)
	}
	if noBody {
		list = append(list, Empty)
	}
	return list
}
