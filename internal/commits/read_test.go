package commits

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"casemate.dev/internal/workspace"
)

const plainCommit = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent aaaa\nparent bbbb\nauthor A. U. Thor <a@example.org> 1234567890 +0530\ncommitter C <c@d> 1 +0000\n" +
	"encoding ISO-8859-1\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n tree evil\n -----END PGP SIGNATURE-----\n\nsubject\n\nbody\n"

func TestParseCommit(t *testing.T) {
	c, err := parseCommit([]byte(plainCommit))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.Tree, c.Parents, c.name, "|", c.email, "|", c.date, "|", c.encoding, "|", c.Subject, "|", string(c.message))
	want := "4b825dc642cb6eb9a060e54bf8d69288fbee4904[aaaa bbbb]A. U. Thor|a@example.org|@1234567890 +0530|ISO-8859-1|subject|subject\n\nbody\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for name, bad := range map[string]string{
		"no author":                 "tree a\n\nx",
		"no tree":                   "author A <a> 1 +0000\n\nx",
		"no e-mail":                 "tree a\nauthor A 1 +0000\n\nx",
		"an angle in the name":      "tree a\nauthor A> <a> 1 +0000\n\nx",
		"a date before time":        "tree a\nauthor A <a> -1 +0000\n\nx",
		"a date after time":         "tree a\nauthor A <a> 99999999999999999999 +0000\n\nx",
		"a zone that is an option":  "tree a\nauthor A <a> 1 +0000 --x\n\nx",
		"an encoding with a blank":  "tree a\nauthor A <a> 1 +0000\nencoding a b\n\nx",
		"a message that is a flood": "tree a\nauthor A <a> 1 +0000\n\n" + strings.Repeat("x", maxMessage+1),
	} {
		if c, err := parseCommit([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// FuzzParseCommit: whatever a commit holds, what is handed to git is one line each, and printed without escapes.
func FuzzParseCommit(f *testing.F) {
	f.Add([]byte(plainCommit))
	f.Add([]byte("tree a\nauthor A\x1b[2J <a\x00> 1 +0000\n\nx\x1b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCommit(b)
		if err != nil {
			return
		}
		for _, s := range []string{c.name, c.email, c.date, c.encoding} {
			if strings.ContainsAny(s, "\n\x00") {
				t.Errorf("%q", s)
			}
		}
		if shown := c.Author + c.Subject; workspace.Visible(shown) != shown {
			t.Errorf("shown: %q", shown)
		}
		answer := fmt.Appendf(nil, "abc commit %d\n%s\nrest", len(b), b)
		again, rest, err := cutCommit(answer)
		if err != nil || string(rest) != "rest" || again.name != c.name || !bytes.Equal(again.message, c.message) {
			t.Errorf("read again: %+v, %q, %v", again, rest, err)
		}
	})
}

func TestParseRaw(t *testing.T) {
	const zero, one = "0000000000000000000000000000000000000000", "1111111111111111111111111111111111111111"
	made, err := parseRaw([]byte("4444444444444444444444444444444444444444\x00" +
		":000000 100755 " + zero + " " + one + " A\x00new\nline\x00" +
		":100644 000000 " + one + " " + zero + " D\x00:gone\x00" +
		"::100644 120000 120000 " + one + " " + one + " " + zero + " MM\x00merged\x00"))
	if err != nil {
		t.Fatal(err)
	}
	want := []workspace.TreeChange{{Path: "new\nline", Mode: 0o100755, Object: one}, {Path: ":gone", Was: 0o100644, Object: zero}, {Path: "merged", Was: 0o120000, Mode: 0o120000, Object: zero}}
	if fmt.Sprint(made) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", made, want)
	}
}

func FuzzParseRaw(f *testing.F) {
	f.Add([]byte(":000000 100755 0 1 A\x00x\x00"))
	f.Add([]byte("::100644 120000 120000 1 2 3 MM\x00merged\x00"))
	f.Add([]byte(":\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		made, err := parseRaw(b)
		for _, c := range made {
			if c.Path == "" || strings.Contains(c.Path, "\x00") || err != nil {
				t.Errorf("%+v, %v", c, err)
			}
		}
	})
}
