package broker

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

const (
	theValue       = "sk-ant-api03-V4lu3/That+Is_Real~0123456789"
	thePlaceholder = "sk-ant-api03-Pl4c3hold3r/random+98765_4321"
)

func prints() *Prints {
	p := NewPrints()
	p.Add(Found{Name: "a", Value: true}, []byte(theValue))
	p.Add(Found{Name: "a"}, []byte(thePlaceholder))
	return p
}

// naive says what a search must find: every view made of the whole stream, and every form looked for in it.
func naive(text []byte) bool {
	for _, v := range views() {
		seen := text
		if v.decode != nil {
			out, rest := v.decode(nil, text)
			seen = append(out, text[len(text)-rest:]...)
			if rest > 0 {
				seen = out // what may go on is not decided
			}
		}
		for _, what := range []string{theValue, thePlaceholder} {
			for _, form := range forms([]byte(what)) {
				if bytes.Contains(seen, form) {
					return true
				}
			}
		}
	}
	return false
}

func pieces(r *rand.Rand, text []byte, use func([]byte)) {
	for len(text) > 0 {
		n := 1 + r.IntN(min(len(text), []int{1, 3, 20, 200}[r.IntN(4)]))
		use(bytes.Clone(text[:n]))
		text = text[n:]
	}
}

func FuzzSearch(f *testing.F) {
	for _, what := range []string{theValue, thePlaceholder} {
		for _, form := range forms([]byte(what)) {
			f.Add([]byte("before "+string(form)+" after"), uint64(1))
		}
		var escaped, odd strings.Builder
		for _, c := range what {
			fmt.Fprintf(&escaped, "%%%02x", c)
			fmt.Fprintf(&odd, `\u%04X`, c)
		}
		mime := base64.StdEncoding.EncodeToString([]byte("user:" + what))
		for _, text := range []string{url.QueryEscape(what), escaped.String(), odd.String(), strings.ReplaceAll(what, "/", `\/`), mime[:20] + "\r\n" + mime[20:], what[:9] + "%" + what[9:], "%" + what + `\`} {
			f.Add([]byte(text), uint64(2))
		}
		f.Add([]byte(what[:len(what)-1]), uint64(3))
	}
	p := prints()
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		want := naive(text)
		s, got := p.Search(), false
		pieces(rand.New(rand.NewPCG(seed, 1)), text, func(piece []byte) {
			if _, ok := s.Next(piece); ok {
				got = true
			}
		})
		_, whole := p.In(string(text))
		if got != want || whole != want {
			t.Errorf("in pieces %v, as a whole %v, want %v: %q", got, whole, want, text)
		}
	})
}

// TestForms: each way of writing it that is promised is found, and what is one character short is not.
func TestForms(t *testing.T) {
	p := prints()
	var percents, escapes strings.Builder
	for _, c := range []byte(theValue) {
		fmt.Fprintf(&percents, "%%%02X", c)
		fmt.Fprintf(&escapes, `\u%04x`, c)
	}
	texts := map[string]string{
		"as it is": theValue, "in an address": url.QueryEscape(theValue), "all percent": percents.String(), "in JSON": escapes.String(),
		"hexadecimal": fmt.Sprintf("%x", theValue), "in capitals": fmt.Sprintf("%X", theValue),
	}
	for before := range 4 {
		text := strings.Repeat("u", before) + theValue + "p"
		texts[fmt.Sprintf("base64 after %d", before)] = base64.StdEncoding.EncodeToString([]byte(text))
		texts[fmt.Sprintf("base64url after %d", before)] = base64.URLEncoding.EncodeToString([]byte(text))
	}
	for name, text := range texts {
		if f, ok := p.In(text); !ok || !f.Value || f.Name != "a" {
			t.Errorf("%s: %v %v in %s", name, f, ok, text)
		}
	}
	for _, text := range []string{theValue[1:], theValue[:len(theValue)-1], strings.ToUpper(theValue), "", theValue[:20] + "x" + theValue[20:]} {
		if f, ok := p.In(text); ok {
			t.Errorf("%v in %q", f, text)
		}
	}
}

// TestRotatedValuesAreRemembered, and not without end.
func TestRotatedValuesAreRemembered(t *testing.T) {
	p := NewPrints()
	value := func(i int) []byte { return fmt.Appendf(nil, "value-number-%04d", i) }
	for i := range 50 {
		p.Add(Found{Name: "a", Value: true}, value(i))
		p.Add(Found{Name: "a", Value: true}, value(i))
	}
	for i := range 50 {
		if _, ok := p.In(string(value(i))); ok != (i >= 50-maxValues) {
			t.Errorf("value %d: %v", i, ok)
		}
	}
}

func FuzzScrub(f *testing.F) {
	value, placeholder := []byte("Va1ue-Va1ue-x"), []byte("Pl4ceh0lder-y")
	f.Add([]byte("a Va1ue-Va1ue-x b Va1ue-Va1ue-Va1ue-x"), uint64(1))
	f.Add(forms(value)[1], uint64(2))
	f.Add([]byte("Va1ue-Va1ue-"), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		s, out, r := Scrub{list: replacements(value, placeholder)}, []byte{}, rand.New(rand.NewPCG(seed, 1))
		pieces(r, text, func(piece []byte) { out = append(out, s.Next(piece)...) })
		out = append(out, s.End()...)
		if len(out) != len(text) {
			t.Fatalf("%d bytes became %d", len(text), len(out))
		}
		found := false
		for _, form := range written(value) {
			found = found || bytes.Contains(text, form)
			if bytes.Contains(out, form) {
				t.Errorf("%q holds the value", out)
			}
		}
		if !found && !bytes.Equal(out, text) {
			t.Errorf("%q became %q", text, out)
		}
		read, err := io.ReadAll(&scrubbed{ReadCloser: io.NopCloser(&halting{text, r}), scrub: Scrub{list: replacements(value, placeholder)}})
		if err != nil || len(read) != len(text) || bytes.Contains(read, value) {
			t.Errorf("%q, %v", read, err)
		}
	})
}

// halting gives a little at a time, and sometimes nothing.
type halting struct {
	text []byte
	r    *rand.Rand
}

func (h *halting) Read(p []byte) (int, error) {
	if len(h.text) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), h.r.IntN(7))], h.text)
	h.text = h.text[n:]
	return n, nil
}

// TestScrubFlows: what cannot begin a value is not kept back.
func TestScrubFlows(t *testing.T) {
	s := Scrub{list: replacements([]byte(theValue), []byte(thePlaceholder))}
	for _, text := range []string{"data: {}\n\n", "data: hello\n\n", theValue[:5] + "x"} {
		if got := string(s.Next([]byte(text))); got != text {
			t.Errorf("%q came as %q", text, got)
		}
	}
	if got := string(s.Next([]byte("a " + theValue[:20]))); got != "a " {
		t.Errorf("%q", got)
	}
	if got := string(s.Next([]byte(theValue[20:] + ".\n"))); got != thePlaceholder+".\n" {
		t.Errorf("%q", got)
	}
}

// TestBlot overwrites what has not gone out.
func TestBlot(t *testing.T) {
	b := prints().Blot()
	first, rest := []byte("x "+theValue[:10]), []byte(theValue[10:]+" y "+thePlaceholder)
	if name := b.Next(first); name != "" {
		t.Error(name)
	}
	if name := b.Next(rest); name != "a" || string(rest) != strings.Repeat("*", len(theValue)-10)+" y "+thePlaceholder {
		t.Errorf("%q %q", name, rest)
	}
}

func BenchmarkSearch(b *testing.B) {
	for name, text := range map[string]string{"JSON": `{"role":"user","content":"a line\nwith \"quotes\" and more"},` + "\n", "binary": "\x00\x01abcdefgh%ijk\\"} {
		b.Run(name, func(b *testing.B) {
			piece := bytes.Repeat([]byte(text), 16<<10/len(text))
			s := prints().Search()
			b.SetBytes(int64(len(piece)))
			for b.Loop() {
				s.Next(piece)
			}
		})
	}
}
