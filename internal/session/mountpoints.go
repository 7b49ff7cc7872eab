package session

import (
	"fmt"
	"strings"

	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// mountPoints makes the places in the sandbox's own home that the plan mounts on. What lies below another mount (the project, a tool chain)
// must exist there already.
func mountPoints(p *plan.Plan) error {
	home := ""
	for _, m := range p.Mounts {
		if m.Kind == plan.Bind && m.Target == p.User.Home {
			home = m.Source
		}
	}
	if home == "" {
		return nil
	}
	root, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("home of the sandbox: %w", err)
	}
	defer unix.Close(root)
	for i, m := range p.Mounts {
		rel, below := strings.CutPrefix(m.Target, p.User.Home+"/")
		if !below || covered(p.Mounts[:i], p.User.Home, m.Target) {
			continue
		}
		if err := makeBeneath(root, rel, m.File, p.User); err != nil {
			return fmt.Errorf("place for %s in the home of the sandbox: %w", m.Target, err)
		}
	}
	return nil
}

// covered says whether the target lies on a mount that is itself in the home.
func covered(earlier []plan.Mount, home, target string) bool {
	for _, m := range earlier {
		if within(m.Target, home) && m.Target != home && m.Target != target && within(target, m.Target) {
			return true
		}
	}
	return false
}

func makeBeneath(root int, rel string, file bool, user plan.User) error {
	dir, err := unix.Dup(root)
	if err != nil {
		return err
	}
	defer func() { unix.Close(dir) }()
	parts := strings.Split(rel, "/")
	for i, name := range parts {
		wantFile := file && i == len(parts)-1
		if err := inTheWay(dir, name, wantFile); err != nil {
			return err
		}
		if wantFile {
			fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return err
			}
			unix.Fchown(fd, user.UID, user.GID)
			unix.Close(fd)
			return nil
		}
		made := unix.Mkdirat(dir, name, 0o755)
		next, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if made == nil {
			unix.Fchown(next, user.UID, user.GID)
		}
		unix.Close(dir)
		dir = next
	}
	return nil
}

// inTheWay removes an entry that is no directory (or no file) where one is needed.
func inTheWay(dir int, name string, wantFile bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil
	}
	want := uint32(unix.S_IFDIR)
	if wantFile {
		want = unix.S_IFREG
	}
	if st.Mode&unix.S_IFMT == want {
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	return unix.Unlinkat(dir, name, 0)
}
