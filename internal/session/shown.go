package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// What no sandbox is shown, whoever asks for it.

const elsewhereHint = "cd into a project, or run without one: casemate run --workspace none -- ..."

// shared are directories that hold what belongs to many: to show one whole is to show other people's files, keys and sockets.
var shared = []string{"/bin", "/boot", "/etc", "/home", "/lib", "/lib32", "/lib64", "/media", "/mnt", "/root", "/run", "/run/user", "/sbin", "/tmp", "/usr", "/var", "/var/tmp", "/var/run"}

// checkProject refuses what must never be a project.
func (r *Run) checkProject() error {
	state := filepath.Dir(r.Person.Config)
	if r.Person.StateHome != "" {
		state = r.Person.StateHome
	}
	key := r.Person.getenv(ask.KeyVariable) // where it is by itself, its name is one that is hidden
	switch {
	case r.Project == r.Person.Home:
		return &Refusal{errors.New("the working directory is your home directory, which holds everything a sandbox must not see"), elsewhereHint}
	case r.Project == "/" || within(r.Person.Home, r.Project):
		return &Refusal{fmt.Errorf("the project %q contains your home directory", r.Project), elsewhereHint}
	case within(r.Project, "/dev") || within(r.Project, "/proc") || within(r.Project, "/sys"):
		return &Refusal{fmt.Errorf("the project %q lies in a place of which the sandbox has one of its own", r.Project), "move the project, such as to /tmp or your home directory; or run without one: casemate run --workspace none -- ..."}
	case slices.Contains(shared, r.Project) || filepath.Dir(r.Project) == "/run/user":
		return &Refusal{fmt.Errorf("the working directory %q belongs to the system and to everybody, and is no project", r.Project), elsewhereHint}
	case within(r.Project, followed(r.Person.Config)):
		return &Refusal{fmt.Errorf("the project %q is casemate's own configuration, which says what every sandbox may do: what runs here could widen the next one", r.Project), "edit it outside of a sandbox; " + elsewhereHint}
	case key != "" && within(followed(key), r.Project):
		return &Refusal{fmt.Errorf("%s is in the project %q: the command would have the key of all your secrets", key, r.Project), "keep it elsewhere, and name that in " + ask.KeyVariable}
	case within(r.state, r.Project) || within(r.Project, r.state):
		return &Refusal{fmt.Errorf("the project %q and casemate's own state %q (%s) lie in each other", r.Project, r.Store.Root, state), "set XDG_STATE_HOME to a directory outside of the project"}
	}
	return nil
}

// followed is where a directory really lies, as a working directory is told: either may be a link, such as into a repository of such files.
func followed(path string) string {
	if real, err := workspace.Whereabouts(path); err == nil {
		return real
	}
	return path
}

// checkReads refuses to show what is not there, casemate's own state, as other projects' layers and history are in it, the key of the person's secrets, and a login that is to stay outside.
func (r *Run) checkReads() error {
	for _, v := range r.Policy.Files.Read {
		shown := plan.Expand(v.V, r.Person.Home)
		if _, err := os.Lstat(shown); errors.Is(err, fs.ErrNotExist) {
			return &Refusal{fmt.Errorf("files.read (%s): %s does not exist", v.Origin, shown), "name what is there, or leave it out"}
		}
		real := followed(shown)
		if state := followed(r.Store.Root); within(state, real) || within(real, state) {
			return &Refusal{fmt.Errorf("files.read (%s): %s shows casemate's own state, in which what other projects' sandboxes changed is kept", v.Origin, shown),
				"name the directories in it that are needed"}
		}
		if key := r.Person.secretsKey(); key != "" && within(followed(key), real) {
			return &Refusal{fmt.Errorf("files.read (%s): %s shows the key of your secrets, %s: who has it and the file beside it has them all", v.Origin, shown, key),
				"name the directories in it that are needed"}
		}
		if agent, login := r.loginIn(real); login != "" {
			return &Refusal{fmt.Errorf("files.read (%s): %s shows your login of %s, %s, which the gate puts in so that it stays outside", v.Origin, shown, agent, login),
				"name the directories in it that are needed; --login no does without the login in this run"}
		}
	}
	return nil
}

// shownOfEtc returns what the policy shows of the host's /etc, as places for an /etc of the sandbox's own. It refuses what could not be read inside anyway,
// as the accounts' passwords cannot.
func (r *Run) shownOfEtc(req *plan.Request) (places []string, err error) {
	if req.Mode == plan.Landlock { // which has the host's
		return nil, nil
	}
	for _, v := range r.Policy.Files.Read {
		rel, below := strings.CutPrefix(v.V, "/etc/")
		if !below {
			continue
		}
		if real, err := filepath.EvalSymlinks(v.V); err == nil && real != v.V {
			return nil, &Refusal{fmt.Errorf("files.read (%s): %s is or lies behind a symbolic link", v.Origin, v.V), "name the place that it leads to: " + real}
		}
		var st unix.Stat_t
		if err := unix.Stat(v.V, &st); err != nil {
			return nil, &Refusal{fmt.Errorf("files.read (%s): %s: %w", v.Origin, v.V, err), "name what you can read yourself, or leave it out"}
		}
		if !r.readable(v.V, &st, req.User) {
			return nil, &Refusal{fmt.Errorf("files.read (%s): %s cannot be read by the sandbox's user, as its mode is %04o and its owner %d:%d", v.Origin, v.V, st.Mode&0o7777, st.Uid, st.Gid), "leave it out; what holds the machine's own secrets stays outside"}
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			rel += "/"
		}
		places = append(places, rel)
	}
	return places, nil
}

// readable says whether the sandbox's user may read something: the person, or whoever root runs sandboxes as.
func (r *Run) readable(path string, st *unix.Stat_t, user plan.User) bool {
	switch {
	case r.Facts.EUID != 0:
		return unix.Access(path, unix.R_OK) == nil
	case int(st.Uid) == user.UID:
		return st.Mode&0o400 != 0
	case int(st.Gid) == user.GID:
		return st.Mode&0o040 != 0
	}
	return st.Mode&0o004 != 0
}

// checkLogin refuses a project in which such a login lies and is not hidden, as in a repository of settings that ~/.claude is a link into.
func (r *Run) checkLogin() error {
	agent, login := r.loginIn(r.Project)
	if login == "" {
		return nil
	}
	hide, err := policy.CompilePaths(hidePatterns(r.Policy.Files))
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(r.Project, followed(login))
	if hidden, _ := hide.Match(rel, false); hidden || err != nil {
		return err
	}
	return &Refusal{fmt.Errorf("your login of %s lies in the project, as %s, and is not hidden there, while the gate puts it in so that it stays outside", agent, rel),
		"hide it: --hide '/" + rel + "*'; --login no does without the login in this run"}
}

// loginIn finds the file of a login in a directory that is to be shown, where this run may use it through the gate.
func (r *Run) loginIn(shown string) (agent, file string) {
	for _, a := range r.agents {
		login := a.Preset.Agent.Login
		if login == nil || !slices.ContainsFunc(r.Policy.Secrets, func(v policy.Value[policy.Secret]) bool { return v.V.Name == login.Name }) {
			continue
		}
		for _, file := range r.Person.logins(a.Preset.Agent) {
			if within(followed(file), shown) {
				return a.Preset.Name, file
			}
		}
	}
	return "", ""
}

// secretsKey is where casemate-secret keeps the key of the person's secrets (package book), or "" where there is none.
func (p Person) secretsKey() string {
	key := p.getenv(ask.KeyVariable)
	if key == "" {
		key = filepath.Join(p.Config, ask.KeyName)
	}
	if _, err := os.Lstat(key); err != nil {
		return ""
	}
	return key
}

func within(inner, outer string) bool {
	return inner == outer || outer == "/" || strings.HasPrefix(inner, outer+"/")
}
