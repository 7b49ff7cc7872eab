package test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const question = "[r]eview  [a]pply  [k]eep (default)  [d]iscard: "

// TestRunAsks answers the question at the end of a run in every way. The status is the command's, whatever is answered.
func TestRunAsks(t *testing.T) {
	line := `casemate run -- sh -c "` + strings.ReplaceAll(strings.ReplaceAll(agent, "\n", "; "), `"`, `\"`) + `; exit 3"; echo sta''tus $?` + "\r"
	for _, c := range []struct {
		name  string
		talk  func(p *person)
		held  string
		files map[string]string
	}{
		{"Enter keeps", func(p *person) { p.types("\r", "kept") }, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", nil},
		{"Ctrl-C keeps", func(p *person) { p.types("\x03", "kept") }, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", nil},
		{"Ctrl-D keeps", func(p *person) { p.types("\x04", "kept") }, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", nil},
		{"nonsense asks again", func(p *person) {
			p.types("what\r", "k - keep them in the sandbox")
			p.sees(question)
			p.types("k\r", "kept")
		}, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", nil},
		{"discard", func(p *person) {
			p.types("d\r", "[y/N] ")
			p.types("y\r", "discarded the changes")
		}, "", map[string]string{"total.sh": "echo $(($1 + $2))\n"}},
		{"discard, but no", func(p *person) {
			p.types("d\r", "[y/N] ")
			p.types("\r", "kept")
		}, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", nil},
		{"apply asks for what would run", func(p *person) {
			has(p.t, "what is shown", p.types("a\r", "RUNS on your machine: let .envrc through [y,n,a,d,q,?]? "), "+export A=1")
			p.types("y\r", "let .vscode/tasks.json through [y,n,a,d,q,?]? ")
			p.types("\r", "5 applied")
			p.sees("still held: 1 file changed (+1 -0) · 1 would run on your machine · 2 built files stay inside · 1 refused")
		}, ".vscode/tasks.json dist/", map[string]string{".envrc": "export A=1\n", "total.sh": "echo $(($1 * $2))\n", ".vscode/tasks.json": "", "dist/a.js": ""}},
		{"apply, but quit", func(p *person) {
			p.types("a\r", "let .envrc through [y,n,a,d,q,?]? ")
			p.types("y\r", "let .vscode/tasks.json through [y,n,a,d,q,?]? ")
			p.types("q\r", "nothing was applied")
		}, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", map[string]string{".envrc": ""}},
		{"apply, but Ctrl-C", func(p *person) {
			p.types("a\r", "let .envrc through [y,n,a,d,q,?]? ")
			p.types("\x03", "nothing was applied")
		}, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", map[string]string{".envrc": "", "total.sh": "echo $(($1 + $2))\n"}},
		{"review", func(p *person) {
			p.types("r\r", "quit")
			p.types("q", "nothing was applied")
		}, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			p, sh := s.sitDown()
			p.types(line, "6 files changed (+6 -1) · 2 would run on your machine · 2 built files stay inside · 1 refused\r\n")
			p.sees(question)
			c.talk(p)
			p.sees("status 3")
			p.sees("out> ")
			p.send("\x04")
			p.ends(sh)
			if got := s.held(); got != c.held {
				t.Errorf("held is %q, want %q", got, c.held)
			}
			for name, want := range c.files {
				if got := s.has(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestRunAsksOnlySomebody: there is no question where nobody could answer it, or somebody has answered beforehand.
func TestRunAsksOnlySomebody(t *testing.T) {
	s := newShop(t)
	p, sh := s.sitDown()
	for name, line := range map[string]string{
		"quiet": "casemate run --quiet -- touch a", "json": "casemate run --json -- touch a", "keep": "casemate run --then keep -- touch a", "CI": "CI=true casemate run -- touch a",
		"output": "casemate run -- touch a | cat", "errors": "casemate run -- touch a 2>&1 | cat", "input": "casemate run -- touch a </dev/null",
		"background": "casemate run -- touch a & wait $!", "nothing changed": "casemate run --fresh -- true", "only built": "casemate run --fresh -- sh -c 'mkdir dist; touch dist/a'",
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			hasNot(t, "what is said", p.types(line+"; echo sta''tus $?\r", "status 0"), "[k]eep")
			p.sees("out> ")
		})
	}
	t.Run("control", func(t *testing.T) {
		p.t = t
		p.types("casemate run --fresh -- touch a; echo sta''tus $?\r", question)
		p.types("\r", "status 0")
		p.sees("out> ")
	})
	p.t = t
	p.send("\x04")
	p.ends(sh)
}

// TestRunAsksAfterAWreck: whatever the command has made of the terminal and whatever was typed for it, the question is readable and is not answered.
func TestRunAsksAfterAWreck(t *testing.T) {
	s := newShop(t)
	p, sh := s.sitDown()
	before := p.attributes()
	p.types(`casemate run -- sh -c 'touch new; stty raw -echo; printf "\033[?1049h\033[?25l\033[8m\033(0rea""dy"; read x; kill -9 $$'; echo sta''tus $?`+"\r", "ready")
	p.send("d\ny\n\r")
	shown := p.sees(question)
	for _, want := range []string{"\x1b[?1049l", "\x1b[?25h", "\x1b[0m", "\x1b(B"} {
		has(t, "what comes before the question", shown, want)
	}
	if m := p.modes(); m.Lflag&unix.ICANON == 0 || m.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal is raw at the question: %x", m.Lflag)
	}
	p.types("\r", "kept")
	p.sees("status 137")
	p.sees("out> ")
	if now := p.attributes(); now != before {
		t.Errorf("the attributes are %q, they were %q", now, before)
	}
	p.send("\x04")
	p.ends(sh)
	if got := s.held(); got != "new" {
		t.Errorf("held is %q", got)
	}
}

// TestThen answers beforehand, without a terminal.
func TestThen(t *testing.T) {
	for _, c := range []struct {
		name, then, line string
		status           int
		held, total      string
	}{
		{"keep", "keep", agent, 0, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", "+"},
		{"apply", "apply", agent, 0, ".envrc .vscode/tasks.json dist/", "*"},
		{"apply after a failure", "apply", agent + "; exit 4", 4, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", "+"},
		{"discard", "discard", agent + "; exit 5", 5, "", "+"},
		{"review", "review", agent, 0, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh", "+"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			status, stdout, stderr := s.ends("run", "--then", c.then, "--", "sh", "-c", "echo the command; "+c.line)
			if status != c.status || stdout != "the command\n" {
				t.Errorf("status %d, output %q; errors %q", status, stdout, stderr)
			}
			if got := s.held(); got != c.held {
				t.Errorf("held is %q, want %q; errors %q", got, c.held, stderr)
			}
			if got := s.has("total.sh"); got != "echo $(($1 "+c.total+" $2))\n" {
				t.Errorf("total.sh is %q", got)
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		s := newShop(t)
		status, _, stderr := s.ends("run", "--json", "--then", "apply", "--", "sh", "-c", agent)
		var said struct {
			Then    string
			Stayed  bool
			Changes struct{ Files, Protected int }
		}
		if err := json.Unmarshal([]byte(stderr), &said); err != nil || status != 0 || said.Then != "apply" || !said.Stayed || said.Changes.Files != 6 || said.Changes.Protected != 2 {
			t.Errorf("status %d, %v: %s", status, err, stderr)
		}
	})
	t.Run("wrong", func(t *testing.T) {
		s := newShop(t)
		if status, _, stderr := s.ends("run", "--then", "merge", "--", "touch", "a"); status != 2 || !strings.Contains(stderr, "keep, review, apply or discard") {
			t.Errorf("status %d: %s", status, stderr)
		}
	})
}

// TestReviewPlain answers the plain questions with every key.
func TestReviewPlain(t *testing.T) {
	const first, second = "(1/6) RUNS on your machine: let .envrc through [y,n,a,d,q,?]? ", "(2/6) RUNS on your machine: let .vscode/tasks.json through [y,n,a,d,q,?]? "
	for _, c := range []struct {
		name string
		talk func(p *person)
		held string
	}{
		{"y n and a", func(p *person) {
			p.types("y\r", second)
			p.types("n\r", "(3/6) apply Makefile [y,n,a,d,q,?]? ")
			p.types("n\r", "(4/6) apply notes.txt [y,n,a,d,q,?]? ")
			p.types("a\r", "stays inside: dist/: 2 built files")
			p.sees("4 applied")
		}, ".vscode/tasks.json Makefile dist/"},
		{"a asks for what has a question of its own", func(p *person) {
			p.types("a\r", second)
			p.types("n\r", "5 applied")
		}, ".vscode/tasks.json dist/"},
		{"d", func(p *person) {
			p.types("n\r", second)
			p.types("y\r", "(3/6)")
			p.types("d\r", "1 applied")
		}, ".envrc Makefile dist/ notes.txt src/new.txt total.sh"},
		{"q", func(p *person) {
			p.types("y\r", second)
			p.types("q\r", "nothing was applied")
		}, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh"},
		{"help, nonsense and Ctrl-C", func(p *person) {
			p.types("?\r", "y - apply this change")
			p.types("yn\r", "y - apply this change")
			p.sees(first)
			p.types("\x03", "nothing was applied")
		}, ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			s.run(agent)
			p, sh := s.sitDown("NO_COLOR=1")
			p.types("casemate review --plain\r", first)
			c.talk(p)
			p.sees("out> ")
			p.send("\x04")
			p.ends(sh)
			if got := s.held(); got != c.held {
				t.Errorf("held is %q, want %q", got, c.held)
			}
		})
	}
}

// TestReviewPlainConsent: yes is heard only after all of a change was shown, and holds only for that.
func TestReviewPlainConsent(t *testing.T) {
	s := newShop(t)
	s.run(`seq 1000 > .envrc`)
	p, sh := s.sitDown("NO_COLOR=1")
	shown := p.types("casemate review --plain\r", "let .envrc through [y,n,a,d,q,?]? ")
	has(t, "a long change", shown, "more lines")
	hasNot(t, "a long change", shown, "+900\r\n")
	p.types("y\r", "It has not all been shown")
	p.types("v\r", "+1000\r\n")
	p.sees("let .envrc through [y,n,a,d,q,?]? ")
	write(t, s.inLayer(".envrc"), "evil\n") // after it was shown
	p.types("y\r", "it is not what was shown")
	p.sees("out> ")
	if got := s.has(".envrc"); got != "" {
		t.Errorf("%q was applied", got)
	}
	p.types("casemate review --plain\r", "let .envrc through [y,n,a,d,q,?]? ")
	p.types("y\r", "1 applied")
	p.sees("out> ")
	if got := s.has(".envrc"); got != "evil\n" {
		t.Errorf("what was shown is not applied: %q", got)
	}
	p.send("\x04")
	p.ends(sh)
}

// TestReviewProgramAlone: the screen does nothing without the program that acts for it.
func TestReviewProgramAlone(t *testing.T) {
	out, err := exec.Command(strings.TrimSuffix(casemate, "casemate")+"casemate-review", "x").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "it is run by casemate review") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWithProtectedConsent: what is in the layer when the question stands does not count, but what was shown.
func TestWithProtectedConsent(t *testing.T) {
	for name, attack := range map[string]bool{"attack": true, "control": false} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.run("echo kind > .envrc")
			p, sh := s.sitDown("NO_COLOR=1")
			p.types("casemate apply --with-protected\r", "Let it reach the host? [y/N] ")
			want := "kind\n"
			if attack {
				write(t, s.inLayer(".envrc"), "evil\n")
				want = ""
			}
			p.types("y\r", "out> ")
			p.send("\x04")
			p.ends(sh)
			if got := s.has(".envrc"); got != want {
				t.Errorf(".envrc is %q, want %q", got, want)
			}
		})
	}
}

// TestAnswers: each question has its own answer, and a no is a no.
func TestAnswers(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	write(t, filepath.Join(s.project, "casemate.yaml"), "files:\n  read: [/opt]\n")
	p, sh := s.sitDown("NO_COLOR=1")
	p.types("casemate apply --with-protected .envrc .vscode; echo sta''tus $?\r", ".envrc: the shell or its version manager loads it on entering the directory. Let it reach the host? [y/N] ")
	p.types("y\r", "/tasks.json: the editor")
	p.sees("[y/N] ")
	p.types("n\r", "status 1")
	p.types("casemate trust; echo sta''tus $?\r", "Approve exactly these bytes? [y/N] ")
	p.types("no\r", "status 1")
	p.types("casemate trust --json | grep tru''sted\r", "\"trusted\": false")
	p.types("casemate discard; echo sta''tus $?\r", "Throw them away? [y/N] ")
	p.types("no\r", "status 1")
	p.types("casemate discard; echo sta''tus $?\r", "Throw them away? [y/N] ")
	p.types("yes\r", "status 0")
	p.sees("out> ")
	p.send("\x04")
	p.ends(sh)
	if s.has(".envrc") == "" || s.has(".vscode/tasks.json") != "" || s.held() != "" {
		t.Errorf(".envrc is %q, .vscode/tasks.json %q, the layer holds %q", s.has(".envrc"), s.has(".vscode/tasks.json"), s.held())
	}
}

// TestTypedAheadIsNoConsent: a yes that was typed before the change was shown is no answer to it.
func TestTypedAheadIsNoConsent(t *testing.T) {
	s := newShop(t)
	s.run("echo kind > .envrc; git add -f .envrc; git -c user.name=A -c user.email=a@b commit -qm envrc")
	write(t, filepath.Join(s.project, "casemate.yaml"), "files:\n  read: [/opt]\n")
	for _, c := range []struct{ command, question string }{
		{"casemate apply --with-protected", "Let it reach the host? [y/N] "},
		{"casemate apply --commit --with-protected", "Let it reach the host? [y/N] "},
		{"casemate trust", "Approve exactly these bytes? [y/N] "},
		{"casemate discard", "Throw them away? [y/N] "},
	} {
		t.Run(c.command, func(t *testing.T) {
			p, sh := s.sitDown("NO_COLOR=1")
			p.t = t
			p.types("echo rea''dy; read -t 1 <>/dev/ptmx; "+c.command+" && echo yes''es\r", "ready") // read waits, and reads nothing of ours
			p.send("y\r")
			p.sees(c.question)
			hasNot(t, "without an answer", p.types("n\r", "out> "), "yeses")
			p.send("\x04")
			p.ends(sh)
		})
	}
	if s.has(".envrc") != "" || s.held() == "" {
		t.Errorf(".envrc is %q, the layer holds %q", s.has(".envrc"), s.held())
	}
}
