package login

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// again is how long after a renewal another is tried, whether it failed or brought what ends at once. What runs inside can ask for the value as often as it likes.
const again = 30 * time.Second

// Renewer has logins renewed by Do, and remembers what was answered: a vendor that refused a login is asked again once the file is another one, and not for each
// request of a sandbox. Its zero value, with Do, is ready for use.
type Renewer struct {
	Do   func(context.Context, File) error
	mu   sync.Mutex
	last map[string]outcome // by the file's path
}

type outcome struct {
	err error // nil: it was renewed
	at  time.Time
	of  stamp // as the file is since
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

// Renew is Do, unless it was just done.
func (r *Renewer) Renew(ctx context.Context, f File) error {
	now := f.stamp()
	r.mu.Lock()
	was, tried := r.last[f.Path]
	r.mu.Unlock()
	if tried && was.of == now && (time.Since(was.at) < again || errors.As(was.err, new(*Refused))) {
		return was.err
	}
	err := r.Do(ctx, f)
	if ctx.Err() != nil { // who asked has left, and knows nothing
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]outcome{}
	}
	r.last[f.Path] = outcome{err, time.Now(), f.stamp()}
	return err
}
