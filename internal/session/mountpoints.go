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
	root, err := openOwn(unix.AT_FDCWD, home)
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
		there, err := makeRoom(dir, name, wantFile)
		if err != nil {
			return err
		}
		if wantFile {
			return makeFile(dir, name, there, user)
		}
		if !there {
			if err := unix.Mkdirat(dir, name, 0o755); err != nil && err != unix.EEXIST {
				return err
			}
		}
		next, err := openOwn(dir, name)
		if err != nil {
			return err
		}
		if !there {
			unix.Fchown(next, user.UID, user.GID)
		}
		unix.Close(dir)
		dir = next
	}
	return nil
}

// makeFile makes the file that is mounted on. One that is there is not opened: it is covered whatever it holds and forbids.
func makeFile(dir int, name string, there bool, user plan.User) error {
	if there {
		return nil
	}
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == unix.EEXIST {
		return fmt.Errorf("another run has just made %q", name)
	}
	if err != nil {
		return err
	}
	unix.Fchown(fd, user.UID, user.GID)
	return unix.Close(fd)
}

// openOwn opens a directory of the sandbox's own, following no link, after giving its owner the rights that a run may have taken from it.
func openOwn(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.EACCES {
		if err := unlock(dir, name); err != nil {
			return -1, err
		}
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Mode&0o700 != 0o700 { // root may look into it, and the sandbox's user may not
		unix.Fchmod(fd, st.Mode&0o7777|0o700)
	}
	return fd, nil
}

func unlock(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o700) // fchmod(2) does not take such a descriptor
}

// makeRoom makes room for a directory (or a file): what a run has left there under the name is put aside if it may hold data, and removed if it is
// a link, a fifo or a socket. It says whether one is there already.
func makeRoom(dir int, name string, wantFile bool) (there bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
		return false, nil
	} else if err != nil {
		return false, err
	}
	want := uint32(unix.S_IFDIR)
	if wantFile {
		want = unix.S_IFREG
	}
	switch st.Mode & unix.S_IFMT {
	case want:
		return true, nil
	case unix.S_IFDIR:
		if unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) == nil {
			return false, nil
		}
		if st.Mode&0o700 != 0o700 { // to move a directory is to write to it
			fd, err := openOwn(dir, name)
			if err != nil {
				return false, err
			}
			unix.Close(fd)
		}
		return false, putAside(dir, name)
	case unix.S_IFREG:
		return false, putAside(dir, name)
	}
	return false, unix.Unlinkat(dir, name, 0)
}

// putAside gives an entry another name beside its own.
func putAside(dir int, name string) error {
	for i := 1; ; i++ {
		err := unix.Renameat2(dir, name, dir, fmt.Sprintf("%s.put-aside-%d", name, i), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST || i == 1000 {
			return err
		}
	}
}
