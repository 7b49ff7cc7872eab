package enginetest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func fileCases() []Case {
	return slices.Concat(outsideCases(), hiddenCases(), overlayCases(), unreadCases(), procFileCases())
}

// unreadCases reach for a file outside without reading it by its path.
func unreadCases() []Case {
	onCanary := func(id, title string, try func(path string) error) Case {
		return Case{ID: id, Group: "files", Title: title, Guarantee: metadata, Control: Outside, Attack: func(e *Env) Outcome {
			return unless(try(e.Canary), "it")
		}}
	}
	return []Case{
		onCanary("F30.stat", "stat it", func(p string) error { _, err := os.Lstat(p); return err }),
		onCanary("F30.access", "ask for access", func(p string) error { return unix.Access(p, unix.R_OK) }),
		onCanary("F30.chdir", "enter its directory", func(p string) error { return os.Chdir(filepath.Dir(p)) }),
		onCanary("F30.statfs", "ask for its file system", func(p string) error { return unix.Statfs(p, &unix.Statfs_t{}) }),
		onCanary("F30.exec", "execute a program beside it", func(p string) error {
			if out, _ := program("/", filepath.Join(filepath.Dir(p), "tool")); !strings.Contains(out, "casemate-tool-ran") {
				return errors.New(brief(out))
			}
			return nil
		}),

		{ID: "F31.name", Group: "files", Title: "name_to_handle_at", Guarantee: denyRead, Control: Outside, Attack: func(*Env) Outcome {
			_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/etc", 0)
			return unless(err, "name_to_handle_at")
		}},
		{ID: "F31.open", Group: "files", Title: "open_by_handle_at of the root's inode 2", Guarantee: denyRead, Control: AsRoot, Attack: openByHandle},
	}
}

// openByHandle guesses the handle of inode 2, the root of an ext4 or XFS file system (the Shocker exploit).
func openByHandle(*Env) Outcome {
	mount, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return held("%v", err)
	}
	defer unix.Close(mount)
	fd, err := unix.OpenByHandleAt(mount, unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0}), unix.O_RDONLY|unix.O_CLOEXEC)
	if err == nil {
		unix.Close(fd)
		return open("opened inode 2")
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return held("%v", err)
	}
	return open("the kernel looked the handle up: %v", err)
}

// procFileCases are about core files, and the /proc that says where they go.
func procFileCases() []Case {
	return []Case{
		{ID: "F34.limit", Group: "files", Title: "raise the core file limit", Guarantee: noCore, Control: Outside, Attack: func(*Env) Outcome {
			want := unix.Rlimit{Cur: 1, Max: 1}
			if err := unix.Setrlimit(unix.RLIMIT_CORE, &want); err != nil {
				return held("%v", err)
			}
			var got unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_CORE, &got); err != nil || got.Cur == 0 {
				return held("still 0 (%v)", err)
			}
			return open("the limit is %d", got.Cur)
		}},
		{ID: "F34.core", Group: "files", Title: "leave a core file", Guarantee: noCore, Control: None, NoControl: "where core files go is the machine's setting", Attack: func(e *Env) Outcome {
			dir := scratchDir(e)
			out, ok := program(dir, "sh", "-c", "ulimit -c unlimited; kill -SEGV $$")
			if !ok {
				return notRun("%s", out)
			}
			found, _ := filepath.Glob(filepath.Join(dir, "core*"))
			if len(found) > 0 {
				return open("%s", found[0])
			}
			return held("%s", brief(out))
		}},
		{ID: "F34.pattern", Group: "files", Title: "open /proc/sys/kernel/core_pattern for writing", Guarantee: surface, Control: AsRoot, Attack: func(*Env) Outcome {
			return unless(canOpen("/proc/sys/kernel/core_pattern", unix.O_WRONLY), "it")
		}},
		{ID: "F36.type", Group: "files", Title: "/proc is a real proc of the sandbox's own", Guarantee: isolation, Control: Outside, Attack: func(e *Env) Outcome {
			var st unix.Statfs_t
			if err := unix.Statfs("/proc", &st); err != nil {
				return held("no /proc: %v", err)
			}
			if st.Type != unix.PROC_SUPER_MAGIC {
				return open("/proc is of type %#x", st.Type)
			}
			if link, err := os.Readlink("/proc/self/ns/pid"); err == nil && link == e.HostNS["pid"] {
				return open("it shows the host's processes: %s", link)
			}
			return held("proc of an own pid namespace")
		}},
	}
}

// scratchDir is somewhere the attack may write: the case's directory, else a temporary one.
func scratchDir(e *Env) string {
	if e.hasDir() {
		return e.dir()
	}
	dir, err := os.MkdirTemp("", "attack")
	if err != nil {
		return os.TempDir()
	}
	return dir
}

// readAt reads path below the open directory.
func (e *Env) readAt(dir int, path string) Outcome {
	fd, err := unix.Openat(dir, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return held("openat: %v", err)
	}
	defer unix.Close(fd)
	b := make([]byte, 1<<16)
	n, err := unix.Read(fd, b)
	if err != nil {
		return held("read: %v", err)
	}
	if name := e.leak(b[:n]); name != "" {
		return open("read %s", name)
	}
	return held("no token")
}

// sweep reads every file below the directory, following no links.
func (e *Env) sweep(root string) Outcome {
	n, found := 0, ""
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be read leaks nothing
		}
		if !d.Type().IsRegular() || n > 200000 {
			return nil
		}
		n++
		f, err := os.Open(path)
		if err != nil {
			return nil //nolint:nilerr // the same
		}
		defer f.Close()
		b, _ := io.ReadAll(io.LimitReader(f, 1<<20))
		if !bytes.Contains(b, []byte(tokenPrefix)) {
			return nil
		}
		if name := e.leak(b); name != "" {
			found = name + " in " + path
			return fs.SkipAll
		}
		return nil
	})
	if found != "" {
		return open("read %s", found)
	}
	return held("%d files below %q, no token (%v)", n, root, err)
}
