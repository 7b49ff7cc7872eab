package plan

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/limits"
	"casemate.dev/internal/policy"
)

// Tree is a part of the host that every sandbox sees, or that this command's tool chain needs. It is read-only.
type Tree struct {
	Source string   // host path, or the text of the link
	Target string   // the same path inside, as a rule
	Link   bool     // a symbolic link, such as /bin -> usr/bin
	File   bool     // not a directory
	Hide   []string // credential files in it, absolute
	Why    string   // for people: what needs it
}

// Request is everything that a plan is made of. All paths are absolute, clean and resolved by the caller.
type Request struct {
	Policy  *policy.Policy
	Mode    Mode
	ABI     int // of Landlock; 0 is none
	User    User
	Project string // empty: no project is seen
	Owner   int    // of the project on the host
	Group   int
	Dir     string // working directory, in the project
	Path    string // of the executable; empty when it was not found
	Argv    []string
	Env     []string
	System  []Tree // what every sandbox sees of the host
	Tools   []Tree // tool chains and the command's installation
	Etc     string // the prepared /etc
	Home    string // the sandbox's own home on the host; empty: in memory
	Host    string // the home directory of the person on the host, for "~/"
	Mask    string // the overlay's layer of whiteouts
	Layer   string // the change layer
	Copy    string // a copy of the project where no overlay can be had
	Tmp     string // a temporary directory, for the mode without namespaces
	Told    bool   // the supervisor can be told of system calls, which the mode without namespaces asks for
	Set     limits.Set
	Limits  []limits.Enforced
	Git     []Mount   // overlays of git directories outside of the project that a working tree in it belongs to
	Now     time.Time // rules of the network that ended before have no effect
	IPv6    bool      // the kernel has IPv6
	Caches  []Cache   // of package managers
	Trust   Trust     // where TLS is opened
	Agent   Agent     // where ssh keys are named
	Live    []Mount   // for a live workspace: mounts over hidden and protected paths, and their ancestors
	Absent  []string  // of files.readonly: there is nothing yet to be mounted over
}

// Make resolves the request. It fails when the policy asks for what this mode, this host or this version cannot do: nothing runs then.
func Make(r Request) (*Plan, error) {
	p := &Plan{
		Mode: r.Mode, Level: string(r.Policy.Level.V), User: r.User,
		Command:   Command{Path: r.Path, Argv: r.Argv, Dir: r.Dir, Env: r.Env},
		Workspace: Workspace{Kind: string(r.Policy.Files.Workspace.V), Owner: r.Owner, Group: r.Group, Path: r.Project, Hide: sources(r.Policy.Files.Hide), Protect: sources(r.Policy.Files.Protect)},
		Network:   Network{Kind: NoNetwork},
		Landlock:  Rules{ABI: r.ABI},
	}
	if errs := policy.NotInThisVersion(r.Policy); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	for _, l := range r.Limits {
		p.Limits = append(p.Limits, Limit{Name: l.Name, Value: l.Value, By: l.By, Strength: string(l.Strength), Origin: limitOrigin(r.Policy, l.Name)})
	}
	if err := p.network(r); err != nil {
		return nil, err
	}
	if err := p.secrets(r); err != nil {
		return nil, err
	}
	if err := p.logins(r); err != nil {
		return nil, err
	}
	var err error
	if r.Mode == Landlock {
		err = p.withoutNamespaces(r)
	} else {
		p.Namespaces = []string{"user", "mount", "pid", "network", "ipc", "uts", "cgroup"}
		err = p.withNamespaces(r)
	}
	if err != nil {
		return nil, err
	}
	p.openings(r)
	p.Guarantees = guarantees(p, r.Limits)
	p.Workspace.Mirror = mirror(p)
	return p, p.required(r.Policy)
}

func sources(values []policy.Value[string]) []Source {
	list := make([]Source, len(values))
	for i, v := range values {
		list[i] = Source{v.V, v.Origin.String()}
	}
	return list
}

func limitOrigin(p *policy.Policy, name string) string {
	origins := map[string]policy.Origin{
		"memory": p.Limits.Memory.Origin, "pids": p.Limits.Pids.Origin, "cpu": p.Limits.CPUs.Origin, "disk": p.Limits.Disk.Origin,
		"time": p.Limits.Time.Origin, "idle": p.Limits.Idle.Origin,
	}
	return origins[name].String()
}

// withNamespaces lays out the view: an empty root, the host's tool chain read-only, a home and a /tmp of the sandbox's own, the project.
func (p *Plan) withNamespaces(r Request) error {
	for _, t := range r.System {
		p.tree(t)
	}
	p.mount(Mount{Kind: Bind, Source: r.Etc, Target: "/etc"})
	p.mount(Mount{Kind: Proc, Target: "/proc"})
	p.mount(Mount{Kind: Devices, Target: "/dev", Size: share(r.Set.Memory)})
	p.mount(Mount{Kind: Tmpfs, Target: "/tmp", Size: share(r.Set.Memory), Perm: 0o1777, Writable: true})
	p.mount(Mount{Kind: Tmpfs, Target: "/run", Size: 1 << 20, Perm: 0o755, Writable: true})
	if r.Home != "" {
		p.mount(Mount{Kind: Bind, Source: r.Home, Target: r.User.Home, Writable: true})
	} else {
		p.mount(Mount{Kind: Tmpfs, Target: r.User.Home, Size: share(r.Set.Memory), Perm: 0o755, Writable: true})
	}
	for _, t := range r.Tools {
		p.tree(t)
	}
	p.trust(r)
	p.agent(r)
	if err := p.workspace(r); err != nil {
		return err
	}
	if err := p.extra(r); err != nil {
		return err
	}
	if err := p.caches(r); err != nil {
		return err
	}
	p.variableTmp(r)
	slices.SortStableFunc(p.Mounts, func(a, b Mount) int { return cmp.Compare(a.Target, b.Target) })
	p.Landlock.read("/")
	p.Landlock.write("/dev/shm")
	for _, m := range p.Mounts {
		if m.Writable {
			p.Landlock.write(m.Target)
		}
	}
	return nil
}

// variableTmp makes /var/tmp a link to /tmp, and a directory of its own where something is to be shown below it: mounting follows no links.
func (p *Plan) variableTmp(r Request) {
	if slices.ContainsFunc(p.Mounts, func(m Mount) bool { return strings.HasPrefix(m.Target, "/var/tmp/") }) {
		p.mount(Mount{Kind: Tmpfs, Target: "/var/tmp", Size: share(r.Set.Memory), Perm: 0o1777, Writable: true})
		return
	}
	p.mount(Mount{Kind: Symlink, Source: "../tmp", Target: "/var/tmp"})
}

// share is how much of the memory limit one file system in memory may take. What is in it counts against the limit as well.
func share(memory int64) int64 {
	if memory == 0 {
		return 1 << 30
	}
	return memory / 2
}

func (p *Plan) mount(m Mount) { p.Mounts = append(p.Mounts, m) }

func (p *Plan) tree(t Tree) {
	if slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Target == t.Target }) {
		return
	}
	if t.Link {
		p.mount(Mount{Kind: Symlink, Source: t.Source, Target: t.Target, Origin: t.Why})
		return
	}
	p.mount(Mount{Kind: Bind, Source: t.Source, Target: t.Target, File: t.File, Origin: t.Why})
	for _, h := range t.Hide {
		p.mount(Mount{Kind: Bind, Source: "/dev/null", Target: h, File: true, Empty: true}) // yarn 1 ends where a file of npm's is there and cannot be read
	}
}

// Scratch is where a command without a project works.
const Scratch = "/work"

func (p *Plan) workspace(r Request) error {
	switch r.Policy.Files.Workspace.V {
	case policy.Scratch:
		p.Workspace.By, p.Workspace.Path = "tmpfs", ""
		p.Command.Dir = Scratch
		p.mount(Mount{Kind: Tmpfs, Target: Scratch, Size: share(r.Set.Memory), Perm: 0o755, Writable: true})
		return nil
	case policy.ReadOnly:
		if r.Mask == "" || r.Layer == "" {
			p.Workspace.By = "copy"
			p.mount(Mount{Kind: Bind, Source: r.Copy, Target: r.Project})
			return nil
		}
		p.Workspace.By = "overlay"
		p.mount(Mount{Kind: Overlay, Source: r.Project, Target: r.Project, Mask: r.Mask, Layer: r.Layer, ReadOnly: true})
	case policy.Held:
		if r.Copy != "" {
			p.Workspace.By = "copy"
			p.mount(Mount{Kind: Bind, Source: r.Copy, Target: r.Project, Writable: true})
			break
		}
		p.Workspace.By = "overlay"
		p.Syscalls.Rename = true
		p.mount(Mount{Kind: Overlay, Source: r.Project, Target: r.Project, Mask: r.Mask, Layer: r.Layer, Writable: true})
		p.Mounts = append(p.Mounts, r.Git...)
	case policy.Live:
		p.Workspace.By = "bind"
		p.mount(Mount{Kind: Bind, Source: r.Project, Target: r.Project, Writable: true})
		for _, m := range r.Live {
			p.mount(m)
		}
	default:
		return fmt.Errorf("bug: workspace %q", r.Policy.Files.Workspace.V)
	}
	return nil
}

// extra adds what the policy opens or narrows beyond the project as a whole.
func (p *Plan) extra(r Request) error {
	files := r.Policy.Files
	for _, v := range files.Read {
		source := Expand(v.V, r.Host)
		if within(r.Project, source) && r.Project != "" {
			return fmt.Errorf("files.read (%s): %q contains the project, so it would show what is hidden in it: name a directory beside the project", v.Origin, v.V)
		}
		p.mount(Mount{Kind: Bind, Source: source, Target: source, Origin: v.Origin.String()})
	}
	if p.Workspace.Path == "" {
		return nil
	}
	for _, v := range files.Write {
		target := path.Join(r.Project, v.V)
		p.mount(Mount{Kind: Bind, Source: target, Target: target, Origin: v.Origin.String(), Writable: true})
	}
	if len(files.Write) > 0 && files.Workspace.V == policy.Held {
		p.Mounts = append(p.Mounts, r.Live...)
		p.Notes = append(p.Notes, "in what is written through, hidden and protected files that exist are covered; protected ones that appear are taken back a moment later, and hidden ones that the host makes during the run can be read")
	}
	p.readonly(r)
	return nil
}

// Expand resolves a path of the policy that begins with "~/".
func Expand(p, home string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		return path.Join(home, rest)
	}
	return p
}

// within says whether inner is outer or below it.
func within(inner, outer string) bool {
	return inner == outer || outer == "/" || strings.HasPrefix(inner, outer+"/")
}

// openings lists every hole and the line that made it.
func (p *Plan) openings(r Request) {
	add := func(origin, format string, args ...any) {
		p.Openings = append(p.Openings, Opening{fmt.Sprintf(format, args...), origin})
	}
	for _, m := range p.Mounts {
		if m.Kind == Bind && m.Origin != "" {
			verb := "read"
			if m.Writable {
				verb = "write through to the host"
			}
			add(m.Origin, "%s %s", verb, m.Target)
		}
	}
	for _, c := range r.Caches {
		add(c.Mount.Origin, "begin with your cache of %s (%s): %s is read; what is written stays in this project's sandboxes", c.Name, c.What, c.Mount.Source)
	}
	for _, a := range p.Network.Allow {
		add(a.Origin, "reach %s%s", a, a.requests())
	}
	if p.Network.Kind == Gate {
		for _, s := range p.Secrets {
			add(s.Origin, "%s", s.use())
		}
	}
	for _, l := range p.SSH {
		add(l.Origin, "%s", l.use())
	}
	for _, v := range r.Policy.Network.Publish {
		if v.V.Auto {
			add(v.Origin.String(), "offer each port that opens inside on the host's loopback")
			continue
		}
		add(v.Origin.String(), "offer port %d on the host's loopback as %d", v.V.Inside, v.V.Host)
	}
	for _, n := range p.Network.Internal {
		add(n.Origin, "reach the sandboxes on the internal network %s, and be reached by them", n.Value)
	}
	for _, v := range r.Policy.Network.HostPorts {
		add(v.Origin.String(), "reach port %d of the host's loopback", v.V)
	}
	if p.Mode == Landlock {
		for _, t := range r.Tools {
			if !t.Link && t.Why != "" {
				add(t.Why, "read %s", t.Source)
			}
		}
		for _, v := range r.Policy.Files.Read {
			add(v.Origin.String(), "read %s", Expand(v.V, r.Host))
		}
	}
	if p.Workspace.Kind == string(policy.Live) {
		add(r.Policy.Files.Workspace.Origin.String(), "write in the project at once")
	}
	for _, v := range r.Policy.Env.Pass {
		if v.Origin.Tier != policy.LevelTier {
			add(v.Origin.String(), "environment variable %s", v.V)
		}
	}
	for _, v := range r.Policy.AllowFallback {
		add(v.Origin.String(), "weaker mode %s where namespaces cannot be had", v.V)
	}
}

// Missing says that the policy requires a guarantee which is not enforced here.
type Missing struct {
	Guarantee
	Origin string
}

func (m *Missing) Error() string {
	return fmt.Sprintf("require (%s): %s is %s here, not enforced (%s)", m.Origin, m.Name, m.State, m.By)
}

// Hint names the way out.
func (m *Missing) Hint() string {
	return "casemate doctor says what is missing and how to get it; or take the requirement out of the policy"
}

// required refuses a plan without the guarantees that the policy demands.
func (p *Plan) required(pol *policy.Policy) error {
	for _, v := range pol.Require {
		i := slices.IndexFunc(p.Guarantees, func(g Guarantee) bool { return g.Name == v.V })
		if i < 0 {
			return fmt.Errorf("require (%s): %s is not set", v.Origin, v.V)
		}
		if g := p.Guarantees[i]; g.State != Enforced {
			return &Missing{g, v.Origin.String()}
		}
	}
	return nil
}
