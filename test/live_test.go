package test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// inPlace are the modes in which a project can be worked on in place.
func inPlace(t *testing.T, do func(t *testing.T, s *site)) {
	for _, m := range modes() {
		if m.name == "landlock" {
			continue // works on a copy
		}
		t.Run(m.name, func(t *testing.T) { do(t, newSite(t, m)) })
	}
}

// TestLiveSupervisorKilled: what a live run did before its supervisor was killed can be undone all the same.
func TestLiveSupervisorKilled(t *testing.T) {
	inPlace(t, func(t *testing.T, s *site) {
		s.put("kept.txt", "before\n", 0o644)
		s.put("dir/gone.txt", "gone\n", 0o644)
		k := s.talk("--workspace", "live")
		k.ask(`echo after > kept.txt; rm -r dir; echo new > new.txt`)
		if err := k.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-k.ended
		if got := read(t, filepath.Join(s.Work, "kept.txt")); got != "after\n" {
			t.Fatalf("the live run left %q", got)
		}
		if out := s.do("undo"); out.exit != 0 {
			t.Errorf("undo: %v", out)
		}
		for name, want := range map[string]string{"kept.txt": "before\n", "dir/gone.txt": "gone\n"} {
			if got := read(t, filepath.Join(s.Work, name)); got != want {
				t.Errorf("%s holds %q after the undo", name, got)
			}
		}
		if _, err := os.Lstat(filepath.Join(s.Work, "new.txt")); err == nil {
			t.Error("new.txt is still there after the undo")
		}
	})
}

// TestLiveIsAskedOnce: an agent's first run on a terminal asks how it shall see the project, and the answer is kept.
func TestLiveIsAskedOnce(t *testing.T) {
	const question = "Is an editor open on this project?"
	inPlace(t, func(t *testing.T, s *site) {
		s.put("bin/claude", "#!/bin/sh\necho said >> said.txt\necho agent was here\n", 0o755)
		live := func() bool {
			_, err := os.Lstat(filepath.Join(s.Work, "said.txt"))
			return err == nil
		}
		run := func(flags ...string) (*person, func() int) {
			p := sitDown(t)
			cmd := s.command(append(append([]string{"run"}, flags...), "--then", "keep", "--", "./bin/claude")...)
			p.start(cmd)
			return p, func() int { return p.ends(cmd) }
		}
		p, end := run() // Ctrl-C is no answer
		p.sees(question)
		p.send("\x03")
		if status := end(); status != 125 {
			t.Errorf("Ctrl-C at the question: exit %d", status)
		}
		p, end = run()
		p.sees(question)
		p.send("l\r")
		p.sees("agent was here")
		if status := end(); status != 0 || !live() {
			t.Errorf("exit %d, live %v; the terminal shows %q", status, live(), p.unread)
		}
		_ = os.Remove(filepath.Join(s.Work, "said.txt"))
		p, end = run()
		shown := p.sees("agent was here")
		if status := end(); status != 0 || !live() {
			t.Errorf("the second time: exit %d, live %v", status, live())
		}
		hasNot(t, "the second time", shown, question)
		has(t, "the second time", shown, "as you answered")
		_ = os.Remove(filepath.Join(s.Work, "said.txt"))
		p, end = run("--workspace", "held") // a word overrules the answer
		p.sees("agent was here")
		if end(); live() {
			t.Error("live although --workspace held was given")
		}
		if out := s.run("--", "./bin/claude"); out.exit != 0 || live() { // nobody sits there
			t.Errorf("without a terminal: live %v: %v", live(), out)
		}
		p, end = run("--ask") // Enter is held
		p.sees(question)
		p.send("\r")
		p.sees("agent was here")
		if end(); live() {
			t.Error("Enter made it live")
		}
		p = sitDown(t) // no agent: no question
		cmd := s.command("run", "--then", "keep", "--", "sh", "-c", "echo no agent")
		p.start(cmd)
		hasNot(t, "a command that is no agent", p.sees("no agent"), question)
		p.ends(cmd)
	})
}

// TestLiveStartsSoon: the second live run in a project copies nothing again.
func TestLiveStartsSoon(t *testing.T) {
	s := newSite(t, best())
	for i := range 2000 {
		s.put(filepath.Join("many", string(rune('a'+i%26)), time.Duration(i).String()), "content", 0o644)
	}
	contents := func() int {
		names, _ := filepath.Glob(filepath.Join(s.State, "casemate", "projects", "*", "history", "contents", "*"))
		return len(names)
	}
	if out := s.run("--workspace", "live", "--", "true"); out.exit != 0 {
		t.Fatal(out)
	}
	first := contents()
	if first < 2000 {
		t.Errorf("%d contents are kept of 2000 files", first)
	}
	if out := s.run("--workspace", "live", "--", "true"); out.exit != 0 {
		t.Fatal(out)
	}
	if again := contents(); again != first {
		t.Errorf("%d contents are kept, and %d after the second run", first, again)
	}
}
