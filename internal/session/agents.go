package session

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// tellAgents says in a line what an agent's command took by itself, to a person who sits there.
func (r *Run) tellAgents() {
	for _, a := range r.agents {
		name := a.Preset.Name
		if s := a.Preset.Agent.Secret; r.Options.Meanwhile && s != nil && r.Person.getenv(s.Env) != "" && !givesVariable(r.Policy, s.Env) {
			r.notice("%s stays outside (casemate secret set %s lets %s use it from there; --env %s lets it in, where all that runs can read it)", s.Env, s.Name, name, s.Env)
		}
		if !r.Options.Meanwhile || slices.ContainsFunc(r.Policy.Presets, func(v policy.Value[string]) bool { return v.V == name }) {
			continue
		}
		var hosts []string
		for _, v := range r.Policy.Network.Allow {
			if v.Origin.Tier == policy.Preset && strings.HasPrefix(v.Origin.File, name+" ") {
				host := v.V.Host
				if strings.HasSuffix(v.Origin.File, "("+preset.FromLogin+")") {
					host += " (" + preset.FromLogin + ")"
				}
				hosts = append(hosts, host)
			}
		}
		what := "opens no host, as your policy forbids it"
		if len(hosts) > 0 {
			what = "it may reach " + strings.Join(hosts, ", ")
		}
		r.notice("preset %s: %s (casemate preset show %s; --preset none leaves it out)", name, what, name)
	}
}

// agentSources are what a preset says, with its agent's secrets unless others have decided on secrets.
func (p Person) agentSources(found preset.Found, use loginUse, chosen policy.Tier, merged *policy.Policy, others []policy.Source) ([]policy.Source, error) {
	secrets := p.agentSecrets(found.Preset.Agent, use, merged)
	own, err := found.Sources(chosen, secrets)
	if len(secrets) == 0 || err != nil {
		return own, err
	}
	if _, err := policy.Merge(slices.Concat(own, others)); err != nil { // as where an organisation has locked them
		return found.Sources(chosen, nil)
	}
	return own, nil
}

// agentSecrets are those that an agent can use, where the person has a store and nobody says otherwise of their names or variables. Whether they are in the store
// is for the store to say: casemate does not read it.
func (p Person) agentSecrets(a *preset.Agent, use loginUse, merged *policy.Policy) (list []policy.Secret) {
	if a == nil {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(p.Config, ask.BookName)); err != nil {
		return nil
	}
	loginSaid := slices.ContainsFunc(a.Secrets(), func(s policy.Secret) bool { return a.IsLogin(s.Name) && saidOtherwise(merged, s) })
	for _, s := range a.Secrets() {
		isLogin := a.IsLogin(s.Name)
		switch {
		case isLogin && loginSaid:
		case saidOtherwise(merged, s):
			return nil // a key of theirs is their word about the login, too
		case isLogin && use == loginNever, !isLogin && use == loginOnly:
		case isLogin && use == loginOnly:
			s.Optional, s.Unless = false, ""
			fallthrough
		default:
			list = append(list, s)
		}
	}
	return list
}

// saidOtherwise says whether somebody else has decided what is in a secret's variable, or what a secret of its name is.
func saidOtherwise(merged *policy.Policy, s policy.Secret) bool {
	return givesVariable(merged, s.Env) || slices.ContainsFunc(merged.Secrets, func(v policy.Value[policy.Secret]) bool { return v.V.Name == s.Name })
}

// givesVariable says whether a variable is set inside.
func givesVariable(p *policy.Policy, name string) bool {
	return slices.ContainsFunc(p.Env.Pass, func(v policy.Value[string]) bool { return v.V == name }) ||
		slices.ContainsFunc(p.Env.Set, func(v policy.Value[policy.Variable]) bool { return v.V.Name == name }) ||
		slices.ContainsFunc(p.Secrets, func(v policy.Value[policy.Secret]) bool {
			return slices.Contains(policy.SecretVariables(v.V.Place, v.V.Env), name)
		})
}

// agentsHome gives the home of the sandbox what the presets of agents want in it: what is the person's own, read-only, and files of settings.
func (r *Run) agentsHome(req *plan.Request) error {
	if len(r.agents) == 0 {
		return nil
	}
	here, err := r.Person.Presets(r.Project)
	if err != nil {
		return err
	}
	for _, a := range r.agents {
		name := a.Preset.Name
		imports, warnings := here.Imports(a.Preset.Agent)
		for _, w := range warnings {
			r.notice("preset %s: %s", name, w)
		}
		for _, i := range imports {
			req.Tools = append(req.Tools, plan.Tree{Source: i.Source, Target: filepath.Join(r.Person.Home, i.Path), File: i.File, Why: "preset " + name + ": yours, read-only"})
		}
		if r.Options.DryRun || req.Home == "" {
			continue
		}
		for _, l := range a.Preset.Agent.Lays {
			if err := r.lay(here, req, l); err != nil {
				return fmt.Errorf("preset %s: %s in the home of the sandbox: %w", name, l.File, err)
			}
		}
	}
	return nil
}

// lay writes a file of settings into the home of the sandbox, unless anything is there under its name: it is the agent's then. An earlier run could write
// there, so no link is followed.
func (r *Run) lay(here *preset.Here, req *plan.Request, l preset.Lay) error {
	root, err := openOwn(unix.AT_FDCWD, req.Home)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	var st unix.Stat_t
	if fd, err := beneathHome(root, l.File, unix.O_PATH|unix.O_NOFOLLOW); err == nil {
		return unix.Close(fd)
	} else if err != unix.ENOENT { // links or a file on the way: whoever laid them there wants it so
		return nil
	}
	text, err := here.Laid(l)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(l.File)
	if dir != "" {
		if err := makeBeneath(root, strings.TrimSuffix(dir, "/"), false, req.User); err != nil {
			return err
		}
	}
	parent, err := beneathHome(root, filepath.Clean("./"+dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	fd, err := unix.Openat(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == unix.EEXIST {
		return nil // another run has just done it
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if unix.Fstat(fd, &st) == nil && int(st.Uid) != req.User.UID {
		if err := unix.Fchown(fd, req.User.UID, req.User.GID); err != nil {
			return err
		}
	}
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return err
	}
	return noteLaid(req.Home, l.File, text)
}

// beneathHome opens what lies in a home, following no link.
func beneathHome(root int, rel string, flags uint64) (int, error) {
	return unix.Openat2(root, rel, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
}

// laidFile is beside a home, where no sandbox reaches it: what casemate wrote there itself, with digests.
func laidFile(home string) string {
	return filepath.Join(filepath.Dir(home), "laid-"+filepath.Base(home)+".json")
}

func readLaid(home string) (map[string]string, error) {
	laid := map[string]string{}
	text, err := store.Read(laidFile(home), 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return laid, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &laid)
	}
	return laid, err
}

func noteLaid(home, file, text string) error {
	laid, err := readLaid(home)
	if err != nil {
		laid = map[string]string{} // it only tells what is whose
	}
	laid[file] = digest([]byte(text))
	out, err := json.Marshal(laid)
	if err != nil {
		return err
	}
	return store.WriteFile(laidFile(home), out, 0o600)
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
