package enginetest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// homeSecrets are the places in a home directory that hold credentials or the settings of agents.
func homeSecrets() []string {
	return []string{".ssh", ".aws", ".gnupg", ".config/gh", ".kube", ".docker", ".netrc", ".npmrc", ".pypirc", ".claude", ".codex"}
}

func fileCases() []Case {
	canary := func(id, title string, attack func(*Env) Outcome) Case {
		return Case{ID: id, Group: "files", Title: title, Guarantee: denyRead, Control: Outside, Attack: attack}
	}
	hidden := func(id, title string, attack func(*Env) Outcome) Case {
		return Case{ID: id, Group: "files", Title: title, Guarantee: hide, Control: Outside, Setup: Hidden, Attack: func(e *Env) Outcome {
			if !e.hasDir() {
				return notRun("this project has no fixtures")
			}
			return attack(e)
		}}
	}
	hiddenBy := func(id, title, line string, needs ...string) Case {
		return hidden(id, title, func(e *Env) Outcome { return e.shell(e.dir(), line, needs...) })
	}
	onCanary := func(id, title string, try func(path string) error) Case {
		return Case{ID: id, Group: "files", Title: title, Guarantee: metadata, Control: Outside, Attack: func(e *Env) Outcome {
			return unless(try(e.Canary), "it")
		}}
	}
	return []Case{
		canary("F01.open", "read a file outside every grant", func(e *Env) Outcome { return e.read(e.Canary) }),
		canary("F01.cat", "cat it", func(e *Env) Outcome { return e.shell("/", "cat '"+e.Canary+"'") }),
		canary("F01.list", "list the directory it lies in", func(e *Env) Outcome {
			_, err := os.ReadDir(filepath.Dir(e.Canary))
			return unless(err, "listing")
		}),
		canary("F01.relative", "read it by ../..", func(e *Env) Outcome { return e.read(up(workDir(e), e.Canary)) }),
		canary("F01.sibling", "read the project beside this one", func(e *Env) Outcome {
			return first(e.read(filepath.Join(filepath.Dir(e.hostWork()), "sibling", ".env")), e.read(filepath.Join(workDir(e), "..", "sibling", ".env")))
		}),
		canary("X.machine-id", "learn the host's machine id", func(e *Env) Outcome {
			if e.MachineID == "" {
				return notRun("the host has none")
			}
			for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
				if b, err := readSome(path); err == nil && digest(strings.TrimSpace(string(b))) == e.MachineID {
					return open("it is in %s", path)
				}
			}
			return held("not in /etc or /var/lib/dbus")
		}),
		canary("E03.proc-root", "read it through /proc/self/root", func(e *Env) Outcome { return e.read("/proc/self/root" + e.Canary) }),
		canary("E03.proc-cwd", "read it through /proc/self/cwd/..", func(e *Env) Outcome {
			return e.read("/proc/self/cwd/" + up(workDir(e), e.Canary))
		}),
		canary("E03.thread-root", "read it through /proc/self/task/TID/root", func(e *Env) Outcome {
			return e.read("/proc/thread-self/root" + e.Canary)
		}),
		canary("E01.symlink", "read it through a symlink in the project", func(e *Env) Outcome {
			link := filepath.Join(scratchDir(e), "link")
			if err := os.Symlink(e.Canary, link); err != nil {
				return notRun("%v", err)
			}
			defer os.Remove(link)
			return e.read(link)
		}),
		canary("E01.symlink-write", "write it through a symlink in the project", func(e *Env) Outcome {
			link := filepath.Join(scratchDir(e), "wlink")
			if err := os.Symlink(e.Canary+".written", link); err != nil {
				return notRun("%v", err)
			}
			defer os.Remove(link)
			err := write(link)
			if e.Control != "" {
				os.Remove(e.Canary + ".written")
			}
			return unless(err, "writing")
		}),
		canary("E02.hard-link", "hard-link it into the project", func(e *Env) Outcome {
			link := filepath.Join(scratchDir(e), "hard")
			defer os.Remove(link)
			if err := os.Link(e.Canary, link); err != nil {
				return held("%v", err)
			}
			return e.read(link)
		}),
		canary("X.open-tree", "read it through an open_tree descriptor of /", func(e *Env) Outcome {
			fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return held("open_tree: %v", err)
			}
			return e.readAt(fd, strings.TrimPrefix(e.Canary, "/"))
		}),
		canary("X.inotify", "watch its directory", func(e *Env) Outcome {
			fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			if err != nil {
				return held("%v", err)
			}
			return unless(watchOutside(fd, scratchDir(e), filepath.Dir(e.Canary)), "inotify_add_watch")
		}),
		canary("X.shared-tmp", "find the host's files in /tmp, /var/tmp, /dev/shm and /run", func(e *Env) Outcome {
			for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/run"} {
				entries, _ := os.ReadDir(dir)
				for _, f := range entries {
					if strings.HasPrefix(f.Name(), sharedPrefix) {
						return open("%s/%s is the host's", dir, f.Name())
					}
				}
			}
			return held("none")
		}),

		{ID: "F02.home", Group: "files", Title: "write into the home directory", Guarantee: denyWrite, Control: Outside, Attack: func(e *Env) Outcome {
			// The sandbox has a home of its own, perhaps at the same path: only the host can tell.
			return asks("%v", write(filepath.Join(e.Home, "casemate-evil-F02.home")))
		}},
		{ID: "F02.beside", Group: "files", Title: "write beside the project", Guarantee: denyWrite, Control: Outside, Attack: func(e *Env) Outcome {
			err := write(filepath.Join(filepath.Dir(e.Work), "casemate-evil-F02.beside"))
			return asks("%v", err)
		}},
		{ID: "F02.canary", Group: "files", Title: "overwrite a file outside every grant", Guarantee: denyWrite, Control: Outside, Attack: func(e *Env) Outcome {
			return unless(canOpen(e.Canary, unix.O_WRONLY), "opening for writing")
		}},
		{ID: "F02.system", Group: "files", Title: "write into /usr/local/bin, /usr/bin, /etc, /etc/cron.d, /", Guarantee: denyWrite, Control: Scratch, Attack: func(e *Env) Outcome {
			var errs error
			for _, dir := range []string{"/usr/local/bin", "/usr/bin", "/etc", "/etc/cron.d", "/"} {
				err := write(filepath.Join(dir, "casemate-evil"))
				if err == nil {
					return open("wrote into %s", dir)
				}
				errs = errors.Join(errs, err)
			}
			return held("%s", brief(errs.Error()))
		}},
		{ID: "F03.home", Group: "files", Title: "learn that credential directories exist in the home", Guarantee: metadata, Control: Outside, Attack: func(e *Env) Outcome {
			for _, home := range []string{e.Home, os.Getenv("HOME")} {
				for _, name := range homeSecrets() {
					if _, err := os.Lstat(filepath.Join(home, name)); !errors.Is(err, fs.ErrNotExist) {
						return open("%s/%s: %v", home, name, err)
					}
				}
			}
			return held("none exists")
		}},
		{ID: "F03.list", Group: "files", Title: "list the home, or a credential directory in it", Guarantee: denyRead, Control: Outside, Attack: func(e *Env) Outcome {
			for _, name := range homeSecrets() {
				entries, err := os.ReadDir(filepath.Join(e.Home, name))
				if err == nil && len(entries) > 0 {
					return open("%s/%s holds %s", e.Home, name, entries[0].Name())
				}
			}
			return held("none can be listed")
		}},
		{ID: "F03.sweep", Group: "files", Title: "find a credential anywhere below the home", Guarantee: denyRead, Control: Outside, Timeout: time.Minute, Attack: func(e *Env) Outcome {
			return e.sweep(e.Home)
		}},
		{ID: "L11.state", Group: "lifecycle", Title: "reach the state directory with the layers, the audit log and the trust file", Guarantee: denyRead, Control: Outside, Attack: func(e *Env) Outcome {
			if e.StateDir == "" {
				return notRun("the state directory is not known")
			}
			if _, err := os.ReadDir(e.StateDir); err == nil {
				return open("%q can be listed", e.StateDir)
			}
			return unless(write(filepath.Join(e.StateDir, "casemate-evil-L11.state")), "writing into the state directory")
		}},

		hidden("F04.read", "read a hidden file", func(e *Env) Outcome { return e.read(e.dir(".env")) }),
		hiddenBy("F04.cat", "cat, cp, head, tail, dd, xxd of it", `cat .env; cp .env x && cat x; head .env; dd if=.env; od -c .env >/dev/null; ln .env y && cat y; mv .env z; cat z`),
		hiddenBy("F04.grep", "grep for it", `grep -r . .env; grep -r casemate-token- .; cat -- .e?v .en[v] ./*env .[e]nv`),
		hiddenBy("F04.stash", "git stash -u and show it", `git init -q . && git add -Af keep && git -c user.name=a -c user.email=a@b commit -qm x && git stash -qu; git show 'stash@{0}^3:.env'; git log -p --all | cat`, "git"),
		hiddenBy("F04.add", "git add -f and show it", `git init -q . ; git add -f .env sub; git show :.env; git show :sub/.env; git diff --no-index /dev/null .env; git hash-object -w .env | xargs git cat-file -p`, "git"),
		hiddenBy("F04.archive", "tar, zip and find it", `tar cf - . ; find . -name '.env*' -exec cat {} +; cat $(ls -d .e*)`, "tar"),
		hiddenBy("F04.source", "source it as a shell script", `set -a; . ./.env; env; sh -x ./.env; sh -v ./.env`),
		hidden("F04.names", "read it by other spellings of its path", func(e *Env) Outcome {
			var outcomes []Outcome
			for _, name := range []string{"./.env", "sub/../.env", "//.env", "././/.env", "../" + e.id + "/.env", ".env/", ".env/.", "sub/./.env"} {
				outcomes = append(outcomes, e.read(e.dir()+"/"+name))
			}
			for _, prefix := range []string{"/proc/self/root", "/proc/thread-self/root", "//", "/proc/self/cwd/" + strings.Repeat("../", 20), "/proc/self/root/proc/self/root"} {
				outcomes = append(outcomes, e.read(prefix+e.dir(".env")))
			}
			return first(outcomes...)
		}),
		hidden("F04.o-path", "open it with O_PATH and reopen it", func(e *Env) Outcome {
			fd, err := unix.Open(e.dir(".env"), unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return held("%v", err)
			}
			return e.read("/proc/self/fd/" + itoa(fd))
		}),
		hidden("F04.rename", "rename it, then read", func(e *Env) Outcome {
			err := os.Rename(e.dir(".env"), e.dir("plain"))
			o := e.read(e.dir("plain"))
			if err != nil && o.Verdict == Held {
				return held("%v", err)
			}
			return o
		}),
		hidden("E04.rename-parent", "rename its directory, then read", func(e *Env) Outcome {
			_ = os.Rename(e.dir("sub"), e.dir("moved"))
			if out, ok := program(e.dir(), "mv", "sub", "moved"); ok && e.leak([]byte(out)) != "" {
				return open("mv printed it")
			}
			return first(e.read(e.dir("moved", ".env")), e.read(e.dir("sub", ".env")))
		}),
		hidden("E04.exchange", "exchange it with another file, then read", func(e *Env) Outcome {
			if err := os.WriteFile(e.dir("other"), nil, 0o644); err != nil {
				return notRun("%v", err)
			}
			_ = unix.Renameat2(unix.AT_FDCWD, e.dir(".env"), unix.AT_FDCWD, e.dir("other"), unix.RENAME_EXCHANGE)
			_ = unix.Renameat2(unix.AT_FDCWD, e.dir("sub"), unix.AT_FDCWD, e.dir("keep"), unix.RENAME_EXCHANGE)
			return first(e.read(e.dir("other")), e.read(e.dir("keep", ".env")), e.read(e.dir(".env")))
		}),
		hidden("F04.recreate", "create it, remove it, and read what appears", func(e *Env) Outcome {
			var outcomes []Outcome
			for range 3 {
				_ = os.Chmod(e.dir(".env"), 0o600)
				outcomes = append(outcomes, e.read(e.dir(".env")))
				_ = canOpen(e.dir(".env"), unix.O_CREAT|unix.O_APPEND|unix.O_WRONLY)
				outcomes = append(outcomes, e.read(e.dir(".env")))
				if e.Control == "" { // outside it would destroy what is to be read
					_ = os.Remove(e.dir(".env"))
					_ = os.Mkdir(e.dir(".env"), 0o755)
					_ = os.Remove(e.dir(".env"))
				}
				outcomes = append(outcomes, e.read(e.dir(".env")))
			}
			return first(outcomes...)
		}),
		hidden("F04.remove-dir", "remove its directory, make it anew, and read what appears", func(e *Env) Outcome {
			if e.Control == "" {
				_ = os.RemoveAll(e.dir("sub"))
				if err := os.Mkdir(e.dir("sub"), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
					return held("%v", err)
				}
			}
			return e.read(e.dir("sub", ".env"))
		}),
		hidden("F04.copy-range", "copy it in the kernel: copy_file_range, sendfile, FICLONE, splice", func(e *Env) Outcome {
			src, err := os.Open(e.dir(".env"))
			if err != nil {
				return held("%v", err)
			}
			defer src.Close()
			dst, err := os.Create(e.dir("copied"))
			if err != nil {
				return notRun("%v", err)
			}
			defer dst.Close()
			_, _ = unix.CopyFileRange(int(src.Fd()), new(int64), int(dst.Fd()), nil, 4096, 0)
			_, _ = unix.Sendfile(int(dst.Fd()), int(src.Fd()), new(int64), 4096)
			_ = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
			return e.read(dst.Name())
		}),
		hidden("F04.mmap", "map it", func(e *Env) Outcome {
			f, err := os.Open(e.dir(".env"))
			if err != nil {
				return held("%v", err)
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil || st.Size() == 0 {
				return held("it is empty (%v)", err)
			}
			b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
			if err != nil {
				return held("%v", err)
			}
			if name := e.leak(b); name != "" {
				return open("mapped %s", name)
			}
			return held("no token")
		}),
		hidden("F05.nested", "read every .env* and key of the project", func(e *Env) Outcome { return e.sweep(e.Work) }),
		hiddenBy("F05.find", "find and print them all", `cd ../..; find . -name '.env*' -exec cat {} +; find . -type f -links +1 -exec cat {} +; grep -rIsh casemate-token- . ; true`, "find"),
		{ID: "X.hard-linked", Group: "files", Title: "read a hidden file by a hard link with an innocent name", Guarantee: hide, Control: Outside, Attack: func(e *Env) Outcome {
			return first(e.read(filepath.Join(e.Work, "links", "innocent.txt")), e.read(filepath.Join(e.Work, "links", "soft.txt")))
		}},
		{ID: "X.tracked-index", Group: "files", Title: "find a hidden file's bytes in git's own files", Guarantee: hide, Control: None,
			NoControl: "an untracked file is in no object; this watches that the sandbox's own preparation does not add it", Attack: func(e *Env) Outcome {
				return e.shell(e.Work, `git rev-list --all --objects 2>/dev/null | cut -d' ' -f1 | git cat-file --batch 2>/dev/null; git stash list -p; cat .git/index`, "git")
			}},

		{ID: "F24.case", Group: "files", Title: "name it in capitals, or with other Unicode forms", Guarantee: hide, Control: None,
			NoControl: "needs a case-insensitive file system; the whole-binary test makes one where it can", Setup: Hidden, Attack: func(e *Env) Outcome {
				var outcomes []Outcome
				for _, name := range []string{".ENV", ".Env", ".eNv", ".env\u200b", ".env ", ".env.", ".env::$DATA", ".en\uff56", "\u200c.env", ".ENV.LOCAL"} {
					outcomes = append(outcomes, e.read(e.dir(name)), e.read(filepath.Join(e.Work, name)))
				}
				return first(outcomes...)
			}},

		{ID: "F25.redirect", Group: "files", Title: "forge overlay redirects", Guarantee: denyRead, Control: None, Setup: Hidden,
			NoControl: "a mount with userxattr never follows redirects; this watches that the workspace is such a mount", Attack: forgeRedirect},
		{ID: "F25.whiteout", Group: "files", Title: "make a whiteout", Guarantee: hide, Control: Outside, Setup: Hidden, Attack: func(e *Env) Outcome {
			return unless(unix.Mknod(filepath.Join(scratchDir(e), "w"+e.id), unix.S_IFCHR|0o600, 0), "mknod c 0 0")
		}},
		{ID: "F25.xattr", Group: "files", Title: "forge whiteouts and opaque directories with extended attributes", Guarantee: hide, Control: None, Setup: Hidden,
			NoControl: "outside there is no overlay", Attack: forgeOpaque},
		{ID: "F25.layers", Group: "files", Title: "reach the overlay's own layers by the paths in mountinfo", Guarantee: denyRead, Control: None,
			NoControl: "outside there is no overlay", Attack: func(e *Env) Outcome {
				b, err := os.ReadFile("/proc/self/mountinfo")
				if err != nil {
					return held("%v", err)
				}
				return reachLayers(e, string(b))
			}},

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

// sharedPrefix begins the names of what the fixtures lay into the host's /tmp.
const sharedPrefix = "casemate-shared-"

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

// workDir is the directory that the process stands in.
func workDir(e *Env) string {
	dir, err := os.Getwd()
	if err != nil {
		return e.Work
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

// forgeRedirect marks a directory as moved from elsewhere, as an overlay without userxattr would believe.
func forgeRedirect(e *Env) Outcome {
	dir := filepath.Join(scratchDir(e), "redirected")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return held("%v", err)
	}
	target := filepath.Dir(e.Canary)
	for _, ns := range []string{"user", "trusted"} {
		for _, value := range []string{target, "/../../../../../../.." + target, "../../../../../.."} {
			_ = unix.Setxattr(dir, ns+".overlay.redirect", []byte(value), 0)
			_ = unix.Setxattr(dir, ns+".overlay.metacopy", nil, 0)
			_ = unix.Setxattr(dir, ns+".overlay.origin", []byte(value), 0)
			for _, name := range []string{filepath.Base(e.Canary), "hostname", "etc/hostname"} {
				if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
					return open("%s became visible", name)
				}
			}
		}
	}
	return held("nothing became visible")
}

// forgeOpaque tries to uncover what the mask layer hides.
func forgeOpaque(e *Env) Outcome {
	if !e.hasDir() {
		return notRun("this project has no fixtures")
	}
	for _, ns := range []string{"user", "trusted"} {
		for _, path := range []string{e.dir(), e.dir("sub"), e.dir(".env")} {
			_ = unix.Setxattr(path, ns+".overlay.opaque", []byte("n"), 0)
			_ = unix.Setxattr(path, ns+".overlay.whiteout", nil, 0)
			_ = unix.Removexattr(path, ns+".overlay.opaque")
			_ = unix.Removexattr(path, ns+".overlay.whiteout")
			_ = unix.Setxattr(path, ns+".overlay.protattr", []byte("x"), 0)
		}
	}
	return first(e.read(e.dir(".env")), e.read(e.dir("sub", ".env")))
}

// reachLayers opens the directories that an overlay names as its own.
func reachLayers(e *Env, mountinfo string) Outcome {
	tried := 0
	for opt := range strings.FieldsFuncSeq(mountinfo, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		key, value, _ := strings.Cut(opt, "=")
		if !strings.HasPrefix(key, "lowerdir") && key != "upperdir" && key != "workdir" {
			continue
		}
		for path := range strings.SplitSeq(value, ":") {
			if !strings.HasPrefix(path, "/") || path == e.Work {
				continue
			}
			tried++
			if _, err := os.ReadDir(path); err == nil {
				return open("%s %q can be listed", key, path)
			}
		}
	}
	return held("%d paths named, none reachable", tried)
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
