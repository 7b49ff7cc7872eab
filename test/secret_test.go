package test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"casemate.dev/internal/secret/ask"
	"golang.org/x/sys/unix"
)

// secretValue is the one that nothing may show.
const secretValue = "sk-ant-api03-Zk3vQ8aXw2-Rt7_uVb1"

// owner is somebody with a home of their own and the programs on PATH.
type owner struct {
	t    *testing.T
	home string
	said bytes.Buffer // all that any program has printed
}

func newOwner(t *testing.T) *owner {
	t.Helper()
	p := &owner{t: t, home: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(p.home, "project"), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *owner) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = filepath.Join(p.home, "project")
	cmd.Env = []string{"HOME=" + p.home, "PATH=" + filepath.Dir(casemate) + ":/usr/bin:/bin", "LANG=C.UTF-8", "MY_KEY=" + secretValue}
	return cmd
}

// secret runs a verb, and returns its status.
func (p *owner) secret(stdin string, args ...string) int {
	p.t.Helper()
	cmd := p.command(casemate, append([]string{"secret"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	p.said.Write(out)
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// holds finds the value in a form that somebody may have given it.
func holds(b []byte) bool {
	for _, form := range []string{secretValue, base64.StdEncoding.EncodeToString([]byte(secretValue))[:40], hex.EncodeToString([]byte(secretValue))} {
		if bytes.Contains(b, []byte(form)) {
			return true
		}
	}
	return false
}

// TestSecretIsNeverShown runs every verb, also such that it fails, with the value in each of its stores, and looks for it in all that was printed and written.
func TestSecretIsNeverShown(t *testing.T) {
	p := newOwner(t)
	for _, c := range []struct {
		stdin string
		args  string
		want  int
	}{
		{secretValue + "\n", "set anthropic", 0}, {secretValue, "set anthropic", 125}, {secretValue, "set second --host a.example --json --expires 30d", 0},
		{"", "set third " + secretValue, 2}, {"", "set " + secretValue, 2}, {"", secretValue, 2}, {"", "set third --value " + secretValue, 2},
		{secretValue + "\n\nmore", "set third", 125}, {"", "set third", 125}, {"\x00" + secretValue, "set third", 125}, {strings.Repeat(secretValue, 2000), "set third", 125},
		{"", "set fromenv --from env --variable MY_KEY --host b.example", 0}, {"", "set nothing --from env --variable NO_KEY", 125},
		{"", "set fromcommand --from command --host c.example -- printenv MY_KEY", 0}, {"", "set fails --from command -- sh -c exec\tprintenv\tMY_KEY\t>&2\tx", 125},
		{secretValue, "set ring --from keyring", 125}, {"", "set kv --from vault --address http://127.0.0.1:1 --at secret/x", 125}, {"", "set kv --from vault --address http://kv.example --at secret/x", 2},
		{"", "list", 0}, {"", "list --json", 0}, {"", "list anthropic", 0}, {"", "list nobody", 125},
		{"", "grant anthropic --host d.example:8443 --project . --method POST --path /v1/* --for 1h", 0}, {"", "grant anthropic --host *", 2}, {"", "grant anthropic", 2},
		{"", "grant anthropic " + secretValue + " --host a.example", 2}, {"", "grant nobody --host a.example", 125}, {"", "revoke anthropic 1 --json", 0}, {"", "revoke anthropic 1", 125},
		{"", "revoke anthropic", 2}, {"x" + secretValue, "rotate anthropic", 0}, {secretValue, "rotate anthropic --json", 0}, {"", "rotate fromenv", 0}, {"", "rotate anthropic", 125},
		{secretValue, "rotate nobody", 125}, {"", "uses", 0}, {"", "uses --json", 0}, {"", "init --no-passphrase", 0}, {"", "serve", 2}, {"", "__complete list ", 0}, {"", "list --wrong", 2},
		{"", "rm second --json", 0}, {"", "rm second", 125},
	} {
		if got := p.secret(c.stdin, strings.Split(c.args, " ")...); got != c.want {
			t.Errorf("casemate secret %s: exit status %d, want %d", c.args, got, c.want)
		}
	}
	p.serves()
	p.secret("", "uses", "--json")
	if !strings.Contains(p.said.String(), `"host": "api.anthropic.com"`) {
		t.Error("the use is not listed")
	}
	if holds(p.said.Bytes()) {
		t.Errorf("the value was printed:\n%s", p.said.String())
	}
	err := filepath.WalkDir(p.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if holds(b) || holds([]byte(path)) {
			t.Errorf("the value is in %s", path)
		}
		if strings.HasPrefix(d.Name(), ".new") {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if !holds([]byte("the control: " + secretValue)) {
		t.Error("the value is not found where it is")
	}
}

// serves has casemate-secret give the value to a gate, as casemate run does, and looks at the process meanwhile.
func (p *owner) serves() {
	p.t.Helper()
	p.secret("", "grant", "anthropic", "--host", "api.anthropic.com")
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	cmd := p.command(filepath.Join(filepath.Dir(casemate), "casemate-secret"), "serve")
	cmd.Env = cmd.Env[:3] // without the value
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	theirs.Close()
	gate := func(packet []byte, err error) []byte {
		p.t.Helper()
		if err == nil {
			err = unix.Send(fds[0], packet, 0)
		}
		buf := make([]byte, ask.MaxMessage)
		n := 0
		if err == nil {
			n, err = unix.Read(fds[0], buf)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return buf[:n]
	}
	ready, err := ask.DecodeReady(gate(ask.EncodeBegin(ask.Begin{Sandbox: "a1", Entries: []ask.Entry{{Name: "anthropic", Env: "K", Hosts: []string{"api.anthropic.com"}}}})))
	if err != nil || !ready.Ready || holds(fmt.Append(nil, ready)) {
		p.t.Fatalf("%+v, %v", ready, err)
	}
	r, err := ask.DecodeReply(gate(ask.EncodeRequest(ask.Request{ID: 1, Entry: "anthropic", Host: "api.anthropic.com", Port: 443, Method: "POST", Path: "/v1/messages"})))
	if err != nil || r.Value.Use(func(b []byte) error {
		if string(b) != secretValue {
			return errors.New("another value")
		}
		return nil
	}) != nil {
		p.t.Errorf("%+v, %v", r, err)
	}
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	limits, _ := os.ReadFile(proc + "limits")
	if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		p.t.Errorf("it may dump core:\n%s", limits)
	}
	for _, name := range []string{"cmdline", "environ", "maps", "mem"} { // not dumpable: the user's other processes cannot read them
		b, err := os.ReadFile(proc + name)
		if holds(b) {
			p.t.Errorf("the value is in %s", name)
		}
		if os.Getuid() != 0 && name != "cmdline" && err == nil {
			p.t.Errorf("%s of the process can be read by its user", name)
		}
	}
	unix.Close(fds[0])
	if err := cmd.Wait(); err != nil {
		p.t.Errorf("serve: %v", err)
	}
}

// TestSecretIsTypedUnseen types the value at a terminal: it does not show, and Ctrl-C leaves the terminal as it was.
func TestSecretIsTypedUnseen(t *testing.T) {
	p := newOwner(t)
	for _, how := range []string{"typed", "left"} {
		term := newTerminal(t)
		before := term.modes()
		cmd := p.command(casemate, "secret", "set", "anthropic")
		term.start(cmd)
		shown := term.expect("(not shown): ")
		if how == "left" {
			term.send(secretValue + "\x03")
		} else {
			term.send(secretValue + "\r")
			shown += term.expect("is set")
		}
		err := cmd.Wait()
		if how == "typed" && err != nil || how == "left" && cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("%s: %v", how, err)
		}
		if after := term.modes(); after != before {
			t.Errorf("%s: the terminal's modes were %+v and are %+v", how, before, after)
		}
		term.send("end\r") // echoed now: all before it has been shown
		if shown += term.expect("end"); holds([]byte(shown)) {
			t.Errorf("%s: the terminal shows %q", how, shown)
		}
		if how == "typed" {
			p.secret("", "rm", "anthropic")
		}
	}
	if p.secret("", "list", "anthropic") != 125 {
		t.Error("what was left was set")
	}
}

// TestSecretPassphrase: the key wants one, and says what to do where there is neither.
func TestSecretPassphrase(t *testing.T) {
	p := newOwner(t)
	p.secret(secretValue, "set", "anthropic")
	if p.secret("correct horse\n", "init", "--passphrase") != 0 {
		t.Fatal(p.said.String())
	}
	run := func(env string) (string, int) {
		cmd := p.command(casemate, "secret", "list", "--json")
		cmd.Env = append(cmd.Env, env)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, status := run("X=y"); status != 125 || !strings.Contains(out, "nobody to ask") || !strings.Contains(out, "CASEMATE_SECRET_PASSPHRASE_FILE") {
		t.Errorf("%d: %s", status, out)
	}
	file := filepath.Join(p.home, "passphrase")
	if err := errors.Join(os.WriteFile(file, []byte("correct horse\n"), 0o600), os.Chmod(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, status := run("CASEMATE_SECRET_PASSPHRASE_FILE=" + file); status != 125 || !strings.Contains(out, "others may read") {
		t.Errorf("%d: %s", status, out)
	}
	term := newTerminal(t)
	cmd := p.command(casemate, "secret", "list", "--json")
	term.start(cmd)
	term.expect("Passphrase of casemate's secrets: ")
	term.send("correct horse\r")
	shown := term.expect("]")
	if err := cmd.Wait(); err != nil || strings.Contains(shown, "horse") {
		t.Errorf("%v: %q", err, shown)
	}
	var list []struct{ Name string }
	if err := json.Unmarshal([]byte(shown[strings.Index(shown, "["):]), &list); err == nil && len(list) != 1 {
		t.Errorf("%q", shown)
	}
}
