package enginetest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// metadataCases change the mode or times of a file outside, or try to. Where there are no namespaces a supervisor makes such changes for the
// sandbox, so they also try to make it take the file outside for one of the sandbox's own. An attack is open if a call for that file went
// through, or if its change time moved, whatever the calls said.
func metadataCases() []Case {
	change := func(id, title string, attack func(e *Env, dir string) error) Case {
		return Case{ID: id, Group: "files", Title: title, Guarantee: denyWrite, Control: Outside, Setup: Hidden, Timeout: 20 * time.Second, Attack: func(e *Env) Outcome {
			before, err := changeTime(e.Canary)
			if err != nil {
				return held("it is not there: %v", err)
			}
			dir, err := os.MkdirTemp(scratchDir(e), "metadata")
			if err != nil { // a project that may only be read
				dir, err = os.MkdirTemp("", "metadata")
			}
			if err != nil {
				return notRun("%v", err)
			}
			defer os.RemoveAll(dir)
			err = attack(e, dir)
			if after, _ := changeTime(e.Canary); err == nil || after != before {
				return open("changed (%v)", err)
			}
			return held("%v", err)
		}}
	}
	return []Case{
		change("F30.chmod", "chmod a file outside every grant", func(e *Env, _ string) error { return touchMode(e.Canary) }),
		change("F30.utimes", "change its times", func(e *Env, _ string) error { return touchTimes(unix.AT_FDCWD, e.Canary, 0) }),
		change("F30.chown", "chown it", func(e *Env, _ string) error { return os.Lchown(e.Canary, os.Getuid(), -1) }),
		change("F30.setxattr", "set an extended attribute", func(e *Env, _ string) error { return unix.Setxattr(e.Canary, "user.casemate", []byte("1"), 0) }),
		change("F30.removexattr", "remove one", func(e *Env, _ string) error { return unix.Removexattr(e.Canary, "user.fixture") }),
		change("F30.truncate", "truncate a file", func(e *Env, _ string) error { return os.Truncate(e.Canary+".empty", 0) }),
		change("F30.relative", "chmod and touch by a relative path, standing in its directory and in the project", func(e *Env, dir string) error {
			up := up(dir, e.Canary)
			return either(func() error { return unix.Fchmodat(unix.AT_FDCWD, up, 0o644, 0) }, func() error {
				if err := os.Chdir(dir); err != nil {
					return err
				}
				return either(func() error { return touchMode(up) }, func() error { return touchTimes(unix.AT_FDCWD, up, 0) })
			}, func() error {
				if err := os.Chdir(filepath.Dir(e.Canary)); err != nil {
					return err
				}
				return either(func() error { return touchMode(filepath.Base(e.Canary)) }, func() error { return touchTimes(unix.AT_FDCWD, filepath.Base(e.Canary), 0) })
			})
		}),
		change("F30.symlink", "chmod and touch it through links in the project", func(e *Env, dir string) error {
			return throughLinks(dir, e.Canary, up(dir, e.Canary), "/proc/self/root"+e.Canary, "/proc/self/cwd/"+up(workDir(e), e.Canary))
		}),
		change("F30.proc", "chmod and touch it by the names in /proc", func(e *Env, dir string) error {
			return either(func() error { return touchMode("/proc/self/root" + e.Canary) }, func() error { return touchMode("/proc/thread-self/root" + e.Canary) },
				func() error { return touchMode("/proc/self/cwd/" + up(workDir(e), e.Canary)) }, func() error { return touchMode(fmt.Sprintf("/proc/%d/root%s", os.Getppid(), e.Canary)) },
				func() error { return touchTimes(unix.AT_FDCWD, "/proc/self/root"+e.Canary, 0) })
		}),
		change("F30.descriptor", "chmod and touch it by a descriptor for its name", func(e *Env, _ string) error {
			fd, err := unix.Open(e.Canary, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return byDescriptor(fd)
		}),
		change("F30.directory", "chmod and touch it below a descriptor of its directory, and of one beside it", func(e *Env, _ string) error {
			fd, err := unix.Open(filepath.Dir(e.Canary), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			usr, err := unix.Open("/usr", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(usr)
			name := filepath.Base(e.Canary)
			return either(func() error { return unix.Fchmodat(fd, name, 0o644, 0) }, func() error { return touchTimes(fd, name, 0) }, func() error { return touchTimes(fd, name, unix.AT_SYMLINK_NOFOLLOW) },
				func() error { return unix.Fchmodat(usr, ".."+e.Canary, 0o644, 0) }, func() error { return touchTimes(usr, ".."+e.Canary, 0) },
				func() error { return touchMode(fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)) }, func() error { return touchMode(fmt.Sprintf("/dev/fd/%d/%s", fd, name)) })
		}),
		change("F30.hard-link", "chmod and touch it by a hard link in the project", func(e *Env, dir string) error {
			link := filepath.Join(dir, "hard")
			fd, err := unix.Open(e.Canary, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			err = either(func() error { return os.Link(e.Canary, link) }, func() error { return unix.Linkat(fd, "", unix.AT_FDCWD, link, unix.AT_EMPTY_PATH) },
				func() error {
					return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, link, unix.AT_SYMLINK_FOLLOW)
				},
				func() error { return os.Rename(e.Canary, link) })
			if err != nil {
				return err
			}
			return either(func() error { return touchMode(link) }, func() error { return touchTimes(unix.AT_FDCWD, link, 0) })
		}),
		change("F30.race-link", "chmod and touch a link while it is exchanged for a file of the project", func(e *Env, dir string) error {
			own, link := filepath.Join(dir, "own"), filepath.Join(dir, "link")
			if err := prepare(func() error { return os.WriteFile(own, nil, 0o600) }, func() error { return os.Symlink(e.Canary, link) }); err != nil {
				return err
			}
			return race(func() { _ = unix.Renameat2(unix.AT_FDCWD, own, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) },
				func() { _ = touchMode(own); _ = touchTimes(unix.AT_FDCWD, own, 0) })
		}),
		change("F30.race-directory", "chmod and touch below a directory while it is exchanged for a link to another", func(e *Env, dir string) error {
			own, link := filepath.Join(dir, "own"), filepath.Join(dir, "link")
			name := filepath.Base(e.Canary)
			if err := prepare(func() error { return os.Mkdir(own, 0o700) }, func() error { return os.WriteFile(filepath.Join(own, name), nil, 0o600) }, func() error { return os.Symlink(filepath.Dir(e.Canary), link) }); err != nil {
				return err
			}
			return race(func() { _ = unix.Renameat2(unix.AT_FDCWD, own, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) },
				func() {
					_ = touchMode(filepath.Join(own, name))
					_ = touchTimes(unix.AT_FDCWD, filepath.Join(own, name), 0)
				})
		}),
		change("F30.race-memory", "chmod and touch a path while its bytes change", func(e *Env, dir string) error {
			own := filepath.Join(dir, "own")
			if err := prepare(func() error { return os.WriteFile(own, nil, 0o600) }); err != nil {
				return err
			}
			inside, outside := append([]byte(own), 0), append([]byte(e.Canary), 0)
			shared := make([]byte, max(len(inside), len(outside)))
			return race(func() { copy(shared, inside); copy(shared, outside) }, func() {
				at := uintptr(unsafe.Pointer(&shared[0]))
				here := ^uintptr(99) // AT_FDCWD
				_, _, _ = unix.Syscall(unix.SYS_FCHMODAT, here, at, 0o644)
				_, _, _ = unix.Syscall6(unix.SYS_UTIMENSAT, here, at, 0, 0, 0, 0)
				runtime.KeepAlive(shared)
			})
		}),
		change("F30.race-descriptor", "chmod and touch by a descriptor while its number comes to mean another file", func(e *Env, dir string) error {
			own, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			outside, err := unix.Open(e.Canary, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			shared, err := unix.Dup(own)
			if err != nil {
				return err
			}
			return race(func() { _ = unix.Dup3(own, shared, 0); _ = unix.Dup3(outside, shared, 0) }, func() { _ = byDescriptor(shared) })
		}),
	}
}

// changeTime is when anything of a file changed last. Nobody can set it.
func changeTime(path string) (unix.Timespec, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return st.Ctim, err
}

// touchMode and touchTimes change as little as the host's own look at the file would not see.
func touchMode(path string) error { return unix.Chmod(path, 0o644) }

func touchTimes(dir int, path string, flags int) error {
	return unix.UtimesNanoAt(dir, path, []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_OMIT}}, flags)
}

func byDescriptor(fd int) error {
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	return either(func() error { return unix.Fchmod(fd, 0o644) }, func() error { return unix.Fchmodat(fd, "", 0o644, unix.AT_EMPTY_PATH) }, func() error { return touchTimes(fd, "", unix.AT_EMPTY_PATH) },
		func() error { return touchMode(self) }, func() error { return touchMode(strings.Replace(self, "self", "thread-self", 1)) },
		func() error { return touchMode(fmt.Sprintf("/dev/fd/%d", fd)) }, func() error { return touchTimes(unix.AT_FDCWD, self, 0) },
		func() error { return unix.Fchownat(fd, "", os.Getuid(), -1, unix.AT_EMPTY_PATH) })
}

func throughLinks(dir string, targets ...string) error {
	var tries []func() error
	for i, to := range targets {
		link := filepath.Join(dir, fmt.Sprint("link", i))
		tries = append(tries, func() error {
			if err := os.Symlink(to, link); err != nil {
				return err
			}
			return either(func() error { return touchMode(link) }, func() error { return touchTimes(unix.AT_FDCWD, link, 0) })
		})
	}
	return either(tries...)
}

// watchOutside watches a directory outside by its own name and by others.
func watchOutside(fd int, dir, outside string) error {
	add := func(path string) func() error {
		return func() error {
			_, err := unix.InotifyAddWatch(fd, path, unix.IN_ALL_EVENTS)
			return err
		}
	}
	link := filepath.Join(dir, "watched")
	_ = os.Symlink(outside, link) // a project that may only be read has none
	defer os.Remove(link)
	tries := []func() error{add(outside), add(link), add("/proc/self/root" + outside), add(filepath.Join(link, "."))}
	if d, err := unix.Open(outside, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
		defer unix.Close(d)
		tries = append(tries, add(fmt.Sprintf("/proc/self/fd/%d", d)), add(fmt.Sprintf("/dev/fd/%d", d)))
	}
	return either(tries...)
}

// either tries one thing after the other, until one goes through.
func either(tries ...func() error) (err error) {
	for _, try := range tries {
		if err = try(); err == nil {
			return nil
		}
	}
	return err
}

func prepare(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// race does one thing over and over while another thread does the other. What came of it shows only in the file.
func race(one, other func()) error {
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			one()
		}
	}()
	for end := time.Now().Add(time.Second / 2); time.Now().Before(end); {
		other()
	}
	over.Store(true)
	<-done
	return unix.EPERM
}
