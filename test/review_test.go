package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// agent changes one thing of each kind.
const agent = `sed -i s/+/*/ total.sh; echo two >> notes.txt; mkdir -p .vscode dist src; echo '{"tasks": []}' > .vscode/tasks.json
echo 'export A=1' > .envrc; echo x > dist/a.js; echo y > dist/b.js; echo new > src/new.txt; mkfifo pipe; echo all: > Makefile`

// TestReviewKeys presses every key of the screen.
func TestReviewKeys(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	s.put("notes.txt", "zero\n") // a conflict
	sc := s.screen(80, 24)
	first := sc.types("2 run on your machine", "casemate review", "Enter")
	for _, want := range []string{
		"-- would run on your machine --", "[ ] A RUNS .envrc", "[ ] A RUNS .vscode/tasks.json", "-- conflicts: you changed them too --", "[ ] M CONFLICT notes.txt",
		"6 files (+7 -2) · 2 run on your machine · 1 conflict · 2 built · 1 refused", "+export A=1", "0 chosen",
	} {
		has(t, "the first screen", first, want)
	}
	sc.at(".vscode/tasks.json", "j")
	sc.at(".envrc", "k")
	sc.at(".vscode/tasks.json", "Down")
	sc.at(".envrc", "Up")
	sc.at("REFUSED pipe", "G")
	sc.at(".envrc", "g")
	sc.at("REFUSED pipe", "End")
	sc.at("BUILT dist/", "k")
	has(t, "built files by directory", sc.cursor(), "2 built files")
	sc.types("casemate apply --built", "Space")
	sc.at("total.sh", "k")
	sc.types("+echo $(($1 * $2))", "")
	sc.types("1 chosen", "Space")
	sc.types("0 chosen", "Space")
	sc.at(".envrc", "Home")
	sc.types(`is written out: \x1b, \u200b.`, "?")
	sc.types("-- would run", "x")

	sc.at("src/new.txt", "/", "new", "Enter")
	sc.at("src/new.txt", "n") // the only one
	sc.at("total.sh", "/", "t", "o", "t", "Enter")
	sc.types("not found: nowhere", "/", "nowhere", "Enter")
	sc.at(".vscode/tasks.json", "/", ".sh", "BSpace", "BSpace", "json", "Enter")
	sc.types("(Tab: back to the list)", "Tab")
	sc.tmux("send-keys", "-t", "s", "Enter")
	sc.until("Enter goes back", func(shown string) bool { return !strings.Contains(shown, "Tab: back") })

	sc.types("3 chosen", "A") // Makefile, src/new.txt, total.sh: nothing with a mark
	sc.types("nothing is chosen any more", "A")
	sc.types("nothing is chosen: space", "a")
	sc.at(".envrc", "g")
	sc.types("1 chosen", "Space")
	sc.at("notes.txt", "j", "j")
	sc.types("Overwrite your own change? [y/N]", "Space")
	sc.types("1 chosen", "n")
	sc.types("Apply 1 change, of which 1 would run on your machine? [y/N]", "a")
	sc.types("1 chosen", "Enter")
	sc.types("Throw all held changes away", "d")
	sc.types("1 chosen", "n")
	sc.types("nothing was applied", "q")
	if got := s.held(); got != ".envrc .vscode/tasks.json Makefile dist/ notes.txt src/new.txt total.sh" || s.has(".envrc") != "" {
		t.Errorf("after q the layer holds %q", got)
	}
}

// TestReviewApplies applies what was chosen and nothing else.
func TestReviewApplies(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	sc := s.screen(100, 30)
	sc.types("> [ ] A RUNS .envrc", "casemate review", "Enter")
	sc.types("1 chosen", "Space")
	sc.at("total.sh", "/", "total", "Enter")
	sc.types("2 chosen", "Space")
	sc.types("Apply 2 changes, of which 1 would run", "a")
	sc.types("2 applied", "y")
	sc.sees("still held: 4 files changed")
	if s.has(".envrc") != "export A=1\n" || !strings.Contains(s.has("total.sh"), "*") || s.has("Makefile") != "" || s.has(".vscode/tasks.json") != "" {
		t.Errorf("the wrong changes were applied: .envrc %q, total.sh %q, Makefile %q", s.has(".envrc"), s.has("total.sh"), s.has("Makefile"))
	}
	if got := s.held(); got != ".vscode/tasks.json Makefile dist/ notes.txt src/new.txt" {
		t.Errorf("the layer holds %q", got)
	}
	sc.types("0 chosen", "casemate review", "Enter")
	sc.types("Throw all held changes away", "d")
	sc.types("discarded the changes", "y")
	if got := s.held(); got != "" {
		t.Errorf("after d the layer holds %q", got)
	}
}

// TestReviewConsentIsToWhatWasShown changes a protected file in place while its diff is on the screen, as a sandbox that runs could: what was not
// shown is not applied. The control is the same without the change.
func TestReviewConsentIsToWhatWasShown(t *testing.T) {
	for name, attack := range map[string]bool{"attack": true, "control": false} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.run(agent)
			sc := s.screen(100, 30)
			sc.types("+export A=1", "casemate review", "Enter")
			sc.types("1 chosen", "Space")
			if attack {
				write(t, s.inLayer(".envrc"), "evil\n")
			}
			sc.types("Apply 1 change", "a")
			if attack {
				sc.types("it is not what was shown", "y")
				if got := s.has(".envrc"); got != "" {
					t.Errorf("%q was applied", got)
				}
				// Looking again shows the new one, and what was chosen before the change is not chosen any more.
				sc.types("+evil", "casemate review", "Enter")
				sc.types("1 chosen", "Space")
				write(t, s.inLayer(".envrc"), "worse\n")
				sc.at(".vscode", "j")
				sc.types("it since you looked", "k")
				sc.sees("[ ] A RUNS .envrc")
				sc.types("nothing was applied", "q")
				return
			}
			sc.types("1 applied", "y")
			if got := s.has(".envrc"); got != "export A=1\n" {
				t.Errorf("%q was applied", got)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReviewLongProtected: what would run on the host is chosen only after every row of it was on the screen, also what stands far to the right.
func TestReviewLongProtected(t *testing.T) {
	s := newShop(t)
	s.run(`i=0; while [ $i -lt 60 ]; do echo "export V$i=1" >> .envrc; i=$((i+1)); done; printf '%700sevil\n' '' >> .envrc`)
	sc := s.screen(80, 24)
	sc.types("export V1=1", "casemate review", "Enter")
	sc.types("first look at all of it", "Space")
	sc.types("evil", "G") // to the end at once: what lies between was not shown
	sc.types("first look at all of it", "Space")
	sc.types("rows 1-", "g")
	for range 12 {
		sc.tmux("send-keys", "-t", "s", "C-d")
	}
	sc.sees("evil")
	sc.types("1 chosen", "Space")
	sc.tmux("resize-window", "-t", "s", "-x", "60", "-y", "20")
	sc.types("1 chosen", "")
	sc.types("nothing was applied", "q")
}

// TestReviewHostile shows names and contents that attack the terminal, and others that are only difficult.
func TestReviewHostile(t *testing.T) {
	s := newShop(t)
	s.run(`esc=$(printf '\033'); printf 'x\033]0;OWNED\007\033[2J\033[31mred\tt\r\n\302\233y \342\200\256rtl \357\270\217 \377\376\n' > hostile.txt
printf 'x\n' > "$(printf 'a\033]0;OWNED\007\033[2Jb')"; printf 'x\n' > "$(printf 'new\nline')"; printf 'x\n' > "$(printf '\342\200\256gpj.exe')"; printf 'x\n' > "$(printf 'bad\377name')"
printf 'z\314\200\314\200\314\200\314\200\314\200\314\200\314\200\314\200\314\200algo\n' > zalgo.txt; printf '表表 größe\n' > 表.txt; printf 'a\342\200\213b\342\200\215c\363\240\201\201d\n' > invisible.txt
head -c 300000 /dev/zero | tr '\0' x > long.txt; seq 100000 > many.txt; head -c 1000 /dev/zero > zero.bin`)
	sc := s.screen(90, 30)
	shown := sc.types("many.txt", "casemate review", "Enter")
	for _, want := range []string{`a\033]0;OWNED\a\033[2Jb`, `new\nline`, `\342\200\256gpj.exe`, `bad\377name`} {
		has(t, "names", shown, want)
	}
	sc.at("hostile.txt", "/", "hostile", "Enter")
	for _, want := range []string{`x\x1b]0;OWNED\x07\x1b[2J\x1b[31mred`, `\u202e`, `\ufe0f`, `\xff\xfe`} {
		sc.sees(want)
	}
	sc.at("invisible.txt", "/", "invis", "Enter")
	sc.sees(`+a\u200bb\u200dc\U000e0041d`)
	sc.at("long.txt", "/", "long", "Enter")
	sc.sees("xxxxxxxx")
	sc.types("rows", "Tab", "G")
	sc.sees(`\ No newline at end of file`)
	sc.at("many.txt", "Tab", "/", "many", "Enter")
	sc.types("+100000", "Tab", "G")
	sc.types("+1", "g")
	sc.types("+77777", "/", "77777", "Enter")
	sc.at("zalgo.txt", "Tab", "/", "zalgo", "Enter")
	sc.sees(`\u0300`)
	sc.at("表.txt", "/", "表", "Enter")
	sc.sees("+表表 größe")
	sc.at("zero.bin", "/", "zero", "Enter")
	sc.sees("Binary files /dev/null and b/zero.bin differ")
	if title := sc.tmux("display-message", "-p", "-t", "s", "#{pane_title}"); strings.Contains(title, "OWNED") {
		t.Errorf("the sandbox has set the title: %q", title)
	}
	for _, size := range [][2]string{{"40", "10"}, {"200", "60"}, {"10", "3"}, {"90", "30"}} {
		sc.tmux("resize-window", "-t", "s", "-x", size[0], "-y", size[1])
	}
	sc.until("all is drawn anew", func(shown string) bool {
		return strings.Contains(shown, "> [ ] A zero.bin") && len(strings.Split(shown, "\n")) == 30
	})
	sc.types("nothing was applied", "q")
}

// TestReviewTenThousand opens and searches 10,000 changes. The bound is loose; it is there for what would be quadratic.
func TestReviewTenThousand(t *testing.T) {
	s := newShop(t)
	s.run(`mkdir many; i=0; while [ $i -lt 10000 ]; do echo $i > many/$i; i=$((i+1)); done; echo x > .envrc`)
	sc := s.screen(80, 24)
	start := time.Now()
	sc.types("RUNS .envrc", "casemate review", "Enter")
	opened := time.Since(start)
	sc.at("many/9999 ", "G")
	sc.at("many/1234 ", "/", "many/1234", "Enter")
	sc.types("10000 chosen", "A")
	sc.sees("10,001 files changed (+10,001 -0)")
	t.Logf("opened in %v, counted in %v", opened, time.Since(start))
	if opened > 15*time.Second {
		t.Errorf("opening took %v", opened)
	}
	sc.types("Apply 10000 changes? [y/N]", "a")
	sc.types("10000 applied", "y")
	if got := s.has("many/5000"); got != "5000\n" || s.has(".envrc") != "" {
		t.Errorf("many/5000 is %q, .envrc %q", got, s.has(".envrc"))
	}
}

// TestReviewOnASmallScreen: where there is little room nobody is asked what is cut off, and all of the help can be read.
func TestReviewOnASmallScreen(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	s.put("notes.txt", "zero\n") // a conflict
	sc := s.screen(40, 12)
	sc.types("0 chosen  ? keys  q quit", "casemate review", "Enter")
	sc.at("notes.txt", "j", "j")
	sc.types("(Tab)", "Tab")
	has(t, "the place in the diff", sc.shows(), "rows 1-")
	sc.types("rows 5-", "C-d", "C-d", "C-d", "C-d", "C-d")
	sc.types("Overwrite your own change? [y/N]", "Space")
	sc.types("1 chosen", "y")
	sc.at(".envrc", "Tab", "g")
	sc.types("first look", "Space")
	sc.types("rows 4-9 of 9", "C-d", "C-d")
	sc.types("2 chosen", "Space")
	sc.types("Apply 2, 1 RUNS, 1 CONFLICT? [y/N]", "a")
	sc.types("Discard everything held? [y/N]", "n", "d")
	sc.types("2 chosen", "n")
	sc.types("j k scroll", "?")
	sc.types(`\x1b, \u200b.`, "Space", "Space", "Space", "Space", "Space", "Space")
	sc.types("j k, arrows", "PgUp", "PgUp", "PgUp", "PgUp", "PgUp", "PgUp")
	sc.types("2 chosen", "q")
	sc.types("nothing was applied", "q")
}

// TestReviewCursorWithoutColour: what the cursor stands on is reversed, and nothing else of the list.
func TestReviewCursorWithoutColour(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	sc := s.screen(80, 24, "NO_COLOR=1")
	sc.at(".envrc", "casemate review", "Enter")
	for line := range strings.SplitSeq(sc.tmux("capture-pane", "-e", "-p", "-t", "s"), "\n") {
		reversed := strings.Contains(line, "\x1b[1;7m") || strings.Contains(line, "\x1b[7m")
		if strings.Contains(line, "RUNS") && reversed != strings.Contains(line, ">") {
			t.Errorf("reversed %v: %q", reversed, line)
		}
	}
}

// TestReviewHearsNothingTypedAhead: keys that were pressed before there was a screen are no choice.
func TestReviewHearsNothingTypedAhead(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	p, sh := s.sitDown()
	p.types("echo rea''dy; read -t 1 <>/dev/ptmx; casemate review\r", "ready") // read waits, and reads nothing of ours
	p.send("q")
	p.sees("quit")
	p.types("?", "any key goes back")
	p.types("xq", "out> ")
	p.send("\x04")
	p.ends(sh)
}

// TestReviewColours: with colours, with NO_COLOR, and on terminals that have few, the same words are there.
func TestReviewColours(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	for _, c := range []struct {
		name, env string
		colours   bool
	}{{"256", "TERM=xterm-256color", true}, {"16", "TERM=xterm-16color", true}, {"none wanted", "NO_COLOR=1", false}, {"none had", "TERM=vt100", false}} {
		t.Run(c.name, func(t *testing.T) {
			p, sh := s.sitDown(c.env)
			p.t = t
			p.types("casemate review\r", "RUNS")
			shown := p.sees("quit")
			p.types("q", "out> ")
			all := p.shown.String() + shown
			if got := strings.Contains(all, "\x1b[31m") || strings.Contains(all, "\x1b[32m") || strings.Contains(all, "\x1b[33m"); got != c.colours {
				t.Errorf("colours: %v, want %v: %q", got, c.colours, all)
			}
			for _, bad := range []string{"\x1b[38;2;", "\x1b[48;2;", "\x1b[38;5;"} {
				hasNot(t, "what is sent", all, bad)
			}
			p.send("\x04")
			p.ends(sh)
		})
	}
}

// TestReviewLeavesTheTerminal ends the screen in every way: the shell finds its terminal as it was.
func TestReviewLeavesTheTerminal(t *testing.T) {
	s := newShop(t)
	s.run(agent)
	p, sh := s.sitDown()
	before := p.attributes()
	restored := func(t *testing.T, shown string) {
		t.Helper()
		p.t = t
		if now := p.attributes(); now != before {
			t.Errorf("the attributes are %q, they were %q", now, before)
		}
		if strings.LastIndex(shown, "\x1b[?1049l") < strings.LastIndex(shown, "\x1b[?1049h") || strings.LastIndex(shown, "\x1b[?25h") < strings.LastIndex(shown, "\x1b[?25l") {
			t.Errorf("the screen was not left: %q", tail(shown))
		}
	}
	start := func(t *testing.T) (screen, parent int) {
		t.Helper()
		p.t = t
		p.types("casemate review\r", "quit")
		p.foreground()
		programs, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range programs {
			program, _ := os.Readlink(exe)
			cwd, _ := os.Readlink(filepath.Join(filepath.Dir(exe), "cwd"))
			if filepath.Base(program) == "casemate-review" && cwd == s.project {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(exe)))
				return pid, parentOf(pid)
			}
		}
		t.Fatal("there is no casemate-review")
		return 0, 0
	}
	for name, keys := range map[string]string{"q": "q", "Ctrl-C": "\x03"} {
		t.Run(name, func(t *testing.T) {
			start(t)
			p.t = t
			restored(t, "\x1b[?1049h"+p.types(keys, "out> "))
		})
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGKILL} {
		t.Run("screen "+unix.SignalName(sig), func(t *testing.T) {
			pid, _ := start(t)
			kill(t, pid, sig)
			restored(t, "\x1b[?1049h\x1b[?25l"+p.sees("out> "))
		})
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		t.Run("casemate "+unix.SignalName(sig), func(t *testing.T) {
			pid, parent := start(t)
			kill(t, parent, sig)
			eventually(t, patience, "the screen has ended", func() bool { return unix.Kill(pid, 0) != nil })
			shown := "\x1b[?1049h\x1b[?25l" + p.types("echo do''ne\r", "done")
			p.sees("out> ")
			restored(t, shown)
		})
	}
	t.Run("Ctrl-Z", func(t *testing.T) {
		start(t)
		shown := "\x1b[?1049h\x1b[?25l" + p.types("\x1a", "Stopped")
		p.sees("out> ")
		restored(t, shown)
		p.types("fg\r", "quit")
		p.types("j", ".vscode")
		p.types("\x1a", "Stopped")
		p.sees("out> ")
		p.types("fg\r", "quit")
		restored(t, "\x1b[?1049h"+p.types("q", "out> "))
	})
	t.Run("Ctrl-Z where the shell ignores it", func(t *testing.T) {
		p.t = t
		p.types("trap '' TSTP\r", "out> ")
		start(t)
		p.types("\x1a", "\x1b[?1049h")
		p.sees("quit") // it is drawn anew; what was typed until then is for nobody
		restored(t, "\x1b[?1049h"+p.types("q", "out> "))
	})
	p.t = t
	p.send("\x04")
	p.ends(sh)
	if got := s.held(); !strings.Contains(got, "total.sh") {
		t.Errorf("the layer holds %q", got)
	}
}

func kill(t *testing.T, pid int, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// TestReviewWithoutTheScreen: where the other program is missing, and where the terminal cannot, the questions come in lines.
func TestReviewWithoutTheScreen(t *testing.T) {
	s := newShop(t)
	s.run("echo x > new.txt")
	alone := filepath.Join(s.home, "alone")
	s.sh("mkdir " + alone + " && cp " + strconv.Quote(casemate) + " " + alone + "/casemate")
	for name, line := range map[string]string{"missing": alone + "/casemate review\r", "dumb": "TERM=dumb casemate review\r", "plain": "casemate review --plain\r"} {
		t.Run(name, func(t *testing.T) {
			p, sh := s.sitDown()
			p.t = t
			shown := p.types(line, "(1/1) apply new.txt [y,n,a,d,q,?]? ")
			if name == "dumb" {
				hasNot(t, "what a dumb terminal gets", strings.ReplaceAll(shown, "\x1b[?2004l", ""), "\x1b") // that is the shell's
			}
			p.types("q\r", "nothing was applied")
			p.sees("out> ")
			p.send("\x04")
			p.ends(sh)
		})
	}
	if status, _, stderr := s.ends("review"); status != 125 || !strings.Contains(stderr, "no terminal") {
		t.Errorf("without a terminal: status %d, %q", status, stderr)
	}
}
