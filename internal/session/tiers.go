// Package session knows a whole run: it gathers policy and facts, makes the plan, runs it, and keeps what came of it.
package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Person is who runs casemate, and from where. It is what of the host's environment casemate itself uses.
type Person struct {
	UID, GID  int
	Name      string
	Home      string
	StateHome string
	Config    string // the user's own policy and trusted digests
	Dir       string // working directory, links resolved
	Environ   []string
}

// Self reads the person from the process, with where they are.
func Self() (Person, error) {
	p, err := Anywhere()
	if err != nil {
		return p, err
	}
	if p.Dir, err = unix.Getwd(); err != nil {
		return p, &Refusal{fmt.Errorf("working directory: %w", err), "it was removed, or cannot be read: cd into a directory that is there"}
	}
	return p, nil
}

// Anywhere reads the person for what is about no project: it works in a directory that was removed as well.
func Anywhere() (Person, error) {
	p := Person{UID: os.Geteuid(), GID: os.Getegid(), Name: os.Getenv("USER"), Home: os.Getenv("HOME"), StateHome: os.Getenv("XDG_STATE_HOME"), Environ: os.Environ()}
	if p.Name == "" || strings.ContainsAny(p.Name, ":\n/") {
		p.Name = "user"
	}
	if !filepath.IsAbs(p.Home) {
		return p, fmt.Errorf("HOME is %q, which is not an absolute path", p.Home)
	}
	home, err := filepath.EvalSymlinks(p.Home)
	if err != nil {
		return p, fmt.Errorf("home directory: %w", err)
	}
	p.Home = home
	config := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		config = filepath.Join(p.Home, ".config")
	}
	p.Config = filepath.Join(config, "casemate")
	return p, nil
}

// PolicyFile is the name of a project's own policy.
const PolicyFile = "casemate.yaml"

const organisationFile = "/etc/casemate/policy.yaml"

// FindProject returns the root of the project that dir is in: the nearest directory with a policy file or a git repository, or dir itself.
// The home directory is no project: it holds everything that a sandbox must not see.
//
// Only what belongs to the person, or to the owner of the working directory, makes a project: a directory that everybody can write would
// otherwise hand a stranger's policy to whoever works below it (compare CVE-2022-24765).
func (p Person) FindProject() string {
	owner := func(uid uint32) bool {
		var here unix.Stat_t
		return int(uid) == p.UID || unix.Stat(p.Dir, &here) == nil && uid == here.Uid
	}
	for dir := p.Dir; dir != "/" && dir != p.Home; dir = filepath.Dir(dir) {
		for _, name := range []string{PolicyFile, ".git"} {
			var st unix.Stat_t
			if unix.Lstat(filepath.Join(dir, name), &st) == nil && owner(st.Uid) {
				return dir
			}
		}
	}
	return p.Dir
}

// Tiers are the policy documents that apply to a project, lowest first.
type Tiers struct {
	Sources []policy.Source
	Project *ProjectPolicy // nil: the project has none
}

// ProjectPolicy is a project's own document and whether somebody approved it.
type ProjectPolicy struct {
	Path    string
	Data    []byte
	Digest  string
	Trusted bool
	Doc     *policy.Document
}

// BadFlag is an error in what the command line says, and not in a file or with the machine.
type BadFlag struct{ error }

func (b *BadFlag) Unwrap() error { return b.error }

// Load reads the organisation's, the user's and the project's policy.
func (p Person) Load(project string, flags policy.Flags) (*Tiers, error) {
	t := &Tiers{}
	for _, f := range p.policyFiles() {
		doc, err := p.readTier(f)
		if err != nil {
			return nil, err
		}
		if doc != nil {
			t.Sources = append(t.Sources, policy.Source{Tier: f.tier, Name: f.path, Doc: doc})
		}
	}
	if project != "" {
		own, err := p.ProjectPolicy(project)
		if err != nil {
			return nil, err
		}
		if own != nil {
			t.Project = own
			t.Sources = append(t.Sources, policy.Source{Tier: policy.Project, Name: PolicyFile, Doc: own.Doc, Trusted: own.Trusted})
		}
	}
	source, err := flags.Source()
	if err != nil {
		return nil, &BadFlag{err}
	}
	t.Sources = append(t.Sources, source)
	return t, nil
}

// policyFile is where a tier's policy is.
type policyFile struct {
	tier policy.Tier
	path string
}

// policyFiles are those that no project brings.
func (p Person) policyFiles() []policyFile {
	return []policyFile{{policy.Organisation, organisationFile}, {policy.User, p.policyFile()}}
}

// readTier reads such a policy, or nil when there is none.
func (p Person) readTier(f policyFile) (*policy.Document, error) {
	data, err := readPolicy(f.path, f.tier == policy.Organisation)
	if err != nil || data == nil {
		return nil, err
	}
	if f.tier == policy.User {
		if err := p.onlyTheirs(f.path); err != nil {
			return nil, err
		}
	}
	return policy.Parse(f.path, data)
}

// onlyTheirs refuses a file that decides for the person and that a stranger can write. A group's files are left to it: many people have one of their own.
func (p Person) onlyTheirs(path string) error {
	var file, home unix.Stat_t
	if err := unix.Stat(path, &file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	owned := file.Uid == 0 || int(file.Uid) == p.UID || unix.Stat(p.Home, &home) == nil && file.Uid == home.Uid
	if owned && file.Mode&0o002 == 0 {
		return nil
	}
	return &Refusal{fmt.Errorf("%s decides what sandboxes may do, and others can write it (owner %d, mode %o)", path, file.Uid, file.Mode&0o7777), "look at what is in it; then: chown " + strconv.Itoa(p.UID) + " " + path + " && chmod o-w " + path}
}

// readPolicy reads a policy file, or nil when there is none. The organisation's is a ceiling only if nobody else can write it.
func readPolicy(path string, rootOwned bool) ([]byte, error) {
	data, err := store.Read(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if rootOwned {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Uid != 0 || st.Mode&0o022 != 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, fmt.Errorf("policy %s must be a file that belongs to root and that nobody else can write (owner %d, mode %o)", path, st.Uid, st.Mode&0o7777)
		}
	}
	return data, nil
}

// ProjectPolicy reads a project's own policy, or nil when it has none, and whether it is approved.
func (p Person) ProjectPolicy(project string) (*ProjectPolicy, error) {
	own, err := readProject(project)
	if err != nil || own == nil {
		return nil, err
	}
	trust, err := p.Trust()
	if err != nil {
		return nil, err
	}
	own.Trusted = trust.Approved(own.Path, own.Digest)
	return own, nil
}

// readProject reads it. Nothing of it is approved yet.
func readProject(project string) (*ProjectPolicy, error) {
	path := filepath.Join(project, PolicyFile)
	if to, err := os.Readlink(path); err == nil { // the repository would choose a file of yours whose lines messages then quote
		return nil, &Refusal{fmt.Errorf("policy %s is a symbolic link (to %q): a project's policy must be a file of its own", path, to), "put the file itself there, or remove the link"}
	} else if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	data, err := readPolicy(path, false)
	if err != nil || data == nil {
		return nil, err
	}
	doc, err := policy.Parse(PolicyFile, data)
	if err != nil {
		return nil, err
	}
	return &ProjectPolicy{Path: path, Data: data, Digest: policy.Digest(data), Doc: doc}, nil
}

func (p Person) policyFile() string { return filepath.Join(p.Config, "policy.yaml") }

func (p Person) trustFile() string { return filepath.Join(p.Config, "trusted.json") }

// Trust reads what the person has approved.
func (p Person) Trust() (*policy.Trust, error) {
	data, err := os.ReadFile(p.trustFile())
	if errors.Is(err, fs.ErrNotExist) {
		return &policy.Trust{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("trusted policies: %w", err)
	}
	if err := p.onlyTheirs(p.trustFile()); err != nil {
		return nil, err
	}
	t, err := policy.ParseTrust(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.trustFile(), err)
	}
	return t, nil
}

// Approve records the person's approval of exactly these bytes, or withdraws it.
func (p Person) Approve(own *ProjectPolicy, approve bool) error {
	if err := os.MkdirAll(p.Config, 0o700); err != nil {
		return fmt.Errorf("trusted policies: %w", err)
	}
	lock, err := os.OpenFile(p.trustFile()+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("trusted policies: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("trusted policies: %w", err)
	}
	t, err := p.Trust()
	if err != nil {
		return err
	}
	if approve {
		if err := t.Approve(own.Path, own.Digest, time.Now()); err != nil {
			return err
		}
	} else {
		t.Revoke(own.Path)
	}
	data, err := t.Encode()
	if err != nil {
		return err
	}
	return store.WriteFile(p.trustFile(), data, 0o600)
}
