package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
		p, end = run("--workspace", "ask") // Enter is held
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
	t.Setenv("TMPDIR", "/var/tmp") // where files lie in memory, their times do not say that nothing changed
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

// TestLiveUndoIsNotInTheSandboxsHands: a live run that closes directories to their owner, the project itself too, and leaves a tree deeper than any
// path can be long keeps nobody from undoing it, whether it ended or was killed.
func TestLiveUndoIsNotInTheSandboxsHands(t *testing.T) {
	const attack = `chmod 0 closed; echo evil > made; chmod 0 made; echo evil > src/in/a; rm src/b; echo evil > new.txt; mkdir -p shut/in; echo evil > shut/in/x; chmod 0 shut/in shut; i=0; n=$(printf %0250d 0); while [ $i -lt 20 ]; do mkdir $n; cd -P $n; i=$((i+1)); done; cd "$OLDHOME"; chmod 000 src/in; chmod 100 src; chmod 0 .`
	for _, killed := range []bool{false, true} {
		inPlace(t, func(t *testing.T, s *site) {
			s.put("src/in/a", "a\n", 0o644)
			s.put("src/b", "b\n", 0o644)
			s.put("kept.txt", "kept\n", 0o644)
			s.put("closed", "closed\n", 0o644)
			script := strings.ReplaceAll(attack, `"$OLDHOME"`, s.Work)
			if killed {
				k := s.talk("--workspace", "live")
				k.ask(script)
				if err := k.cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				<-k.ended
				if err := os.Chmod(s.Work, 0o755); err != nil { // what nobody can do for a person who cannot enter it
					t.Fatal(err)
				}
			} else if out := s.run("--workspace", "live", "--", "sh", "-c", script); out.exit != 0 {
				t.Fatal(out)
			}
			if got := read(t, filepath.Join(s.Work, "new.txt")); got != "evil\n" {
				t.Fatalf("control: the attack left %q", got)
			}
			s.do("undo") // what lies too deep stays, and is said
			for name, want := range map[string]string{"src/in/a": "a\n", "src/b": "b\n", "kept.txt": "kept\n"} {
				if got := read(t, filepath.Join(s.Work, name)); got != want {
					t.Errorf("killed %v: %s holds %q after the undo", killed, name, got)
				}
			}
			for name, want := range map[string]os.FileMode{".": 0o755, "closed": 0o644, "src": 0o755, "src/in": 0o755} {
				if st, err := os.Stat(filepath.Join(s.Work, name)); err != nil || st.Mode().Perm() != want {
					t.Errorf("killed %v: %s: %v %v", killed, name, st.Mode(), err)
				}
			}
			for _, name := range []string{"new.txt", "shut", "made"} {
				if _, err := os.Lstat(filepath.Join(s.Work, name)); err == nil {
					t.Errorf("killed %v: %s is still there", killed, name)
				}
			}
			if out := s.run("--workspace", "live", "--", "true"); out.exit == 0 || !strings.Contains(out.stderr, "deeper than a path can be long") {
				t.Errorf("killed %v: with the deep tree in the project: %.500s", killed, out.stderr)
			}
			removeAll(t, filepath.Join(s.Work, fmt.Sprintf("%0250d", 0)))
			if out := s.run("--workspace", "live", "--", "sh", "-c", "echo again > kept.txt"); out.exit != 0 {
				t.Fatal(out)
			}
			if out := s.do("undo"); out.exit != 0 || read(t, filepath.Join(s.Work, "kept.txt")) != "kept\n" {
				t.Errorf("killed %v: the next run: %v", killed, out)
			}
			if out := s.do("undo", "--list"); out.exit != 0 {
				t.Errorf("killed %v: %v", killed, out)
			}
		})
	}
}

// TestOwnPolicyByLink: who keeps the own policy under another name in a repository, with a link to it, does not have an agent in there widen the next run.
func TestOwnPolicyByLink(t *testing.T) {
	inPlace(t, func(t *testing.T, s *site) {
		config := filepath.Join(s.Home, ".config", "casemate")
		if err := os.MkdirAll(config, 0o700); err != nil {
			t.Fatal(err)
		}
		s.put("mine.yaml", "version: 1\n", 0o644)
		if err := os.Chown(filepath.Join(s.Work, "mine.yaml"), os.Getuid(), os.Getgid()); err != nil { // another's is nobody's policy
			t.Fatal(err)
		}
		for from, to := range map[string]string{"policy.yaml": "mine.yaml", "trusted.json": "approved"} {
			if err := os.Symlink(filepath.Join(s.Work, to), filepath.Join(config, from)); err != nil {
				t.Fatal(err)
			}
		}
		const widen = "echo 'network: {allow: [example.com]}' >> mine.yaml; echo '{}' > approved; echo control > control.txt"
		s.run("--workspace", "live", "--", "sh", "-c", widen)
		if got := read(t, filepath.Join(s.Work, "mine.yaml")); got != "version: 1\n" {
			t.Errorf("live: the person's own policy is %q", got)
		}
		if _, err := os.Lstat(filepath.Join(s.Work, "approved")); err == nil {
			t.Error("live: the person's approvals were written")
		}
		if got := read(t, filepath.Join(s.Work, "control.txt")); got != "control\n" {
			t.Errorf("control: another file is %q", got)
		}
		s.sh(widen)
		if out := s.do("apply", "--yes"); read(t, filepath.Join(s.Work, "mine.yaml")) != "version: 1\n" {
			t.Errorf("held: the person's own policy was applied unseen: %v", out)
		}
	})
}
