package workspace

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLookBindsWhatItShows changes a protected file in place between the walk, the look and the apply, as a sandbox that still runs can: what
// was not shown is never what is applied.
func TestLookBindsWhatItShows(t *testing.T) {
	f := newFixture(t, OverlayLayer, nil)
	f.protect = []string{".envrc"}
	f.start()
	file := filepath.Join(f.inside(), ".envrc")
	write := func(content string) {
		t.Helper()
		must(t, os.WriteFile(file, []byte(content), 0o644)) // the same inode
	}
	write("evil 1\n")
	l := f.open()
	defer l.Close()
	changes, err := l.Changes(context.Background(), ChangeOptions{})
	must(t, err)
	c := &changes[0]
	write("kind 1\n")
	diff, digest, err := l.Look(c, DiffOptions{Terminal: true})
	must(t, err)
	if !strings.Contains(string(diff), "+kind 1\n") || digest == c.Digest || digest == "" {
		t.Fatalf("digest %q (walk: %q) of\n%s", digest, c.Digest, diff)
	}
	write("evil 1\n")
	outcomes, err := l.Apply(context.Background(), ApplyOptions{Consent: map[string]string{".envrc": digest}})
	must(t, err)
	if len(outcomes) != 1 || outcomes[0].Status != Held || !strings.Contains(outcomes[0].Why, "not what was shown") {
		t.Fatalf("outcomes %+v", outcomes)
	}
	write("kind 1\n") // and what was shown is applied
	outcomes, err = l.Apply(context.Background(), ApplyOptions{Consent: map[string]string{".envrc": digest}})
	must(t, err)
	if len(outcomes) != 1 || outcomes[0].Status != Applied {
		t.Fatalf("outcomes %+v", outcomes)
	}
}

// TestListed leaves out directories that only lead to a change, and no others.
func TestListed(t *testing.T) {
	f := newFixture(t, OverlayLayer, nil)
	f.start()
	f.put(f.inside()+"/new/file", "x\n")
	f.put(f.inside()+"/empty/", "")
	l := f.open()
	defer l.Close()
	changes, err := l.Changes(context.Background(), ChangeOptions{})
	must(t, err)
	var names []string
	for _, c := range Listed(changes) {
		names = append(names, c.Path)
	}
	if got := strings.Join(names, " "); got != "empty new/file" || len(changes) != 3 {
		t.Errorf("listed %q of %d changes", got, len(changes))
	}
}
