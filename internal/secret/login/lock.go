package login

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The locks of a login. casemates keep each other out by flock(2) on its directory, which the kernel gives back when its holder is killed. Codex has none beside; Claude Code makes
// directories instead (npm's proper-lockfile), and so do we for it: one that nobody has touched for a while was left by somebody who was killed. That is why the
// first kind is needed: two who find such a one at once might both think that they have it.
const (
	renewLock = ".oauth_refresh.lock" // in its directory, for a renewal; and the directory's own name with .lock, as its older versions have it
	writeLock = ".storage-write.lock" // for a change of the file

	renewStale = time.Minute
	writeStale = 15 * time.Second
	waits      = 25 * time.Second // less than renewStale, which another may wait for
	pause      = 50 * time.Millisecond
)

// made is a lock that is a directory.
type made struct {
	path string
	ino  uint64
}

// unlocker undoes what was locked, in the other order.
type unlocker []func()

func (u unlocker) unlock() {
	for i := len(u) - 1; i >= 0; i-- {
		u[i]()
	}
}

// lock is for a renewal. unneeded is asked while it waits: another one may be renewing it.
func (f File) lock(ctx context.Context, unneeded func() bool) (u unlocker, held []made, err error) {
	dir := filepath.Dir(f.Path)
	until := time.Now().Add(waits)
	if u, err = flock(ctx, dir, until); err != nil {
		return nil, nil, err
	}
	if !f.locks {
		return u, nil, nil
	}
	for _, path := range []string{filepath.Join(dir, renewLock), dir + ".lock"} {
		m, err := makeLock(ctx, path, renewStale, until, unneeded)
		if err != nil && path == dir+".lock" && !isBusy(err) { // a directory that cannot be written: Claude Code goes on, too
			break
		}
		if err != nil {
			u.unlock()
			return nil, nil, err
		}
		u, held = append(u, func() { m.remove() }), append(held, m)
	}
	return u, held, nil
}

func flock(ctx context.Context, dir string, until time.Time) (unlocker, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		switch err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return unlocker{func() { d.Close() }}, nil
		case err != unix.EWOULDBLOCK && err != unix.EINTR:
			d.Close()
			return nil, err
		case time.Now().After(until) || ctx.Err() != nil:
			d.Close()
			return nil, busy(dir)
		}
		time.Sleep(pause)
	}
}

type busyError struct{ error }

func busy(path string) error {
	return &busyError{problem("try again; if nobody is logging in, remove the lock", "another program is renewing the login, and holds %q", path)}
}

func (b *busyError) Unwrap() error { return b.error }

func isBusy(err error) bool { _, ok := err.(*busyError); return ok }

// makeLock waits for a lock that is a directory, and takes one over that was left.
func makeLock(ctx context.Context, path string, stale time.Duration, until time.Time, unneeded func() bool) (made, error) {
	for {
		err := os.Mkdir(path, 0o700)
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
			return made{path, st.Ino}, err
		}
		if !os.IsExist(err) {
			return made{}, err
		}
		if unix.Lstat(path, &st) == nil && time.Since(time.Unix(st.Mtim.Unix())) > stale {
			if os.Remove(path) == nil {
				continue
			}
		}
		if unneeded() {
			return made{}, errUnneeded
		}
		if time.Now().After(until) || ctx.Err() != nil {
			return made{}, busy(path)
		}
		time.Sleep(pause)
	}
}

// ours says whether it is still there, and touches it. A machine that slept in between finds it taken over.
func (m made) ours() bool {
	var st unix.Stat_t
	if unix.Lstat(m.path, &st) != nil || st.Ino != m.ino {
		return false
	}
	now := time.Now()
	return os.Chtimes(m.path, now, now) == nil
}

func (m made) remove() {
	var st unix.Stat_t
	if unix.Lstat(m.path, &st) == nil && st.Ino == m.ino {
		os.Remove(m.path)
	}
}
