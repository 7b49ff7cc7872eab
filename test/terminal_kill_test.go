package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// parentOf is the parent of a process of the host's.
func parentOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// supervisorOf is the casemate process among a process's ancestors, and those in between are the sandbox's.
func supervisorOf(t *testing.T, pid int) (supervisor int, inside []int) {
	t.Helper()
	for ; pid > 1; pid = parentOf(pid) {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == casemate && parentOf(pid) != 0 {
			if parent, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", parentOf(pid))); err != nil || parent != casemate {
				return pid, inside
			}
		}
		inside = append(inside, pid)
	}
	t.Fatal("no casemate process among the ancestors")
	return 0, nil
}

// TestTerminalAfterKill: whatever is killed while the terminal is raw and full of modes, the shell has it back as it was.
func TestTerminalAfterKill(t *testing.T) {
	for _, c := range []struct {
		name string
		kill func(supervisor int, inside []int) []int
	}{
		{"supervisor", func(supervisor int, inside []int) []int { return []int{supervisor} }},
		{"command", func(supervisor int, inside []int) []int { return inside[:len(inside)-1] }},
		{"everything inside", func(supervisor int, inside []int) []int { return inside }},
		{"first process inside", func(supervisor int, inside []int) []int { return inside[len(inside)-1:] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, s *site) {
				p := sitDown(t)
				sh := p.shell(s)
				before := p.attributes()
				for range 3 {
					forever := lasting(t)
					p.types(`$run -- sh -c 'stty raw -echo; printf "\033[?1049h\033[?25l\033[?1000h\033[?2004h"; echo REA""DY; sleep `+forever+"; :'\r", "READY")
					eventually(t, patience, "the command runs", func() bool { return len(named(forever)) == 1 })
					supervisor, inside := supervisorOf(t, named(forever)[0])
					from := p.shown.Len()
					for _, pid := range c.kill(supervisor, inside) {
						_ = unix.Kill(pid, unix.SIGKILL)
					}
					p.sees("out> ")
					eventually(t, patience, "nothing of the sandbox left", func() bool { return len(named(forever)) == 0 })
					eventually(t, patience, "the modes of the terminal ended", func() bool {
						p.types("\r", "out> ") // so that what is shown is read
						return modesEnded(p.shown.String()[from:])
					})
					if now := p.attributes(); now != before {
						t.Errorf("the terminal's attributes are %q, they were %q", now, before)
					}
				}
				p.send("\x04")
				p.ends(sh)
			})
		})
	}
}

// modesEnded says whether what a terminal was shown ends what a full-screen program has begun.
func modesEnded(shown string) bool {
	for _, want := range []string{"\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l"} {
		if !strings.Contains(shown, want) {
			return false
		}
	}
	return true
}

// TestOthersTerminalAfterKill: when a supervisor is killed that does not have the terminal, nothing is done to the terminal. The control is the
// same kill of one that has it.
func TestOthersTerminalAfterKill(t *testing.T) {
	const alternate = "\x1b[?1049l"
	for _, c := range []struct {
		name, after, end string
		leave            func(p *person, supervisor int)
		reset            bool
	}{
		{"control", "", "", func(*person, int) {}, true},
		{"in the background", " &", "", func(p *person, _ int) { p.types("\r", "out> ") }, false},
		{"stopped by Ctrl-Z", "", "", func(p *person, _ int) { p.types("\x1a", "Stopped"); p.sees("out> ") }, false},
		{"another program has it", "", "\x04", func(p *person, supervisor int) {
			_ = unix.Kill(supervisor, unix.SIGSTOP) // without giving the terminal back
			p.sees("Stopped")
			p.sees("out> ")
			p.types(`sh -c 'echo other pro""gram; exec cat'`+"\r", "other program")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, best())
			p := sitDown(t)
			sh := p.shell(s)
			forever := lasting(t)
			p.types(`$run -- sh -c 'echo REA""DY; sleep `+forever+`; :'`+c.after+"\r", "READY")
			eventually(t, patience, "the command runs", func() bool { return len(named(forever)) == 1 })
			supervisor, _ := supervisorOf(t, named(forever)[0])
			started := children(supervisor)
			c.leave(p, supervisor)
			from := p.shown.Len()
			_ = unix.Kill(supervisor, unix.SIGKILL)
			eventually(t, patience, "the supervisor and all that it started gone", func() bool {
				return len(named(forever)) == 0 && !slices.ContainsFunc(started, lives)
			})
			p.send(c.end)
			p.types("echo e''nd\r", "end")
			if got := strings.Contains(p.shown.String()[from:], alternate); got != c.reset {
				t.Errorf("the terminal was reset: %v, want %v; it showed %q", got, c.reset, p.shown.String()[from:])
			}
			_ = sh.Process.Kill()
			p.ends(sh)
		})
	}
}

// children lists a process's children.
func children(pid int) (list []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if child, err := strconv.Atoi(filepath.Base(dir)); err == nil && parentOf(child) == pid {
			list = append(list, child)
		}
	}
	return list
}

// lives says whether there is a process that has not ended.
func lives(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

// TestHangUp closes the terminal under a sandbox. Its processes end, also those that left the session or do not care, and also where the
// command itself does not. The control is the same without a sandbox: they stay.
func TestHangUp(t *testing.T) {
	others := func(forever string) string {
		return `setsid sleep ` + forever + ` & nohup sleep ` + forever + ` >/dev/null 2>&1 & (trap "" HUP TERM INT; exec sleep ` + forever + `) & `
	}
	for _, c := range []struct {
		name, command string
		stay          int // how many remain without a sandbox
	}{
		{"the command cares", "echo REA\"\"DY; sleep ", 2},
		{"the command does not care", `trap "" HUP TERM INT; while [ ! -e /nonexistent ]; do echo REA""DY; sleep `, 4},
	} {
		line := func(forever string) string {
			if strings.Contains(c.command, "while") {
				return "sh -c '" + others(forever) + c.command + forever + "; done'\r"
			}
			return "sh -c '" + others(forever) + c.command + forever + "; :'\r"
		}
		run := func(t *testing.T, s *site, how string) (string, *exec.Cmd, *person) {
			p := sitDown(t)
			sh := p.shell(s)
			forever := lasting(t)
			p.types(how+line(forever), "READY")
			eventually(t, patience, "four processes", func() bool { return len(named(forever)) == 4 })
			p.slave.Close()
			p.master.Close()
			return forever, sh, p
		}
		t.Run(c.name, func(t *testing.T) {
			t.Run("control", func(t *testing.T) {
				forever, sh, p := run(t, newSite(t, best()), "")
				p.gone(t, sh)
				if n := len(named(forever)); n < c.stay {
					t.Errorf("without a sandbox %d of 4 are left, want %d: the case proves nothing", n, c.stay)
				}
				for _, pid := range named(forever) {
					if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parentOf(pid))); strings.TrimSpace(string(comm)) == "sh" {
						_ = unix.Kill(parentOf(pid), unix.SIGKILL)
					}
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			})
			eachMode(t, func(t *testing.T, s *site) {
				forever, sh, p := run(t, s, "$run -- ")
				eventually(t, patience, "everything gone after the terminal closed", func() bool { return len(named(forever)) == 0 })
				p.gone(t, sh)
			})
		})
	}
}
