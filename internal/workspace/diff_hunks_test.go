package workspace

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every choice of hunks gives the host's file with just these: none is the host's, all is the sandbox's, and what is chosen later adds to it.
func TestHunksAddUp(t *testing.T) {
	kinds(t, func(t *testing.T, kind LayerKind) {
		r := rand.New(rand.NewPCG(1, 2))
		for range 6 {
			var before []string
			for i := range 200 {
				before = append(before, fmt.Sprintf("line %d\n", i))
			}
			after := append([]string(nil), before...)
			for range 12 {
				switch i := r.IntN(len(after)); r.IntN(3) {
				case 0:
					after[i] = fmt.Sprintf("changed %d\n", r.IntN(1000))
				case 1:
					after = append(after[:i], after[i+1:]...)
				default:
					after = append(after[:i], append([]string{fmt.Sprintf("new %d\n", r.IntN(1000))}, after[i:]...)...)
				}
			}
			f := newFixture(t, kind, map[string]string{"a": strings.Join(before, "")})
			f.run("cat > a <<'E'\n" + strings.Join(after, "") + "E")
			for left := 1; left > 0; {
				l := f.open()
				changes, err := l.Changes(t.Context(), ChangeOptions{})
				must(t, err)
				if len(changes) == 0 {
					break
				}
				if changes[0].Conflict != "" {
					t.Fatalf("what came from here is a conflict: %s", changes[0].Conflict)
				}
				h := l.Hunks(&changes[0])
				if none := h.Partial(); string(none.Content) != f.read("a") {
					t.Fatal("no hunk is not the host's file")
				}
				if k := r.IntN(h.Len()); r.IntN(2) == 0 {
					h.Split(k)
				}
				h.Choose(r.IntN(h.Len()))
				out, err := l.Apply(t.Context(), ApplyOptions{Paths: []string{"a"}, Partial: map[string]Partial{"a": h.Partial()}})
				must(t, err)
				if len(out) != 1 || out[0].Status != Applied {
					t.Fatalf("%s", outcomeLines(out))
				}
				left = h.Len() - 1
			}
			if got := f.read("a"); got != strings.Join(after, "") {
				t.Errorf("all hunks are not the sandbox's file")
			}
		}
	})
}

// A host's file that changed after the hunks were chosen keeps what it has.
func TestHunksOfAFileThatMoved(t *testing.T) {
	f := newFixture(t, OverlayLayer, map[string]string{"a": "1\n2\n3\n"})
	f.run("echo 4 >> a")
	l := f.open()
	changes, err := l.Changes(t.Context(), ChangeOptions{})
	must(t, err)
	h := l.Hunks(&changes[0])
	h.Choose(0)
	must(t, os.WriteFile(filepath.Join(f.project, "a"), []byte("host\n"), 0o644))
	out, err := l.Apply(t.Context(), ApplyOptions{Overwrite: []string{"a"}, Partial: map[string]Partial{"a": h.Partial()}})
	must(t, err)
	if out[0].Status != Held || f.read("a") != "host\n" {
		t.Errorf("%s: %q", outcomeLines(out), f.read("a"))
	}
}

func (f *fixture) read(name string) string {
	f.Helper()
	data, err := os.ReadFile(filepath.Join(f.project, name))
	must(f, err)
	return string(data)
}
