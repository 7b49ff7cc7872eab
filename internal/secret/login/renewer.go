package login

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// again is how long after a renewal that failed another is tried. What runs inside can ask for the value as often as it likes.
const again = 30 * time.Second

// Renewer has logins renewed by Do, and remembers what was answered: a vendor that refused a login is asked again once the file is another one, and not for each
// request of a sandbox. Its zero value, with Do, is ready for use.
type Renewer struct {
	Do     func(context.Context, File) error
	mu     sync.Mutex
	failed map[string]failure
}

type failure struct {
	err error
	at  time.Time
	of  stamp
}

// stamp tells one state of a file from another.
type stamp struct {
	ino      uint64
	size     int64
	modified unix.Timespec
}

func (f File) stamp() stamp {
	var st unix.Stat_t
	if unix.Lstat(f.Path, &st) != nil {
		return stamp{}
	}
	return stamp{st.Ino, st.Size, st.Mtim}
}

// Renew is Do, unless it has just failed.
func (r *Renewer) Renew(ctx context.Context, f File) error {
	now := f.stamp()
	r.mu.Lock()
	was, tried := r.failed[f.Path]
	r.mu.Unlock()
	if tried && was.of == now && (time.Since(was.at) < again || errors.As(was.err, new(*Refused))) {
		return was.err
	}
	err := r.Do(ctx, f)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = map[string]failure{}
	}
	delete(r.failed, f.Path)
	if err != nil && ctx.Err() == nil {
		r.failed[f.Path] = failure{err, time.Now(), now}
	}
	return err
}
