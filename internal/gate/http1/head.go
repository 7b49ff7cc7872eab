package http1

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"casemate.dev/internal/gate/claim"
)

// Refusal is why a request is not passed on, and the status that says so.
type Refusal struct {
	Status int
	Err    error
}

func (r *Refusal) Error() string { return r.Err.Error() }

func ambiguous(format string, args ...any) *Refusal {
	return &Refusal{http.StatusBadRequest, fmt.Errorf("the request is ambiguous: "+format, args...)}
}

// framing is where a request's body ends.
type framing struct {
	length  int64
	chunked bool
	said    bool // one field has said so
	version string
	hosts   int // fields
}

// readHead reads a request's head with the empty line that ends it. Two servers that read it must not see different requests in it, so everything that
// is not plainly RFC 9112 is refused, also what the RFC says how to mend: a folded line, a bare line feed, a length beside chunks (11.2).
func readHead(head []byte, agree func(claim.Claim) error) (framing, *Refusal) {
	f := framing{}
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	for _, line := range lines {
		if strings.ContainsFunc(line, isControl) {
			return f, ambiguous("a line of it holds a control character")
		}
	}
	said, need, err := claim.Read(head, true)
	switch {
	case err != nil:
		return f, &Refusal{http.StatusBadRequest, err}
	case said.Protocol != claim.HTTP || need != 0:
		return f, ambiguous("it has no request line")
	}
	f.version = lines[0][strings.LastIndexByte(lines[0], ' ')+1:]
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		if err := f.field(name, strings.Trim(value, " \t")); err != nil {
			return f, err
		}
	}
	if f.hosts != 1 {
		return f, ambiguous("it has %d Host fields", f.hosts)
	}
	if err := agree(said); err != nil {
		return f, &Refusal{http.StatusMisdirectedRequest, err}
	}
	return f, nil
}

func (f *framing) field(name, value string) *Refusal {
	switch {
	case strings.EqualFold(name, "Host"):
		f.hosts++
	case strings.EqualFold(name, "Transfer-Encoding"):
		switch {
		case f.said:
			return ambiguous("it says twice how long its body is")
		case !strings.EqualFold(value, "chunked") || f.version != "HTTP/1.1":
			return ambiguous("its Transfer-Encoding is %.80q in %s", value, f.version)
		}
		f.said, f.chunked = true, true
	case strings.EqualFold(name, "Content-Length"):
		n, err := strconv.ParseUint(value, 10, 62)
		switch {
		case f.said:
			return ambiguous("it says twice how long its body is")
		case err != nil || value[0] == '+':
			return ambiguous("its Content-Length is %.80q", value)
		}
		f.said, f.length = true, int64(n)
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// chunkSize reads the line before a chunk.
func chunkSize(line []byte) (int64, error) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	if len(digits) == 0 || len(digits) > 15 || bytes.ContainsFunc(line, isControl) {
		return 0, errors.New("the size of a chunk is ambiguous")
	}
	n, err := strconv.ParseUint(string(digits), 16, 62)
	if err != nil {
		return 0, errors.New("the size of a chunk is ambiguous")
	}
	return int64(n), nil
}

// checkTrailers reads the lines after the last chunk, without the empty one.
func checkTrailers(text string) error {
	for line := range strings.SplitSeq(text, "\r\n") {
		name, _, ok := strings.Cut(line, ":")
		switch {
		case text == "":
			return nil
		case !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 127 || !claim.IsToken(byte(r)) }) || strings.ContainsFunc(line, isControl):
			return errors.New("a trailer is ambiguous")
		}
		switch strings.ToLower(name) {
		case "host", "content-length", "transfer-encoding", "connection", "upgrade":
			return fmt.Errorf("%.40q is no trailer", name)
		}
	}
	return nil
}
