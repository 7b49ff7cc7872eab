package serve

import (
	"fmt"
	"os"
	"reflect"

	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"golang.org/x/sys/unix"
)

// refresh reads the book anew if its file is another one than before, and tells the gate which entries changed. It runs before every use, so that nothing
// depends on how soon the kernel tells of a change.
func (s *server) refresh() {
	s.mu.RLock()
	same := s.seen.Same(s.keyed.Stamp())
	s.mu.RUnlock()
	if same {
		return
	}
	s.mu.Lock()
	stamp := s.keyed.Stamp()
	if s.seen.Same(stamp) {
		s.mu.Unlock()
		return
	}
	before := s.book
	s.book, s.wrong = s.keyed.Read()
	s.seen = stamp // of before the reading: what is replaced meanwhile is another file next time
	if s.book == nil {
		s.seen = book.Stamp{}
	}
	changed := s.changes(before, s.book)
	s.changed += len(changed)
	before.Wipe()
	s.mu.Unlock()
	for _, name := range changed {
		if packet, err := ask.EncodeReply(ask.Reply{Changed: name}); err == nil {
			_ = s.conn.send(packet) // a gate that is gone keeps nothing
		}
	}
}

// changes lists the entries of this sandbox that are not as they were. A book that cannot be read has none of them any more.
func (s *server) changes(before, now *book.Book) (names []string) {
	entry := func(b *book.Book, name string) *book.Entry {
		if b == nil {
			return nil
		}
		return b.Entry(name)
	}
	for name := range s.kept {
		if was := entry(before, name); was != nil && !reflect.DeepEqual(was, entry(now, name)) {
			names = append(names, name)
		}
	}
	return names
}

// watch refreshes whenever something happens to the file. stop ends it.
func (s *server) watch() (stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the secrets: %w", err)
	}
	events := os.NewFile(uintptr(fd), "inotify") // not blocking: Close ends a Read
	if _, err := unix.InotifyAddWatch(fd, s.Place.Dir, unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE|unix.IN_CLOSE_WRITE|unix.IN_ATTRIB); err != nil {
		events.Close()
		return nil, fmt.Errorf("watch %q: %w", s.Place.Dir, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096) // which file it was does not matter: refresh looks
		for {
			if _, err := events.Read(buf); err != nil {
				return
			}
			s.refresh()
		}
	}()
	return func() { events.Close(); <-done }, nil
}
