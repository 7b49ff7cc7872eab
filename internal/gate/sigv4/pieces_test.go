package sigv4

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// inPieces are the examples of the Amazon S3 API Reference, "Transferring Payload in Multiple Chunks" and "Signature calculations for trailing headers": 65 KiB
// of the letter a, with its secret, time and scope.
func inPieces(first, second, third, trailer string) string {
	body := "10000;chunk-signature=" + first + "\r\n" + strings.Repeat("a", 65536) + "\r\n400;chunk-signature=" + second + "\r\n" + strings.Repeat("a", 1024) + "\r\n0;chunk-signature=" + third + "\r\n"
	if trailer == "" {
		return body + "\r\n"
	}
	return body + "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:" + trailer + "\r\n\r\n"
}

var s3Pieces = []struct{ name, payload, signature, body string }{
	{"pieces", pieces, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", inPieces(
		"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
		"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", "")},
	{"pieces with a trailer", piecesTrailer, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", inPieces(
		"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2", "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
		"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992", "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435")},
}

func exampleSignature(hex string) *Signature {
	return &Signature{ID: "AKIAIOSFODNN7EXAMPLE", Date: "20130524", Region: "us-east-1", Service: "s3", Time: "20130524T000000Z", Hex: hex}
}

// TestPieces: each piece's signature is held to the placeholder's and made anew with the other key, whatever pieces the body itself comes in.
func TestPieces(t *testing.T) {
	for _, c := range s3Pieces {
		sig := exampleSignature(c.signature)
		old, new := sig.KeyFor([]byte(s3Secret)), sig.KeyFor([]byte("another secret"))
		if documented := strings.Replace(c.body, "sOO8/Q==\r\n", "sOO8/Q==\n\r\n", 1); documented != c.body {
			again, err := io.ReadAll(sig.Pieces(strings.NewReader(documented), Way{Payload: c.payload}, old, Credential{Key: old}, sig.Hex))
			if err != nil || string(again) != documented {
				t.Errorf("as it is documented: %v, %d bytes", err, len(again))
			}
		}
		for name, reader := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with its end": iotest.DataErrReader} {
			first := strings.Repeat("0", 64)
			again, err := io.ReadAll(sig.Pieces(reader(strings.NewReader(c.body)), Way{Payload: c.payload}, old, Credential{Key: old}, sig.Hex))
			if err != nil || string(again) != c.body {
				t.Errorf("%s, %s: with the same key: %v, %d bytes", c.name, name, err, len(again))
			}
			anew, err := io.ReadAll(sig.Pieces(reader(strings.NewReader(c.body)), Way{Payload: c.payload}, old, Credential{Key: new}, first))
			if err != nil || len(anew) != len(c.body) || bytes.Equal(anew, []byte(c.body)) {
				t.Errorf("%s, %s: %v, %d bytes", c.name, name, err, len(anew))
			}
			check := exampleSignature(first)
			back, err := io.ReadAll(check.Pieces(bytes.NewReader(anew), Way{Payload: c.payload}, new, Credential{Key: old}, sig.Hex))
			if err != nil || string(back) != c.body {
				t.Errorf("%s, %s: what was signed anew is not the other key's: %v", c.name, name, err)
			}
		}
	}
}

// TestBadPieces: a piece that was changed, left out, added or put elsewhere ends the body before it, and what is left is no whole body.
func TestBadPieces(t *testing.T) {
	for _, c := range s3Pieces {
		sig := exampleSignature(c.signature)
		key := sig.KeyFor([]byte(s3Secret))
		head := strings.Index(c.body, "\r\n400;") + 2
		for name, body := range map[string]string{
			"another byte": strings.Replace(c.body, "aaa\r\n400", "aab\r\n400", 1), "another signature": strings.Replace(c.body, "400;chunk-signature=", "400;chunk-signature=0", 1),
			"a piece too few": c.body[head:], "a piece too many": c.body[:head] + c.body, "no end": c.body[:len(c.body)-2], "more after the end": c.body + "x", "no pieces": "text", "nothing": "",
			"a longer piece": strings.Replace(c.body, "400;", "3ff;", 1), "a huge piece": "ffffffff;chunk-signature=" + c.signature + "\r\n", "no number": strings.Replace(c.body, "10000;", "-1;", 1),
			"a line without an end": strings.Repeat("0", 1<<20), "bare line feeds": strings.ReplaceAll(c.body, "\r\n", "\n"), "another trailer": strings.Replace(c.body, "crc32c:s", "crc32c:t", 1), "the first piece alone": c.body[:head],
			"many trailers": strings.Replace(c.body, "x-amz-checksum", strings.Repeat("x:y\r\n", 100)+"x-amz-checksum", 1),
		} {
			if body == c.body {
				continue
			}
			got, err := io.ReadAll(sig.Pieces(strings.NewReader(body), Way{Payload: c.payload}, key, Credential{Key: key}, sig.Hex))
			if err == nil || !errors.As(err, new(*ErrPiece)) && err != io.ErrUnexpectedEOF || !strings.HasPrefix(c.body, string(got)) {
				t.Errorf("%s, %s: %v, %d bytes", c.name, name, err, len(got))
			}
		}
	}
}

// short is a body of two pieces and a trailer.
func short(sig *Signature, key Key, trailer bool) (body string) {
	last := sig.Hex
	sign := func(kind, what string) string {
		last = hex.EncodeToString(mac(key[:], strings.Join([]string{algorithm + "-" + kind, sig.Time, sig.scope(), last, what}, "\n")))
		return last
	}
	for _, piece := range []string{"one", "another"} {
		body += fmt.Sprintf("%x;chunk-signature=%s\r\n%s\r\n", len(piece), sign("PAYLOAD", Empty+"\n"+Hash([]byte(piece))), piece)
	}
	body += "0;chunk-signature=" + sign("PAYLOAD", Empty+"\n"+Empty) + "\r\n"
	if trailer {
		body += "a:b\r\nx-amz-trailer-signature:" + sign("TRAILER", Hash([]byte("a:b\n"))) + "\r\n"
	}
	return body + "\r\n"
}

// FuzzPieces: what passes is what was signed, but for the ends of lines.
func FuzzPieces(f *testing.F) {
	sig := exampleSignature(strings.Repeat("0", 64))
	key := sig.KeyFor([]byte(s3Secret))
	bodies := map[bool]string{true: short(sig, key, true), false: short(sig, key, false)}
	for trailer, body := range bodies {
		f.Add(body, trailer)
		f.Add(body[:len(body)/2], trailer)
	}
	f.Add("0;chunk-signature=\r\n\r\n", false)
	f.Fuzz(func(t *testing.T, body string, trailer bool) {
		way := Way{Payload: pieces}
		if trailer {
			way.Payload = piecesTrailer
		}
		got, err := io.ReadAll(sig.Pieces(strings.NewReader(body), way, key, Credential{Key: key}, sig.Hex))
		plain := func(text string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(text) }
		if want := plain(bodies[trailer]); !strings.HasPrefix(want, plain(string(got))) || err == nil && plain(string(got)) != want {
			t.Fatalf("%.100q passes: %v", got, err)
		}
	})
}
