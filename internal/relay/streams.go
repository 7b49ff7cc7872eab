package relay

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Streams are the command's standard streams where they are not a terminal: pipes of our own, or a /dev/null of its own
// where the host's is /dev/null. The sandbox never gets a description of the host's: one opened read-write would let it
// truncate a log, and flags set on one are set for the user's shell too.
//
// Bytes pass unchanged. Where the host's standard output and error are one file, the command's are one pipe, so that what
// it writes to either stays in order. Each end of stream is passed on: the end of the host's input closes the command's,
// a host reader that goes away makes the command's next write fail with EPIPE, and a command that closes its output and
// runs on is seen to have done so.
type Streams struct {
	Inside [3]int // what becomes the command's 0, 1 and 2; -1 where it has the terminal. Start closes them.

	host    [3]int
	outside [2]int // our ends of the pipes for output; [1] is -1 when both are one, either when there is none
	kinds   [3]kind
	merged  bool // output and error are one pipe
	loop    *Loop
	feed    *feed
	pumps   [2]*pump
	late    *Timer
	close   []int  // host descriptors that late lets go of
	drained func() // set when the command is gone
}

// OpenStreams makes the streams for the host's descriptors, usually 0, 1 and 2; -1 stands for one that the command has the
// terminal for. The pipes are given to owner, so that the command can open /dev/stdout; -1: they are its anyway.
func OpenStreams(host [3]int, owner int) (*Streams, error) {
	s := &Streams{Inside: [3]int{-1, -1, -1}, host: host, outside: [2]int{-1, -1}}
	var st [3]unix.Stat_t
	for i, fd := range host {
		if fd >= 0 {
			s.kinds[i], st[i] = kindOf(fd)
		}
	}
	if err := s.open(&st); err != nil {
		s.abandon()
		return nil, err
	}
	if owner >= 0 {
		for i, fd := range s.Inside {
			if fd >= 0 && s.kinds[i] != null {
				if err := unix.Fchown(fd, owner, -1); err != nil {
					s.abandon()
					return nil, fmt.Errorf("give the pipe for stream %d to uid %d: %w", i, owner, err)
				}
			}
		}
	}
	return s, nil
}

func (s *Streams) open(st *[3]unix.Stat_t) (err error) {
	if s.host[0] >= 0 {
		if err := s.openInput(); err != nil {
			return err
		}
	}
	if s.host[1] >= 0 {
		if s.Inside[1], s.outside[0], err = openOutput(s.kinds[1]); err != nil {
			return err
		}
	}
	switch {
	case s.host[2] < 0:
	case s.host[1] >= 0 && s.kinds[1] != null && sameFile(&st[1], &st[2]):
		s.merged = true
		s.Inside[2], err = unix.FcntlInt(uintptr(s.Inside[1]), unix.F_DUPFD_CLOEXEC, 0)
	default:
		s.Inside[2], s.outside[1], err = openOutput(s.kinds[2])
	}
	return err
}

func (s *Streams) openInput() (err error) {
	// A terminal as input of a run that is not interactive is not read, and its attributes cannot be reached.
	if s.kinds[0] == terminal {
		s.kinds[0] = null
	}
	if s.kinds[0] == null {
		s.Inside[0], err = openNull(unix.O_RDONLY)
		return err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make a pipe for standard input: %w", err)
	}
	s.Inside[0] = p[0]
	s.feed = &feed{src: s.host[0], dst: p[1], from: s.kinds[0]}
	return nil
}

func openOutput(to kind) (inside, outside int, err error) {
	if to == null {
		inside, err = openNull(unix.O_WRONLY)
		return inside, -1, err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("make a pipe for output: %w", err)
	}
	return p[1], p[0], nil
}

// abandon closes everything of streams that were never started.
func (s *Streams) abandon() {
	s.closeInside()
	for i, fd := range s.outside {
		if fd >= 0 {
			unix.Close(fd)
		}
		s.outside[i] = -1
	}
	if s.feed != nil {
		unix.Close(s.feed.dst)
		s.feed = nil
	}
}

func (s *Streams) closeInside() {
	for i, fd := range s.Inside {
		if fd >= 0 {
			unix.Close(fd)
		}
		s.Inside[i] = -1
	}
}

// Start closes Inside, of which the sandbox has copies by now, and begins to copy. No other process may keep the inside
// ends open, the sandbox's init included, or no end of stream will ever be seen.
func (s *Streams) Start(l *Loop) {
	s.closeInside()
	s.loop = l
	if s.feed != nil {
		s.feed.ended = s.inputEnded
		s.feed.start(l)
	}
	for i, src := range s.outside {
		if src < 0 {
			continue
		}
		p := &pump{}
		p.ended = func(eof bool) { s.outputEnded(i, eof) }
		s.pumps[i] = p
		p.start(l, src, s.host[i+1], s.kinds[i+1])
	}
}

// soon is how long a command that has closed a stream must live on before the host's end of it is let go. Most exit at
// once, and then there is no need.
const soon = 50 * time.Millisecond

// inputEnded: nobody inside reads any more, or nothing more will come. A host process that writes gets SIGPIPE then.
func (s *Streams) inputEnded() {
	if s.kinds[0] != regular {
		s.letGoSoon(s.host[0])
	}
}

func (s *Streams) outputEnded(i int, eof bool) {
	// Standard error stays open: our own messages go there.
	if i == 0 && eof && !s.merged {
		s.letGoSoon(s.host[1])
	}
	s.checkDrained()
}

func (s *Streams) letGoSoon(fd int) {
	if s.drained != nil {
		return
	}
	s.close = append(s.close, fd)
	if s.late == nil {
		s.late = s.loop.At(time.Time{}, s.letGo)
	}
	s.late.Reset(time.Now().Add(soon))
}

func (s *Streams) letGo(time.Time) time.Time {
	for _, fd := range s.close {
		letGo(fd)
	}
	s.close = nil
	return time.Time{}
}

// Finish is told that the sandbox is gone. What the command has not read of its input is settled, the rest of its output
// is copied to the last byte, and then drained is called, possibly before Finish returns. A reader that stalls can make
// that take for ever: it is for the caller to stop waiting, on a second signal for example.
func (s *Streams) Finish(drained func()) {
	s.drained = drained
	s.late.Close()
	if s.feed != nil {
		s.feed.finish()
	}
	s.checkDrained()
}

func (s *Streams) checkDrained() {
	if s.drained == nil {
		return
	}
	for _, p := range s.pumps {
		if p != nil && !p.finished {
			return
		}
	}
	s.drained()
}

// Close ends all copying, whatever is still on its way.
func (s *Streams) Close() {
	if s.loop == nil {
		s.abandon()
		return
	}
	s.drained = func() {}
	s.late.Close()
	if s.feed != nil {
		s.feed.finish()
	}
	for _, p := range s.pumps {
		if p != nil {
			p.end(false)
		}
	}
}

// Carried counts the bytes of output so far: a command that writes is not idle, however little it computes.
func (s *Streams) Carried() (n int64) {
	for _, p := range s.pumps {
		if p != nil {
			n += p.carried
		}
	}
	return n
}

// Err is why output could not be written to the host, for example a full disk; nil if every byte arrived or its reader
// had gone away.
func (s *Streams) Err() error {
	for i, p := range s.pumps {
		if p != nil && p.err != nil {
			return fmt.Errorf("write to standard %s: %w", [2]string{"output", "error"}[i], p.err)
		}
	}
	return nil
}

// InputErr is why the host's standard input could not be read, as where it is a directory; nil if it came to its end, or was not wanted any more. The
// command sees the same end in either case.
func (s *Streams) InputErr() error {
	if s.feed == nil || s.feed.err == nil {
		return nil
	}
	return fmt.Errorf("standard input could not be read: %w", s.feed.err)
}
