package session

import (
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/relay"
	"golang.org/x/sys/unix"
)

// follower hears of files that change, come and go: also of one that is replaced by another, that is reached through links, and whose directory does not exist
// yet. It watches directories, as inotify(7) would lose a file that is renamed over.
//
// NOT heard: what another machine changes on a network file system, and a mount that covers a directory.
type follower struct {
	fd      int
	watch   *relay.Watch
	places  []place
	names   map[int32][]string // by watch descriptor: the names that matter in that directory
	paths   []string
	changed func()
	settle  *relay.Timer
	loop    *relay.Loop
	pace    time.Duration // how long after a change it is looked at
	due     bool          // it is looked at whatever was heard
}

// place is a directory on the way to a file, and the name in it that the way goes on by. An empty name: what matters is that the directory stays where it is.
type place struct{ dir, name string }

// settling is how long after a change it is looked at: an editor makes several at once. It bounds how often the supervisor wakes up where much happens in a
// directory, too.
const settling = 100 * time.Millisecond

// follow begins to follow files. changed is called some time after each change.
func follow(loop *relay.Loop, paths []string, changed func()) (*follower, error) {
	f := &follower{fd: -1, paths: paths, changed: changed, loop: loop, pace: settling}
	f.settle = loop.At(time.Time{}, func(time.Time) time.Time {
		if matters := f.heard(); matters || f.due {
			f.due = false
			f.changed()
		}
		return time.Time{}
	})
	return f, f.renew()
}

func (f *follower) close() {
	if f != nil && f.fd >= 0 {
		f.watch.Close()
		f.settle.Close()
		unix.Close(f.fd)
		f.fd = -1
	}
}

// wait lets some time pass, in which nothing wakes the supervisor up.
func (f *follower) wait(in time.Duration) {
	f.watch.Mute()
	f.settle.Reset(time.Now().Add(in))
}

// again has the files be looked at once more after some time.
func (f *follower) again(in time.Duration) {
	f.due = true
	f.wait(in)
}

// renew watches the places that the files are reached by now. What changes in between is heard of by the new watches, or leads to other places.
func (f *follower) renew() error {
	for range 4 {
		var places []place
		for _, p := range f.paths {
			for _, at := range placesOf(p) {
				if !slices.Contains(places, at) {
					places = append(places, at)
				}
			}
		}
		if slices.Equal(places, f.places) {
			break
		}
		if err := f.begin(places); err != nil {
			return err
		}
	}
	return nil
}

const (
	nameChanged = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CREATE
	dirChanged  = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF
)

func (f *follower) begin(places []place) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("%w (see fs.inotify.max_user_instances)", err)
	}
	names := map[int32][]string{}
	for _, p := range places {
		mask := uint32(dirChanged | unix.IN_ONLYDIR | unix.IN_MASK_ADD)
		if p.name != "" {
			mask |= nameChanged
		}
		wd, err := unix.InotifyAddWatch(fd, p.dir, mask)
		switch {
		case err == nil && p.name != "":
			names[int32(wd)] = append(names[int32(wd)], p.name)
		case err == unix.ENOSPC:
			unix.Close(fd)
			return fmt.Errorf("%s: %w (see fs.inotify.max_user_watches)", p.dir, err)
		case err != nil && err != unix.ENOENT && p.name != "": // one that may be passed and not listed is in nobody's way
			unix.Close(fd)
			return fmt.Errorf("%s: %w", p.dir, err)
		}
	}
	if f.fd >= 0 {
		f.watch.Close()
		unix.Close(f.fd)
	}
	f.fd, f.names, f.places = fd, names, places
	f.watch = f.loop.Watch(fd, unix.POLLIN, func(int16) { f.wait(f.pace) })
	return nil
}

// heard reads what was told since, and says whether any of it matters.
func (f *follower) heard() (matters bool) {
	buf := make([]byte, 64<<10)
	for range 16 { // the kernel keeps fs.inotify.max_queued_events, and then tells that it lost some
		n, err := unix.Read(f.fd, buf)
		if err != nil || n <= 0 {
			break
		}
		notices(buf[:n], func(wd int32, mask uint32, name string) {
			matters = matters || f.matters(wd, mask, name)
		})
	}
	f.watch.Want(unix.POLLIN)
	return matters
}

func (f *follower) matters(wd int32, mask uint32, name string) bool {
	if mask&(unix.IN_Q_OVERFLOW|dirChanged|unix.IN_IGNORED) != 0 {
		return true
	}
	if !slices.Contains(f.names[wd], name) {
		return false
	}
	return mask&unix.IN_CREATE == 0 || mask&unix.IN_ISDIR != 0 || !f.begun(name)
}

// begun says whether what was created under a name is all files that somebody writes: they are heard of again when they are closed. A link is not.
func (f *follower) begun(name string) bool {
	for _, p := range f.places {
		var st unix.Stat_t
		if p.name == name && (unix.Lstat(path.Join(p.dir, name), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1) {
			return false
		}
	}
	return true
}

// notices calls do for each event of a buffer that inotify filled.
func notices(buf []byte, do func(wd int32, mask uint32, name string)) {
	for len(buf) >= unix.SizeofInotifyEvent {
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		name, _, _ := strings.Cut(string(buf[unix.SizeofInotifyEvent:end]), "\x00")
		do(int32(binary.NativeEndian.Uint32(buf)), binary.NativeEndian.Uint32(buf[4:]), name)
		buf = buf[end:]
	}
}

// placesOf goes to a file as the kernel does, and returns each directory that the way depends on: where it goes on by a link, where the file is, and where it
// ends because nothing is there yet.
func placesOf(file string) (list []place) {
	const mostLinks = 40 // MAXSYMLINKS
	at, rest, links := "/", strings.Split(file, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		here := path.Join(at, name)
		if to, err := os.Readlink(here); err == nil {
			list = append(list, place{at, name})
			if links++; links > mostLinks {
				return list
			}
			if path.IsAbs(to) {
				at = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(here, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return append(list, place{at, name})
		}
		at = here
		list = append(list, place{dir: at})
	}
	return list
}
