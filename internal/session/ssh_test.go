package session

import (
	"os"
	"path/filepath"
	"testing"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/uses"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// TestSignaturesAreCounted: one session with a named host is enough to have logins signed as long as the sandbox runs. They push nobody else's uses out of the
// record, and none is left out of it.
func TestSignaturesAreCounted(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	r := &Run{Box: &store.Sandbox{Dir: t.TempDir()}, Plan: &plan.Plan{SSH: []plan.Login{{Hosts: []string{"git.example"}}, {Hosts: []string{"other.example"}}}}}
	g := newSigner(len(r.Plan.SSH))
	g.log, g.storekeeper = uses.Log{Path: filepath.Join(r.Box.Dir, "uses")}, &storekeeper{fd: pair[0]}
	s := &supervision{run: r, signer: g}
	const all = maxSigned + 700
	buf := make([]byte, ask.MaxMessage)
	for i := range all {
		s.signing(ask.Signing{ID: uint64(i + 1), Host: "git.example", Port: 22, User: "git"})
		n, err := unix.Read(pair[1], buf)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := ask.DecodePermit(buf[:n]); err != nil || p.Refused != "" {
			t.Fatalf("%+v, %v", p, err)
		}
		s.signing(ask.Signing{Host: "git.example", Port: 22, Refused: "no"})
	}
	s.signing(ask.Signing{ID: all + 1, Login: 1, Host: "other.example", Port: 22, User: "git"})
	s.endSigner()
	list, err := g.log.Read()
	if err != nil {
		t.Fatal(err)
	}
	given, refused, others := 0, 0, 0
	for _, u := range list {
		switch {
		case u.Refused != "":
			refused += max(1, u.Times)
		case u.Host == "other.example":
			others++
		default:
			given += max(1, u.Times)
		}
	}
	if given != all || refused != all || others != 1 || len(list) > maxSigned+maxRefusals+10 {
		t.Errorf("%d lines stand for %d logins, %d refusals and %d of another rule", len(list), given, refused, others)
	}
}

// TestKeysByLinkAreProtected: a deploy key's public file that lies in a repository of such files says which key of the person's agent may be used. What runs in
// there would otherwise name their own key next time.
func TestKeysByLinkAreProtected(t *testing.T) {
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	project := filepath.Join(home, "dotfiles")
	for _, dir := range []string{".ssh", "keys", "dotfiles"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{".ssh/deploy.pub": "deploy.pub", "keys/named.pub": "named.pub", "keys/private": "private"} {
		if err := os.Symlink(filepath.Join(project, to), filepath.Join(home, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"deploy.pub", "named.pub", "private", "other.pub"} {
		if err := os.WriteFile(filepath.Join(project, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &Run{Person: Person{Home: home, Config: filepath.Join(home, ".config", "casemate")}, Project: project, Policy: new(policy.Policy)}
	r.Policy.SSH = []policy.Value[policy.SSH]{{V: policy.SSH{Keys: []string{"~/keys/named.pub", "SHA256:x", filepath.Join(home, "keys/private")}}}}
	o, err := r.scanOptions(&plan.Request{Owner: os.Getuid(), Group: os.Getgid()})
	if err != nil {
		t.Fatal(err)
	}
	hide, err := policy.CompilePaths(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := workspace.Scan(project, hide, o)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"deploy.pub": true, "named.pub": true, "private": true, "other.pub": false} {
		if why, ok := s.Aliases[name]; ok != want {
			t.Errorf("%s is protected: %v (%s)", name, ok, why)
		}
	}
}
