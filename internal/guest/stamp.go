package guest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stamp remembers what was looked at to come to a result, so that the next start can tell with one lstat for each that nothing changed. The
// inode change time shows every change of a file's content, owner and mode, and every entry that came to or left a directory.
type stamp struct {
	built time.Time
	seen  map[string]string // path -> signature
	order []string
}

func newStamp() *stamp { return &stamp{built: time.Now(), seen: map[string]string{}} }

const absent = "-"

// watch notes a path as it is now, or that it does not exist.
func (s *stamp) watch(path string) {
	if _, ok := s.seen[path]; !ok {
		s.seen[path] = signature(path)
		s.order = append(s.order, path)
	}
}

func signature(path string) string {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return absent
	}
	b := strconv.AppendUint(make([]byte, 0, 64), uint64(st.Dev), 36)
	b = strconv.AppendUint(append(b, ':'), st.Ino, 36)
	b = strconv.AppendInt(append(b, ':'), int64(st.Ctim.Sec), 36)
	b = strconv.AppendInt(append(b, ':'), int64(st.Ctim.Nsec), 36)
	return string(b)
}

// tick is the coarsest clock of change times among the kernels in use (CONFIG_HZ=100), doubled: what changed within it before a look may
// change again after the look without showing it.
const tick = 20 * time.Millisecond

func (s *stamp) fresh() bool {
	limit := s.built.Add(-tick)
	for _, sig := range s.seen {
		parts := strings.Split(sig, ":")
		if len(parts) != 4 {
			continue
		}
		sec, _ := strconv.ParseInt(parts[2], 36, 64)
		nsec, _ := strconv.ParseInt(parts[3], 36, 64)
		if time.Unix(sec, nsec).After(limit) {
			return true
		}
	}
	return false
}

// maxAge bounds how long a change can stay unseen that no watched path shows, such as a file changed in place in a copied tree.
const maxAge = 24 * time.Hour

const stampMagic = "casemate stamp 2"

// encode writes the stamp with the result it stands for. Paths cannot hold NUL, so NUL separates.
func (s *stamp) encode(result []byte) []byte {
	built := s.built
	if s.fresh() {
		built = time.Time{} // decode will not believe it
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\x00%d\x00%d\x00%d\x00", stampMagic, built.Unix(), bootTime(), len(s.order))
	for _, p := range s.order {
		b.WriteString(s.seen[p] + "\x00" + p + "\x00")
	}
	b.Write(result)
	return b.Bytes()
}

// decode returns the result if nothing has changed since.
func decode(data []byte, now time.Time) ([]byte, bool) {
	next := func() string {
		field, rest, ok := bytes.Cut(data, []byte{0})
		if !ok {
			data = nil
			return ""
		}
		data = rest
		return string(field)
	}
	if next() != stampMagic {
		return nil, false
	}
	built, _ := strconv.ParseInt(next(), 10, 64)
	if age := now.Sub(time.Unix(built, 0)); age < -time.Minute || age > maxAge {
		return nil, false
	}
	boot, _ := strconv.ParseInt(next(), 10, 64)
	if d := bootTime() - boot; d < -60 || d > 60 {
		return nil, false
	}
	n, err := strconv.Atoi(next())
	if err != nil {
		return nil, false
	}
	for range n {
		sig, path := next(), next()
		if path == "" || signature(path) != sig {
			return nil, false
		}
	}
	return data, true
}

// bootTime is when the machine started, in seconds. A crash of the machine can leave files empty that were written shortly before, so what
// is older than the machine's start is made again.
func bootTime() int64 {
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return 0
	}
	return time.Now().Unix() - up.Sec
}
