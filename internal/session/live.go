package session

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// live lays mounts over the hidden and protected paths that exist in a live workspace. A mount over a path falls when one of its parents
// can be renamed, so every directory between it and the project's root becomes a mount point of its own.
func (r *Run) live(req *plan.Request) error {
	hide, err := policy.CompilePaths(hidePatterns(r.Policy.Files))
	if err != nil {
		return err
	}
	survey, err := r.survey(req, hide)
	if err != nil {
		return err
	}
	if err := r.liveGit(); err != nil {
		return err
	}
	c, err := r.cover(survey, hide)
	if err != nil {
		return err
	}
	if err := filepath.WalkDir(r.Project, c.visit); err != nil {
		return fmt.Errorf("look through the project: %w", err)
	}
	if err := c.reachable(); err != nil {
		return err
	}
	r.roots = []string{"."}
	if len(c.mounts) > maxLive {
		return &Refusal{fmt.Errorf("a live workspace of this project would need %d mounts, and at most %d are made", len(c.mounts), maxLive), "use a held workspace, which needs one: --workspace held"}
	}
	req.Live, r.guarded = c.mounts, c
	return nil
}

// reachable refuses what cannot be covered, as no path leads to it: a sandbox can leave a tree deeper than any path can be long.
func (c *cover) reachable() error {
	for _, m := range c.mounts {
		if len(m.Target) >= unix.PathMax {
			rel, _ := filepath.Rel(c.project, m.Target)
			top, _, _ := strings.Cut(rel, "/")
			return &Refusal{fmt.Errorf("%s holds directories deeper than a path can be long, and what is to be hidden there cannot be covered", workspace.Quote(top)), "remove it with rm -r, or hold the changes instead: --workspace held"}
		}
	}
	return nil
}

// checkWrites refuses what cannot be mounted to be written through: what is not there, and what a link leads to, as that could be anywhere.
func (r *Run) checkWrites(mode plan.Mode) error {
	if mode == plan.Landlock { // where nothing is written through
		return nil
	}
	for _, v := range r.Policy.Files.Write {
		place := filepath.Join(r.Project, v.V)
		var st unix.Stat_t
		switch err := statBeneath(r.Project, place, &st); err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR:
			return &Refusal{fmt.Errorf("files.write (%s): %s does not exist", v.Origin, workspace.Quote(v.V)), "make it first (mkdir " + workspace.Quote(place) + "), or leave it out"}
		case unix.ELOOP:
			return &Refusal{fmt.Errorf("files.write (%s): %s is or lies behind a symbolic link", v.Origin, workspace.Quote(v.V)), "name the place that it leads to, or leave it out"}
		default:
			return fmt.Errorf("files.write (%s): %s: %w", v.Origin, workspace.Quote(v.V), err)
		}
	}
	return nil
}

// writeThrough lays the same mounts over what is hidden and protected in the parts of a held project that are written through.
func (r *Run) writeThrough(req *plan.Request) error {
	c, err := r.cover(r.surveyed, r.hide)
	if err != nil {
		return err
	}
	c.links = map[string][sha256.Size]byte{}
	for _, v := range r.Policy.Files.Write {
		rel := path.Clean(v.V)
		if _, protected := c.protected(rel); protected || strings.Contains("/"+rel+"/", "/.git/") {
			return &Refusal{fmt.Errorf("files.write (%s): %q is executed by the host or belongs to git, and cannot be written through", v.Origin, v.V), "name a directory of results, such as ./generated"}
		}
		if err := filepath.WalkDir(filepath.Join(r.Project, rel), c.visit); err != nil {
			return fmt.Errorf("files.write (%s): %w", v.Origin, err)
		}
		r.roots = append(r.roots, rel)
	}
	req.Live, r.guarded = c.mounts, c
	return nil
}

// cover knows what of a project is hidden and protected where it is written directly.
func (r *Run) cover(survey *workspace.Survey, hide *policy.Paths) (*cover, error) {
	protect, err := policy.CompilePaths(protectPatterns(r.Policy.Files))
	if err != nil {
		return nil, err
	}
	hidden := map[string]bool{}
	for _, h := range survey.Hidden {
		hidden[h.Path] = true
	}
	return &cover{project: r.Project, hide: hide, hidden: hidden, protect: protect, aliases: survey.Aliases, pinned: map[string]bool{}, before: map[string]string{}}, nil
}

// mounted stands for a path that is covered by a mount; no link can lead there.
const mounted = ""

// maxLive bounds the mounts of a live workspace: each costs the start time, and the kernel allows 100,000 in a namespace.
const maxLive = 3000

// cover collects what must be mounted over what is written directly.
type cover struct {
	project string
	hide    *policy.Paths
	hidden  map[string]bool // what the scan found, for whatever reason
	protect *policy.Paths   // the policy's own patterns
	aliases map[string]string
	mounts  []plan.Mount
	pinned  map[string]bool
	links   map[string][sha256.Size]byte // of where the links led that exist in what is written through, which a sandbox may have made; nil in a live workspace
	before  map[string]string            // hidden and protected paths that exist: where a link led, or mounted

	protects string // the protected directory that visit is in; empty before the first
}

// protected says whether the host executes what lies, or would lie, at the path.
func (c *cover) protected(rel string) (why string, ok bool) {
	if why, ok := workspace.Aliased(c.aliases, rel); ok {
		return why, ok
	}
	return workspace.ProtectedPath(rel, c.protect)
}

// guarded says the same of a link, which gives whatever it leads to the names that are below its own.
func (c *cover) guarded(rel string, link bool) bool {
	_, ok := c.protected(rel)
	if !ok && link {
		_, ok = workspace.LeadsToProtected(rel, c.protect, c.aliases)
	}
	return ok
}

func (c *cover) visit(p string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(c.project, p)
	if err != nil || rel == "." {
		return err
	}
	link := d.Type()&fs.ModeSymlink != 0
	if link && c.links != nil {
		target, _ := os.Readlink(p)
		c.links[rel] = sha256.Sum256([]byte(target))
	}
	hidden, _ := c.hide.Match(rel, d.IsDir())
	hidden = hidden || c.hidden[rel]
	if c.protects != "" && within(rel, c.protects) {
		return c.visitProtected(rel, d, hidden && !link)
	}
	switch {
	case link && (hidden || c.guarded(rel, true)):
		c.before[rel], _ = os.Readlink(p) // a mount cannot cover a link; who replaces it makes something new
	case hidden && d.IsDir():
		c.before[rel] = mounted // with all that lies in it: nothing inside reaches it, so nothing there was made inside
		c.over(rel, plan.Mount{Kind: plan.Tmpfs, Size: 4096, Perm: 0o555})
		return fs.SkipDir
	case hidden:
		c.before[rel] = mounted
		c.over(rel, null())
	case d.IsDir() && d.Name() == ".git": // git must work: what it executes, in there, is protected entry by entry
	case c.guarded(rel, false):
		c.before[rel] = mounted
		c.over(rel, plan.Mount{Kind: plan.Bind, Self: true})
		if d.IsDir() {
			c.protects = rel
		}
	}
	return nil
}

// visitProtected sees to what is hidden below a protected directory: the mount over that shows the host's files. Nothing in there can be renamed, so nothing
// above has to be pinned.
func (c *cover) visitProtected(rel string, d fs.DirEntry, hidden bool) error {
	switch {
	case hidden && d.IsDir():
		c.add(rel, plan.Mount{Kind: plan.Tmpfs, Size: 4096, Perm: 0o555})
		return fs.SkipDir
	case hidden:
		c.add(rel, null())
	}
	return nil
}

func null() plan.Mount { return plan.Mount{Kind: plan.Bind, Source: "/dev/null", File: true} }

// over adds a mount and pins what lies above it.
func (c *cover) over(rel string, m plan.Mount) {
	for dir := path.Dir(rel); dir != "." && !c.pinned[dir]; dir = path.Dir(dir) {
		c.pinned[dir] = true
		target := filepath.Join(c.project, dir)
		c.mounts = append(c.mounts, plan.Mount{Kind: plan.Bind, Source: target, Target: target, Self: true, Writable: true})
	}
	c.add(rel, m)
}

func (c *cover) add(rel string, m plan.Mount) {
	m.Target = filepath.Join(c.project, rel)
	if m.Self {
		m.Source = m.Target
	}
	c.mounts = append(c.mounts, m)
}

// survey looks through the project where no mask is prepared, and tells what it found.
func (r *Run) survey(req *plan.Request, hide *policy.Paths) (*workspace.Survey, error) {
	o, err := r.scanOptions(req)
	if err != nil {
		return nil, err
	}
	s, err := workspace.Scan(r.Project, hide, o)
	if err != nil {
		return nil, err
	}
	r.surveyed = s
	r.findings(s)
	return s, nil
}

// scanOptions says for whom the project is looked through.
func (r *Run) scanOptions(req *plan.Request) (workspace.ScanOptions, error) {
	protect, err := policy.CompilePaths(protectPatterns(r.Policy.Files))
	if err != nil {
		return workspace.ScanOptions{}, err
	}
	config := r.Person.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		config = filepath.Join(r.Person.Home, ".config")
	}
	return workspace.ScanOptions{
		UID: uint32(req.Owner), GID: uint32(req.Group), Home: r.Person.Home, State: r.state, Real: true, Protect: protect, Mounts: r.Offers.Mounts,
		GitConfig: []string{filepath.Join(r.Person.Home, ".gitconfig"), filepath.Join(config, "git", "config"), "/etc/gitconfig"},
		Own:       append(r.Person.configuration(), r.keyFiles()...),
	}, nil
}

// configuration is what casemate itself obeys of the person's own.
func (p Person) configuration() []string {
	presets := filepath.Join(p.Config, "presets")
	ssh := filepath.Join(p.Home, ".ssh") // its known hosts say where a key may sign
	list := []string{p.Config, p.policyFile(), p.trustFile(), presets, ssh, filepath.Join(ssh, "known_hosts"), filepath.Join(ssh, "known_hosts2")}
	entries, _ := os.ReadDir(presets)
	for _, e := range entries {
		list = append(list, filepath.Join(presets, e.Name()))
	}
	entries, _ = os.ReadDir(ssh)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".pub") { // and these which key of their agent's is meant
			list = append(list, filepath.Join(ssh, e.Name()))
		}
	}
	return list
}
