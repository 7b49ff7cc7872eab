package enginetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hiddenCases are about the project's own hidden files.
func hiddenCases() []Case {
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
	return []Case{
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
	}
}
