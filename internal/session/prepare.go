package session

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/cache"
	"casemate.dev/internal/event"
	"casemate.dev/internal/guest"
	"casemate.dev/internal/history"
	"casemate.dev/internal/host"
	"casemate.dev/internal/limits"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// Options are what a command line asks for beyond the policy.
type Options struct {
	Flags    policy.Flags
	Command  []string
	Fresh    bool   // do not go on with the project's kept layer
	Name     string // by which others reach it while it runs; empty: its id
	Sandbox  string // the kept sandbox to go on with; empty: the project's newest
	Terminal bool   // the command gets a terminal
	Copy     bool   // hold changes in a copy of the project, not in an overlay
	DryRun   bool   // only the plan is wanted: nothing is created
	Attended bool   // a person sits at the terminal
	AskAgain bool   // whatever was answered before
	Answered bool   // what was answered before holds, although nobody sits there
	Login    string // whether an agent uses the person's login: LoginYes, LoginNo, LoginAsk, or empty: as they answered once

	Umask     int  // the command's, where casemate has another itself
	Meanwhile bool // standard error is a terminal, on which the person may be told something while the command runs

	Ask      func() (policy.Workspace, bool)   // asks how an agent shall see the project; nil: nobody is asked
	AskLogin func(agent string) (yes, ok bool) // asks whether it may use the person's login
	Progress func(string)                      // says what takes long; may be nil
}

// Run is one run, prepared: everything is decided and nothing has happened yet.
type Run struct {
	Person   Person
	Options  Options
	Policy   *policy.Policy
	Facts    host.Facts
	Offers   limits.Facts // what the machine offers for limits
	Set      limits.Set
	Plan     *plan.Plan
	Box      *store.Sandbox // nil for a dry run
	Kept     bool           // the layer of an earlier run goes on
	began    bool           // the command may have run
	unlooked error          // why what the layer holds could not be looked at: it is kept
	Store    *store.Store
	Notices  []string // for the person, before the start
	Taken    []string // what appeared in a live project and was taken out of it
	Denials  []Denial // what the command tried and could not reach
	Project  string

	state     string      // where the store's directory really lies
	tiers     *Tiers      // what the policy was merged from
	ruledBy   string      // the directory whose project policy applies, also where none of it is seen
	found     unix.Stat_t // the project's directory
	events    []event.Event
	mounted   time.Time
	etc       *guest.Tree
	trusted   *trusted // nil where no TLS is opened
	verifiers []string // variables by which the gate verifies hosts there

	placeholders map[string]string // by the secret's name, once the run begins
	withdrawn    map[int]bool      // logins that the policy names no more

	hide     *policy.Paths
	masked   *workspace.Mask
	surveyed *workspace.Survey // of the project, whichever way it was looked through

	agents []preset.Found // whose presets hold

	cached *cache.Set // what the project's sandboxes have added to caches; nil without any

	undoable *undoable // of a live workspace
	unkept   []history.Unkept

	guarded *cover   // of what is written directly: what must not appear in it
	roots   []string // where it is watched for
}

// Refusal is an error that names what is missing and the way out.
type Refusal struct {
	Err    error
	Remedy string
}

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Hint is the remedy.
func (r *Refusal) Hint() string { return r.Remedy }

// Prepare decides everything about a run.
func Prepare(p Person, o Options) (*Run, error) {
	facts := host.Quick()
	r := &Run{Person: p, Options: o, Facts: facts, Offers: limits.Detect(p.UID, !facts.AtLeast(5, 14))}
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if o.Umask&0o100 != 0 { // what the sandbox is made of could not be entered
		return nil, &Refusal{fmt.Errorf("the umask is %04o: nobody could enter the directories that the command makes, nor those of its sandbox", o.Umask), "umask 077 keeps others out, and not you"}
	}
	r.Project = p.FindProject()
	tiers, err := p.Load(r.Project, o.Flags)
	if err != nil {
		return nil, err
	}
	command := ""
	if len(o.Command) > 0 {
		command = o.Command[0]
	}
	agents, notices, err := p.addPresets(tiers, r.Project, command, r.useLogin)
	if err != nil {
		return nil, err
	}
	r.agents, r.Notices = agents, append(r.Notices, notices...)
	if err = r.merge(tiers); err != nil {
		return nil, err
	}
	if errs := policy.NotInThisVersion(r.Policy); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r.tiers, r.ruledBy = tiers, r.Project
	r.untrusted(tiers)
	r.tellAgents()
	mode, err := r.mode()
	if err != nil {
		return nil, err
	}
	if r.Store, err = store.Open(p.StateHome, p.Home); err != nil {
		return nil, err
	}
	r.state = followed(r.Store.Root)
	if err := r.checkReads(); err != nil {
		return nil, err
	}
	req := plan.Request{Policy: r.Policy, Mode: mode, ABI: r.Facts.Landlock, Argv: o.Command, Host: p.Home, Now: time.Now()}
	req.IPv6 = r.Policy.Network.Opens() && exists("/proc/net/if_inet6")
	if r.Policy.Files.Workspace.V != policy.Scratch {
		if err := r.checkProject(); err != nil {
			return nil, err
		}
		if err := r.checkLogin(); err != nil {
			return nil, err
		}
		if err := r.checkWrites(mode); err != nil {
			return nil, err
		}
		req.Project, req.Dir = r.Project, p.Dir
	} else {
		r.Project = ""
	}
	if err := r.identify(&req); err != nil {
		return nil, err
	}
	if err := r.limit(&req); err != nil {
		return nil, err
	}
	if err := r.place(&req); err != nil {
		r.Abandon()
		return nil, err
	}
	if err := r.readonly(&req); err != nil {
		r.Abandon()
		return nil, err
	}
	if err := r.view(&req); err != nil {
		r.Abandon()
		return nil, err
	}
	if err := r.agentDir(&req); err != nil {
		r.Abandon()
		return nil, err
	}
	if err := r.agentsHome(&req); err != nil {
		r.Abandon()
		return nil, err
	}
	if err := r.caches(&req); err != nil {
		r.Abandon()
		return nil, err
	}
	if r.Plan, err = plan.Make(req); err != nil {
		r.Abandon()
		return nil, err
	}
	if err := pin(r.Plan, o.DryRun); err != nil {
		r.Abandon()
		return nil, err
	}
	if mode == plan.Landlock && !o.DryRun {
		if err := r.linkHome(&req); err != nil {
			r.Abandon()
			return nil, err
		}
	}
	for _, n := range r.Plan.Notes {
		if (strings.HasPrefix(n, "ssh ") || strings.HasPrefix(n, "files.readonly (")) && !o.DryRun { // whoever names a key wants to log in, and a path, that it is there
			r.notice("%s", n)
		}
	}
	if r.Plan.Network.Ask && !o.DryRun && !r.Store.Watched() {
		r.notice("it asks in casemate watch on a second terminal; while nobody watches, what no rule allows is denied")
	}
	return r, nil
}

func (r *Run) notice(format string, args ...any) {
	r.Notices = append(r.Notices, fmt.Sprintf(format, args...))
}

func (r *Run) untrusted(t *Tiers) {
	for _, w := range r.Policy.Overruled {
		r.notice("%s: %s %s has no effect: %s", w.Origin, w.Key, w.Text, w.Why)
	}
	if len(r.Policy.Ignored) == 0 {
		return
	}
	var lines []string
	for _, w := range r.Policy.Ignored {
		lines = append(lines, w.Key)
	}
	r.notice("%s would widen %s; nobody has approved that, so it has no effect (casemate trust shows the lines)", PolicyFile, strings.Join(slices.Compact(lines), ", "))
}

// mode chooses how to confine here, and fails closed.
func (r *Run) mode() (plan.Mode, error) {
	// A structure of no size is refused by every kernel that has the call (openat2(2), EINVAL), and nothing is opened.
	if _, _, err := unix.RawSyscall6(unix.SYS_OPENAT2, 0, 0, 0, 0, 0, 0); err != unix.EINVAL {
		return "", &Refusal{fmt.Errorf("no sandbox can be made here: openat2 is refused (%v), as it is with namespaces inside another sandbox", err), "run casemate outside of other sandboxes, on Linux 5.12 or newer"}
	}
	ok, cause, remedy := r.Facts.UserNamespaces()
	if os.Getenv("CASEMATE_TEST_NO_USERNS") != "" {
		ok, cause, remedy = false, "CASEMATE_TEST_NO_USERNS is set", "unset it"
	}
	switch {
	case ok && r.Facts.EUID == 0:
		return plan.Root, nil
	case ok:
		return plan.Rootless, nil
	case r.fallbackAllowed():
		return plan.Landlock, r.weaken(cause)
	}
	return "", &Refusal{fmt.Errorf("no sandbox can be made here: %s", cause), remedy + "\nor accept a weaker sandbox by a word: --allow-fallback landlock (casemate plan --allow-fallback landlock lists what it does not promise)"}
}

func (r *Run) fallbackAllowed() bool {
	return slices.ContainsFunc(r.Policy.AllowFallback, func(v policy.Value[string]) bool { return v.V == string(plan.Landlock) })
}

func (r *Run) weaken(cause string) error {
	if r.Facts.Landlock == 0 {
		return &Refusal{errors.New("the fallback needs Landlock, which this kernel lacks or has switched off"), "boot with lsm=landlock,... on the kernel's command line (Linux 5.13 or newer)"}
	}
	if r.Facts.EUID == 0 {
		return &Refusal{errors.New("the fallback cannot hold root: without a user namespace uid 0 keeps its power over files"), "run casemate as an ordinary user"}
	}
	r.notice("weaker sandbox: Landlock without namespaces, because %s; casemate plan lists what it does not promise", cause)
	r.events = append(r.events, event.Event{Kind: event.Weakened, Subject: "namespaces", Rule: r.Policy.AllowFallback[0].Origin.String(), Detail: cause})
	return nil
}

// identify chooses who the command is. Started as root it is the project's owner, or a user that nobody is: never root outside.
func (r *Run) identify(req *plan.Request) error {
	req.User = plan.User{UID: r.Person.UID, GID: r.Person.GID, Name: r.Person.Name, Home: r.Person.Home}
	req.Owner, req.Group = r.Person.UID, r.Person.GID
	if r.Project != "" {
		st := &r.found
		if err := unix.Stat(r.Project, st); err != nil {
			return fmt.Errorf("project %q: %w", r.Project, err)
		}
		if r.Facts.EUID == 0 {
			req.Owner, req.Group = int(st.Uid), int(st.Gid)
			req.User.UID, req.User.GID = req.Owner, req.Group
		}
	}
	if req.User.UID == 0 {
		req.User.UID, req.User.GID = nobodyElse, nobodyElse
	}
	return nil
}

// nobodyElse is the user and group of sandboxes that root makes over its own files: above every range that distributions give out, and
// below those that nobody and containers use.
const nobodyElse = 65300

// limit resolves the limits.
func (r *Run) limit(req *plan.Request) error {
	var fs unix.Statfs_t
	free := int64(0)
	if unix.Statfs(r.Store.Root, &fs) == nil {
		free = int64(fs.Bavail) * fs.Bsize
	}
	d := limits.Defaults(r.Offers.Memory, free, r.Options.Terminal)
	l := r.Policy.Limits
	r.Set = limits.Set{
		Memory: int64(l.Memory.Or(policy.Size(d.Memory))), Disk: int64(l.Disk.Or(policy.Size(d.Disk))), Pids: l.Pids.Or(d.Pids), CPUs: l.CPUs.Or(d.CPUs),
		Time: duration(l.Time.Or(d.Time)), Idle: duration(l.Idle.Or(d.Idle)),
	}
	req.Set, req.Limits = r.Set, limits.By(r.Offers, r.Set)
	if req.Mode == plan.Landlock { // see watchFallback
		for i, l := range req.Limits {
			if l.Strength == limits.Watched && l.Name == "memory" || l.Name == "idle" && l.Value != "none" {
				req.Limits[i].Strength, req.Limits[i].By = limits.Unheld, "needs a pid namespace or a cgroup"
			}
			if l.Name == "pids" && strings.HasPrefix(l.By, "RLIMIT_NPROC") {
				req.Limits[i].By = "RLIMIT_NPROC, which counts the user's other processes too: as many more than there are at the start"
			}
		}
	}
	return nil
}

// Explain lists every value that holds. What a project that nobody trusts says about a limit holds only where it is less than this machine's default.
func (r *Run) Explain() []policy.Effective {
	l := r.Policy.Limits
	cut := map[string]bool{
		"memory": l.Memory.AtMost && int64(l.Memory.V) > r.Set.Memory, "disk": l.Disk.AtMost && int64(l.Disk.V) > r.Set.Disk,
		"time": l.Time.AtMost && r.Set.Time > 0 && l.Time.V > r.Set.Time,
	}
	values := r.Policy.Explain()
	for i := range values {
		v := &values[i]
		if name, ok := strings.CutPrefix(v.Key, "limits."); ok && cut[name] {
			v.Value, v.From = r.limit0(name), fmt.Sprintf("this machine's default: nobody has approved the %s of %s", v.Value, v.From)
		}
	}
	return values
}

func duration(d time.Duration) time.Duration {
	if d == policy.Unlimited {
		return 0
	}
	return d
}

// pin records what every source is now; the engine refuses to mount anything else in its place.
func pin(p *plan.Plan, dry bool) error {
	if p.Mode == plan.Landlock {
		pinRules(p)
	}
	files := map[string]bool{}
	for i := range p.Mounts {
		m := &p.Mounts[i]
		if m.Kind != plan.Bind && m.Kind != plan.Overlay || m.Self || m.Source == "/dev/null" {
			continue
		}
		var st unix.Stat_t
		err := unix.Lstat(m.Source, &st)
		if p.Workspace.Path != "" && m.Source != p.Workspace.Path && within(m.Source, p.Workspace.Path) {
			err = statBeneath(p.Workspace.Path, m.Source, &st)
		}
		if err == unix.ENOENT && dry {
			continue // the first run will make it
		} else if err != nil {
			return fmt.Errorf("%s: %w", m.Source, err)
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			m.File = false
		case unix.S_IFREG:
			m.File = true
		default:
			return &Refusal{fmt.Errorf("%s is neither a directory nor a regular file", m.Source), "name the place that it leads to"}
		}
		m.Dev, m.Ino = uint64(st.Dev), st.Ino
		files[m.Target] = m.File
	}
	if p.Mode != plan.Landlock {
		for i, r := range p.Landlock.Allow {
			p.Landlock.Allow[i].File = files[r.Path]
		}
	}
	return nil
}

// statBeneath looks at a path of the project without following any link: the repository or an agent could have laid one that leads out. The
// engine mounts nothing but the inode that was found here.
func statBeneath(project, path string, st *unix.Stat_t) error {
	root, err := unix.Open(project, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, strings.TrimPrefix(path, project+"/"), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, st)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Abandon gives up a prepared run: a sandbox that never held anything disappears.
func (r *Run) Abandon() {
	if r.Box != nil && !r.Kept {
		discard(r.Box)
	}
	r.release()
}

// release gives back what the run holds open.
func (r *Run) release() {
	if r.cached != nil {
		r.cached.End() // once; what is not on the disk then is thrown away should the machine have stopped
		r.cached = nil
	}
	r.trusted.remove()
	if r.Box != nil {
		r.Box.Unlock()
	}
	if r.etc != nil {
		r.etc.Close()
	}
	if r.masked != nil {
		r.masked.Close()
	}
}
