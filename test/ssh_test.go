package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"casemate.dev/internal/engine/enginetest"
)

// rawRequest asks an agent for a signature of anything, as a program would that has no ssh. It prints the type of the answer: 14 is a signature, 5 a failure.
const rawRequest = `
import os, socket, struct
def text(b): return struct.pack(">I", len(b)) + b
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["SSH_AUTH_SOCK"]); f = s.makefile("rwb")
def ask(m):
    f.write(text(m)); f.flush()
    return f.read(struct.unpack(">I", f.read(4))[0])
keys = ask(b"\x0b")
key = keys[9:9 + struct.unpack(">I", keys[5:9])[0]]
print("raw", ask(b"\x0d" + text(key) + text(b"anything at all") + struct.pack(">I", 0))[0])
`

// sshPerson has an agent with two keys, both of which the hosts take, and knows two hosts: one of them by a hashed line, as ssh writes them.
type sshPerson struct {
	*site
	who, agent string
	ssh        string // the command, with what a program inside and one outside need alike
}

func newSSHPerson(t *testing.T, s *site) sshPerson {
	t.Helper()
	for _, program := range []string{"ssh", "ssh-agent", "ssh-add", "python3", "git"} {
		needs(t, program)
	}
	user, err := serverUser()
	if err != nil {
		t.Fatal(err)
	}
	p := sshPerson{site: s, who: user.Username, agent: filepath.Join(s.Dir, "agent.sock"), ssh: "ssh -o BatchMode=yes -o KexAlgorithms=curve25519-sha256 -p 2222"}
	agent := exec.Command("ssh-agent", "-D", "-a", p.agent)
	agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	eventually(t, time.Minute, "the agent listens", func() bool { return isThere(p.agent) })
	servers := filepath.Join(s.world.dir, "servers")
	p.out(t, `mkdir -p ~/.ssh && chmod 700 ~/.ssh && cd ~/.ssh && rm -f config id_rsa && for k in named other; do ssh-keygen -q -t ed25519 -N "" -C $k@laptop -f $k; done && ssh-add -q named other &&
printf '[git.example]:2222 %s\n' "$(cut -d' ' -f1,2 `+servers+`/host_key.pub)" >known_hosts && ssh-keygen -q -H -f known_hosts && rm known_hosts.old &&
printf '[mirror.example]:2222 %s\n' "$(cut -d' ' -f1,2 `+servers+`/host_key_ecdsa.pub)" >>known_hosts`)
	authorize(t, p.out(t, "cat ~/.ssh/named.pub ~/.ssh/other.pub"))
	return p
}

// out is what a line prints outside, where the person has their agent.
func (p sshPerson) out(t *testing.T, line string) string {
	t.Helper()
	o := p.finish(p.with(p.outsideCommand(line)))
	if o.exit != 0 {
		t.Fatalf("outside: %s: %v", line, o)
	}
	return o.stdout
}

func (p sshPerson) with(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+p.agent)
	return cmd
}

func (p sshPerson) casemate(args ...string) output { return p.finish(p.with(p.command(args...))) }

// TestSSHAgent: with the key outside, a login and a clone work at the host that is named with it, and nothing else can be had of the agent.
func TestSSHAgent(t *testing.T) {
	servedOnce(t, func(t *testing.T, s *site) {
		p := newSSHPerson(t, s)
		known := " -o UserKnownHostsFile=" + s.Home + "/.ssh/known_hosts "
		mirror := p.ssh + " -o HostKeyAlgorithms=ecdsa-sha2-nistp256"
		s.put("raw.py", rawRequest, 0o644)
		s.put("casemate.yaml", "ssh: [{keys: [named@laptop], hosts: [git.example], ports: [2222]}]\n", 0o644)
		s.Accept()
		network := []string{"--allow", "git.example:2222", "--allow", "mirror.example:2222"}
		url := "ssh://" + p.who + "@git.example:2222" + filepath.Join(s.world.dir, "servers") + "/ssh.git"

		// What the agent outside does. Inside, each of these must not work.
		for line, want := range map[string]string{
			"python3 raw.py": "raw 14",
			"ssh-keygen -q -Y sign -n git -f ~/.ssh/named.pub <raw.py":                                         "BEGIN SSH SIGNATURE",
			mirror + known + p.who + "@mirror.example echo reached":                                            "reached",
			p.ssh + known + "-i ~/.ssh/other.pub -o IdentitiesOnly=yes " + p.who + "@git.example echo reached": "reached",
		} {
			has(t, "outside: "+line, p.out(t, line), want)
		}

		untrusted := p.casemate(append(append([]string{"run"}, network...), "--", "sh", "-c", "ssh-add -L; ls /run")...)
		hasNot(t, "with a policy that nobody has approved", untrusted.stdout, "ssh")
		has(t, "with a policy that nobody has approved", untrusted.stderr, "casemate.yaml would widen ssh")
		if o := p.casemate("trust", "--yes"); o.exit != 0 {
			t.Fatal(o)
		}
		cat, err := os.ReadFile(s.Home + "/.ssh/other.pub")
		if err != nil {
			t.Fatal(err)
		}
		s.put("other.pub", string(cat), 0o644)
		s.put("try.sh", `
echo 'the keys:' $(ssh-add -L)
`+p.ssh+` -o StrictHostKeyChecking=yes `+p.who+`@git.example echo reached by ssh
GIT_SSH_COMMAND="`+p.ssh+` -o StrictHostKeyChecking=yes" git clone -q `+url+` cloned && echo cloned
`+mirror+` -o StrictHostKeyChecking=no `+p.who+`@mirror.example echo reached the mirror
`+p.ssh+` -i other.pub -o IdentitiesOnly=yes `+p.who+`@git.example echo reached with the other
python3 raw.py
ssh-add -L >named.pub; ssh-keygen -q -Y sign -n git -f named.pub <raw.py
ssh-keygen -q -t ed25519 -N '' -f new && ssh-add -q new && echo took a key
ssh-add -q -D && echo gave keys up
cat `+s.Home+`/.ssh/named `+p.agent+` && echo saw the key
ls -l /run/casemate-ssh
`, 0o644)
		run := p.casemate(append(append([]string{"run"}, network...), "--", "sh", "try.sh")...)
		named := strings.Fields(p.out(t, "cat ~/.ssh/named.pub"))
		for _, want := range []string{"the keys: ssh-ed25519 " + named[1] + " git.example\n", "reached by ssh\n", "cloned\n", "raw 5\n"} {
			has(t, "inside", run.stdout, want)
		}
		for _, never := range []string{"the mirror", "with the other", "raw 14", "SIGNATURE", "took", "gave", "saw", "laptop"} {
			hasNot(t, "inside", run.stdout, never)
		}
		for _, why := range []string{
			"the ssh-agent did not sign: the server's key SHA256:", "is that of no host that the policy names under ssh",
			"the client did not say for which host it is (session-bind@openssh.com)", "there is more that the ssh-agent did not sign: casemate net ",
		} {
			has(t, "told at the end", run.stderr, why)
		}
		list := p.casemate("net")
		print := strings.Fields(p.out(t, "ssh-keygen -lf ~/.ssh/named.pub"))[1]
		for _, want := range []string{"signed git.example:2222", "a login as " + p.who + ", with the key " + print, "it is not a login but a signature of data", "casemate.yaml:1"} {
			has(t, "casemate net", list.stdout, want)
		}
		uses := p.casemate("secret", "uses", "ssh")
		has(t, "casemate secret uses", uses.stdout, fmt.Sprintf("git.example:2222   signed a login as %s with %s", p.who, print))
		has(t, "casemate secret uses", uses.stdout, "refused: ")
		has(t, "the events", s.events(t), `"kind":"signed"`)
	}, "sshd")
}

// TestSSHWithoutAgent: the key's own file serves where no agent has it, for as long as the policy names it; and what is missing is said before anything runs.
func TestSSHWithoutAgent(t *testing.T) {
	servedOnce(t, func(t *testing.T, s *site) {
		p := newSSHPerson(t, s)
		login := p.ssh + " -o StrictHostKeyChecking=yes " + p.who + "@git.example echo reached"
		run := func(flags ...string) output {
			cmd := p.command(append(append([]string{"run", "--allow", "git.example:2222"}, flags...), "--", "sh", "-c", login)...)
			cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK=")
			return p.finish(cmd)
		}
		mine := filepath.Join(s.Home, ".config/casemate/policy.yaml")
		says := func(text string) {
			t.Helper()
			if err := errors.Join(os.MkdirAll(filepath.Dir(mine), 0o700), os.WriteFile(mine, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		const network = "network: {allow: [{host: git.example, ports: [2222]}]}\n"
		says(network + "ssh: [{keys: [~/.ssh/named], hosts: [git.example], ports: [2222]}]\n")
		k := s.talk()
		if got := k.ask(login); got != "reached" {
			t.Errorf("with the key's file: %s", got)
		}
		says(network)
		eventually(t, time.Minute, "a login is refused that the policy names no more", func() bool { return strings.Contains(k.ask(login), "Permission denied") })
		signer := k.child(t, "ssh-agent")
		for _, wall := range []string{"Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"} {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", signer))
			if err != nil || !strings.Contains(string(status), wall) {
				t.Errorf("the signer's status has no %q: %v", wall, err)
			}
		}
		if err := syscall.Kill(signer, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "the agent is gone with its process", func() bool { return strings.Contains(k.ask("ssh-add -l"), "connect") })
		k.end()
		has(t, "when the policy has changed", p.casemate("net").stdout, "the policy names this login no more")
		has(t, "when the signer was killed", s.events(t), "the agent of the sandbox ended, and no login is signed any more")
		if err := os.Remove(mine); err != nil {
			t.Fatal(err)
		}
		if o := run(); o.exit == 0 {
			t.Errorf("the control, without the key: %v", o)
		}
		p.out(t, `cd ~/.ssh && ssh-keygen -q -t ed25519 -N secret -f locked && cp locked open && chmod 644 open`)
		for flag, why := range map[string]string{
			"git.example:2222":                          "no agent of yours runs",
			"git.example:2222=named@laptop":             "no agent of yours runs",
			"git.example:2222=~/.ssh/locked":            "its file has a passphrase",
			"git.example:2222=~/.ssh/open":              "can be read by others",
			"git.example:2222=" + s.Work + "/named.pub": "lies in the project",
			"other.example=~/.ssh/named":                "your known_hosts have no key of other.example",
		} {
			o := run("--ssh", flag)
			if o.exit != 125 || !strings.Contains(o.stderr, why) {
				t.Errorf("--ssh %s: %v", flag, o)
			}
		}
		if o := p.casemate("run", "--allow", "git.example:2222", "--ssh", "git.example:2222", "--", "true"); o.exit != 125 || !strings.Contains(o.stderr, "your agent has 2 keys") {
			t.Errorf("two keys, and none is named: %v", o)
		}
		for _, r := range s.attack([]string{"--ssh", "git.example:2222=~/.ssh/named", "--allow", "git.example:2222"}, "N17.known") {
			if r.Verdict != enginetest.Held {
				t.Errorf("casemate validate: %+v", r)
			}
		}
		has(t, "a key without its network", p.casemate("run", "--ssh", "git.example:2222=~/.ssh/named", "--", "true").stderr, "there is no network here, so there is no agent either (--allow git.example:2222 opens it)")
		plan := p.casemate("plan", "--json", "--ssh", "git.example:2222=~/.ssh/named", "--allow", "elsewhere.example")
		has(t, "the plan", plan.stdout, "log in at git.example:2222 with your ssh key ~/.ssh/named, which stays outside")
		has(t, "the plan", plan.stdout, "no rule of network.allow reaches git.example:2222, and a key opens nothing")
	}, "sshd")
}

// child is the process that the run has started with a word among its arguments.
func (k *talk) child(t *testing.T, word string) int {
	t.Helper()
	for _, list := range glob(fmt.Sprintf("/proc/%d/task/*/children", k.cmd.Process.Pid)) {
		pids, _ := os.ReadFile(list)
		for _, pid := range strings.Fields(string(pids)) {
			line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if n, err := strconv.Atoi(pid); err == nil && slices.Contains(strings.Split(string(line), "\x00"), word) {
				return n
			}
		}
	}
	t.Fatalf("the run has no process %s", word)
	return 0
}
