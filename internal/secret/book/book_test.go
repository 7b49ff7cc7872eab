package book

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/secret"
)

const real = "sk-ant-api03-Zk3vQ8aXw2"

func TestMain(m *testing.M) {
	if dir := os.Getenv("CASEMATE_TEST_WRITE"); dir != "" {
		write(dir, os.Getenv("CASEMATE_TEST_NAME"))
	}
	os.Exit(m.Run())
}

func newPlace(t testing.TB) Place {
	t.Helper()
	p, err := Find(func(name string) string {
		if name == "XDG_CONFIG_HOME" {
			return t.TempDir()
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func value(t testing.TB, s string) secret.Value {
	t.Helper()
	v, err := secret.New([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func text(t testing.TB, v secret.Value) (s string) {
	t.Helper()
	if err := v.Use(func(b []byte) error { s = string(b); return nil }); err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, p Place) *Keyed {
	t.Helper()
	k, err := Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func add(k *Keyed, name, val string) error {
	return k.Update(func(b *Book) error {
		v, err := secret.New([]byte(val))
		if err != nil {
			return err
		}
		shape, err := secret.ShapeOf("", v)
		if err != nil {
			return err
		}
		b.Add(Entry{Name: name, Source: Source{Store: File}, Shape: shape, Created: time.Now(), Version: 1})
		b.SetValue(name, v)
		return nil
	})
}

func made(t testing.TB) Place {
	t.Helper()
	p := newPlace(t)
	if err := add(open(t, p), "anthropic", real); err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t testing.TB, p Place) *Book {
	t.Helper()
	b, err := open(t, p).Read()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return b
}

func TestFirstUse(t *testing.T) {
	p := newPlace(t)
	if b := read(t, p); len(b.Entries) != 0 {
		t.Errorf("%+v", b.Entries)
	}
	if _, err := os.Stat(p.Dir); err == nil {
		t.Error("reading made the directory")
	}
	if err := add(open(t, p), "anthropic", real); err != nil {
		t.Fatal(err)
	}
	b := read(t, p)
	e := b.Entry("anthropic")
	if e == nil || text(t, b.Value("anthropic")) != real || e.Shape.Prefix != "sk-ant-api03-" || e.Shape.Length != len(real) {
		t.Errorf("%+v", e)
	}
	for _, name := range []string{keyName, bookName, lockName} {
		st, err := os.Stat(filepath.Join(p.Dir, name))
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
		contents, _ := os.ReadFile(filepath.Join(p.Dir, name))
		for _, word := range []string{real, "anthropic"} { // names are nobody's business either
			if bytes.Contains(contents, []byte(word)) {
				t.Errorf("%s holds %q", name, word)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(p.Dir, ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPassphrase(t *testing.T) {
	p := made(t)
	if err := open(t, p).protect(value(t, "correct horse"), 10); err != nil {
		t.Fatal(err)
	}
	asked := 0
	with := func(passphrase string) (*Keyed, error) {
		return Open(p, func() (secret.Value, error) { asked++; return secret.New([]byte(passphrase)) })
	}
	k, err := with("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if err := add(k, "second", "0123456789abcdef"); err != nil { // and does not ask again
		t.Fatal(err)
	}
	b, err := k.Read()
	if err != nil || asked != 1 || text(t, b.Value("anthropic")) != real || b.Entry("second") == nil {
		t.Fatalf("%v, asked %d times", err, asked)
	}
	_, err = with("wrong")
	wantProblem(t, err, "passphrase is wrong", "try again")
	_, err = Open(p, nil)
	wantProblem(t, err, "nobody to ask", PassphraseVariable)
	if err := k.Protect(secret.Value{}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, p); text(t, got.Value("anthropic")) != real {
		t.Error("without the passphrase it is another book")
	}
}

func wantProblem(t *testing.T, err error, sentence, hint string) {
	t.Helper()
	var p *secret.Problem
	if !errors.As(err, &p) || !strings.Contains(err.Error(), sentence) || !strings.Contains(p.Hint(), hint) {
		t.Errorf("%v, want %q with a hint at %q", err, sentence, hint)
	}
	if err != nil && strings.Contains(err.Error(), plainKey) {
		t.Errorf("the error quotes the key: %v", err)
	}
}

// TestRefused opens books that are not as they should be. Each is refused in words, and stays as it is.
func TestRefused(t *testing.T) {
	change := func(path string, f func([]byte) []byte) func(t *testing.T, p Place) {
		return func(t *testing.T, p Place) {
			path := filepath.Join(p.Dir, path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(name string) func(t *testing.T, p Place) {
		return func(t *testing.T, p Place) {
			path := filepath.Join(p.Dir, name)
			if err := errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	mode := func(name string, mode os.FileMode) func(t *testing.T, p Place) {
		return func(t *testing.T, p Place) {
			if err := os.Chmod(filepath.Join(p.Dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	type row struct {
		name           string
		spoil          func(t *testing.T, p Place)
		sentence, hint string
	}
	rows := []row{
		{"one bit of the book", change(bookName, func(b []byte) []byte { b[len(b)-9] ^= 1; return b }), "is damaged", "from a backup"},
		{"one bit of its header", change(bookName, func(b []byte) []byte { b[40] ^= 1; return b }), "secrets.age", ""},
		{"cut short", change(bookName, func(b []byte) []byte { return b[:len(b)-1] }), "is damaged", "from a backup"},
		{"empty", change(bookName, func(b []byte) []byte { return nil }), "is damaged", "from a backup"},
		{"longer", change(bookName, func(b []byte) []byte { return append(b, 0) }), "is damaged", "from a backup"},
		{"another key", func(t *testing.T, p Place) {
			other := made(t)
			if err := os.Rename(other.Key, p.Key); err != nil {
				t.Fatal(err)
			}
		}, "another key", KeyVariable},
		{"no key", func(t *testing.T, p Place) { os.Remove(p.Key) }, "is not there", KeyVariable},
		{"empty key", change(keyName, func([]byte) []byte { return nil }), "is damaged", "from a backup"},
		{"spoiled key", change(keyName, func(b []byte) []byte { b[len(b)-5] ^= 3; return b }), "is damaged", "from a backup"},
		{"book others can read", mode(bookName, 0o644), "others may read", "chmod 600"},
		{"key the group can read", mode(keyName, 0o640), "others may read", "rotate"},
		{"directory others can write", mode(".", 0o777), "others may write", "chmod go-w"},
		{"link for the book", link(bookName), "symbolic link", ""},
		{"link for the key", link(keyName), "symbolic link", ""},
		{"second name", func(t *testing.T, p Place) {
			if err := os.Link(p.File(), p.File()+".2"); err != nil {
				t.Fatal(err)
			}
		}, "hard links", "remove"},
		{"no file", func(t *testing.T, p Place) {
			if err := errors.Join(os.Remove(p.File()), os.Mkdir(p.File(), 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "is no file", ""},
	}
	if os.Geteuid() == 0 { // nobody else can give files away
		rows = append(rows, row{"book of another user", func(t *testing.T, p Place) { os.Chown(p.File(), 2000, 2000) }, "belongs to user 2000", "chown"},
			row{"key of another user", func(t *testing.T, p Place) { os.Chown(p.Key, 2000, 2000) }, "belongs to user 2000", "chown"},
			row{"directory of another user", func(t *testing.T, p Place) { os.Chown(p.Dir, 2000, 2000) }, "belongs to user 2000", "as the user"})
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			p := made(t)
			r.spoil(t, p)
			before, _ := os.ReadFile(p.File())
			k, err := Open(p, nil)
			if err == nil {
				_, err = k.Read()
			}
			wantProblem(t, err, r.sentence, r.hint)
			if k != nil {
				if err := add(k, "more", "0123456789"); err == nil {
					t.Error("it was written")
				}
			}
			if after, _ := os.ReadFile(p.File()); !bytes.Equal(before, after) {
				t.Error("it was changed")
			}
		})
	}
}

// TestUpdateFails leaves everything as it was.
func TestUpdateFails(t *testing.T) {
	p := made(t)
	before, _ := os.ReadFile(p.File())
	if err := open(t, p).Update(func(b *Book) error { b.Remove("anthropic"); return errors.New("changed my mind") }); err == nil {
		t.Error("no error")
	}
	if after, _ := os.ReadFile(p.File()); !bytes.Equal(before, after) {
		t.Error("it was changed")
	}
	if err := os.WriteFile(filepath.Join(p.Dir, newBook), []byte("of one who was killed"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := add(open(t, p), "second", "0123456789"); err != nil {
		t.Error(err)
	}
}

// write adds entries until it is killed, and says each one's name when Update has said that it is done.
func write(dir, name string) {
	for i := 0; ; i++ {
		k, err := Open(Place{dir, filepath.Join(dir, keyName)}, nil)
		if err == nil {
			err = add(k, fmt.Sprintf("%s-%d", name, i), real)
		}
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Printf("%s-%d\n", name, i)
	}
}

// TestKilledWriters lets several write at once and kills each at some moment: what any of them was told is written, is there. The first of them make the key
// and the book, so the first use is among what is interrupted.
func TestKilledWriters(t *testing.T) {
	p := newPlace(t)
	said := map[string]bool{}
	for round := range 6 {
		lines := make(chan []string)
		for w := range 3 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "CASEMATE_TEST_WRITE="+p.Dir, fmt.Sprintf("CASEMATE_TEST_NAME=r%dw%d", round, w))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go func() { // killed after some of its lines: while the next is being written
				var got []string
				s := bufio.NewScanner(out)
				for s.Scan() {
					if got = append(got, s.Text()); len(got) == round+w+1 {
						break
					}
				}
				cmd.Process.Kill()
				for s.Scan() { // what it had said before it died
					got = append(got, s.Text())
				}
				cmd.Wait()
				lines <- got
			}()
		}
		for range 3 {
			for _, name := range <-lines {
				if strings.HasPrefix(name, "error:") {
					t.Fatal(name)
				}
				said[name] = true
			}
		}
		b := read(t, p)
		for name := range said {
			if b.Entry(name) == nil || text(t, b.Value(name)) != real {
				t.Fatalf("%s was written, and is not there", name)
			}
		}
	}
	if len(said) < 10 {
		t.Errorf("only %d were written", len(said))
	}
}

// TestInterruptedReplace stops after each step that replace makes, in place of a kill that may miss the moment.
func TestInterruptedReplace(t *testing.T) {
	p := made(t)
	sealed, _ := os.ReadFile(p.File())
	for _, left := range [][]byte{nil, sealed[:len(sealed)/2], sealed} {
		if err := os.WriteFile(filepath.Join(p.Dir, newBook), left, 0o600); err != nil {
			t.Fatal(err)
		}
		if b := read(t, p); text(t, b.Value("anthropic")) != real {
			t.Error("the book was lost")
		}
	}
	p = newPlace(t) // a key without a book: its maker was killed in between
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := newKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.writeKey(k, secret.Value{}, 0); err != nil {
		t.Fatal(err)
	}
	if err := add(open(t, p), "anthropic", real); err != nil {
		t.Fatal(err)
	}
	if again := open(t, p); again.key.identity.String() != k.identity.String() {
		t.Error("another key was made")
	}
}
