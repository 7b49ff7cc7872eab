package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/session"
	"casemate.dev/internal/stdout"
	"casemate.dev/internal/store"
)

// TestQuestionsOfTwoRuns: what was answered in one run of a sandbox hides no question of the next, which counts from one again.
func TestQuestionsOfTwoRuns(t *testing.T) {
	first := session.Question{Sandbox: "k7", ID: 1, Target: "a.example.com:443", Until: time.Now()}
	second := first
	second.Until = second.Until.Add(time.Minute)
	if number(first) == number(second) {
		t.Errorf("both are %q", number(first))
	}
}

// TestAnswerToAnother: a key that was meant for a question which went with its sandbox answers none that took its place.
func TestAnswerToAnother(t *testing.T) {
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "state"), dir)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := watching{
		lister: lister{std: &IO{In: out, Out: &stdout.Writer{File: out}, Err: out}, open: map[string]session.Connection{}}, store: st,
		typed: make(chan string), known: map[string]bool{}, closed: map[string]bool{},
	}
	var boxes []*store.Sandbox
	tried := func(host string) {
		t.Helper()
		b, err := st.New("")
		if err != nil {
			t.Fatal(err)
		}
		boxes, b.Record.Started = append(boxes, b), time.Now()
		if err := b.Save(false); err != nil {
			t.Fatal(err)
		}
		if err := w.show([]session.Connection{{Sandbox: b.Record.ID, Record: wire.Record{Verdict: wire.Denied, Name: host, Port: 443}}}); err != nil {
			t.Fatal(err)
		}
	}
	stands := func(host string) {
		t.Helper()
		if w.prompt == nil || w.prompt.target != host+":443" {
			t.Fatalf("the question is %+v, and not about %s", w.prompt, host)
		}
	}
	tried("good.example")
	stands("good.example")
	tried("evil.example")
	stands("good.example")
	if !w.hasty.IsZero() {
		t.Error("the same question takes no answer")
	}
	boxes[0].Unlock() // it ends
	tried("third.example")
	stands("evil.example")
	if w.hasty.IsZero() {
		t.Fatal("the other question takes an answer at once")
	}
	w.hasty = time.Now().Add(time.Hour) // however slow this machine is
	w.answered("y")
	stands("evil.example")
	w.hasty = time.Time{} // control: a second later
	w.answered("n")
	text, _ := os.ReadFile(out.Name())
	if w.prompt != nil || !strings.Contains(string(text), "may not reach evil.example:443") {
		t.Errorf("the answer counts for nothing: %q", text)
	}
}
