package enginetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// outsideCases are about what lies outside the project and every grant.
func outsideCases() []Case {
	canary := func(id, title string, attack func(*Env) Outcome) Case {
		return Case{ID: id, Group: "files", Title: title, Guarantee: denyRead, Control: Outside, Attack: attack}
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
					if home != e.Home && slices.Contains(e.Kept, name) {
						continue
					}
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
	}
}

// homeSecrets are the places in a home directory that hold credentials or the settings of agents.
func homeSecrets() []string {
	return []string{".ssh", ".aws", ".gnupg", ".config/gh", ".kube", ".docker", ".netrc", ".npmrc", ".pypirc", ".claude", ".codex"}
}

// sharedPrefix begins the names of what the fixtures lay into the host's /tmp.
const sharedPrefix = "casemate-shared-"

// workDir is the directory that the process stands in.
func workDir(e *Env) string {
	dir, err := os.Getwd()
	if err != nil {
		return e.Work
	}
	return dir
}
