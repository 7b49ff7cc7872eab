package limits

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// leaf is the group into which the supervisor steps so that its own may have controllers (cgroup-v2.rst, No Internal Process Constraint).
const leaf = "supervisor.casemate"

// delegation prepares the v2 group beneath which the sandbox's is made and returns its path, or "" where v2 holds no limit.
func (g *Group) delegation(f Facts, s Set, mkdir func(string) error) (string, error) {
	switch f.source(s) {
	case byV2:
		base := f.root + f.V2.Dir
		return base, g.settle(base, f.V2.Enable, f.V2.Leaf, mkdir)
	case bySystemd:
		base, err := newScope(f, g.name)
		if err != nil {
			return "", fmt.Errorf("systemd gave us no control group: %w", err)
		}
		return base, g.settle(base, f.Systemd.Controllers, true, mkdir)
	}
	return "", nil
}

// source is the mechanism beyond v1 that s needs, if any. There is never a mixture of the two: systemd is a fact only where own groups
// cannot hold the default limits.
func (f *Facts) source(s Set) way {
	most := byNothing
	for _, c := range wanted() {
		if w := f.way(c); w > byV1 && needs(c, s) {
			most = max(most, w)
		}
	}
	return most
}

// needs says whether s makes a group of that controller necessary. That of cpu always is one: being a group is what gives a fair share.
func needs(controller string, s Set) bool {
	switch controller {
	case "memory":
		return s.Memory > 0
	case "pids":
		return s.Pids > 0
	}
	return true
}

// settle makes base able to have groups with controllers.
func (g *Group) settle(base string, enable []string, step bool, mkdir func(string) error) error {
	if len(enable) == 0 {
		return nil
	}
	if step {
		g.vacant = base
		if err := mkdir(base + "/" + leaf); err != nil && err != unix.EEXIST {
			return fmt.Errorf("make the control group %q: %w", base+"/"+leaf, err)
		}
		if err := write(base+"/"+leaf+"/cgroup.procs", "0"); err != nil {
			return err
		}
	}
	if err := write(base+"/cgroup.subtree_control", "+"+strings.Join(enable, " +")); err != nil {
		return err
	}
	g.added = enable
	return nil
}

// comeBack undoes settle: a group with controllers cannot be entered, so they go first.
func (g *Group) comeBack() error {
	if g.vacant == "" {
		return nil
	}
	if len(g.added) > 0 {
		if err := write(g.vacant+"/cgroup.subtree_control", "-"+strings.Join(g.added, " -")); err != nil {
			return err
		}
	}
	if err := write(g.vacant+"/cgroup.procs", "0"); err != nil {
		return err
	}
	return removeAll([]string{g.vacant + "/" + leaf})
}

// newScope asks systemd for a scope with this process in it, delegated to us, and returns its directory. The scope ends with its last process.
func newScope(f Facts, name string) (string, error) {
	unit := name + ".scope"
	if err := startScope(f.root+f.Systemd.Socket, f.UID, unit, os.Getpid()); err != nil {
		return "", err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if dir, ok := ownV2(f.root); ok && strings.HasSuffix(dir, "/"+unit) {
			return f.root + dir, usable(f.root+dir, f.Systemd.Controllers)
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("the scope %q did not start within %v", unit, patience)
		}
	}
}

// ownV2 is our own directory in the v2 tree as it is now.
func ownV2(root string) (string, bool) {
	mountinfo, err := read(root + "/proc/self/mountinfo")
	own, err2 := read(root + "/proc/self/cgroup")
	if err != nil || err2 != nil {
		return "", false
	}
	return place(parseMounts(mountinfo), parseMemberships(own), "")
}

// usable checks that systemd delegated what the plan says.
func usable(dir string, controllers []string) error {
	has, err := words(dir + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, c := range controllers {
		if !slices.Contains(has, c) {
			return fmt.Errorf("the controller %s is not delegated to %q", c, dir)
		}
	}
	return nil
}
