package inside

import (
	"bytes"
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mapping is one line of /proc/self/maps.
type Mapping struct {
	From, To uintptr
	Perms    string // such as rw-p
	File     bool   // there is one behind it
}

// Mapped lists what this process has mapped.
func Mapped() ([]Mapping, error) {
	maps, err := ReadProc("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	var list []Mapping
	for line := range bytes.Lines(maps) {
		f := bytes.Fields(line)
		if len(f) < 5 {
			return nil, fmt.Errorf("bug: /proc/self/maps: %q", line)
		}
		low, high, _ := bytes.Cut(f[0], []byte("-"))
		from, err1 := strconv.ParseUint(string(low), 16, 64)
		to, err2 := strconv.ParseUint(string(high), 16, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("bug: /proc/self/maps: %q", line)
		}
		list = append(list, Mapping{uintptr(from), uintptr(to), string(f[1]), string(f[4]) != "0"})
	}
	return list, nil
}

// leaveOutMemory keeps from children this process's private writable memory without files behind it: its heap and stacks, in which are its environment
// and whatever it has read so far (madvise(2), MADV_DONTFORK). They get the image. Programs that package os/exec starts share all memory until they are
// executed, and do not notice.
func leaveOutMemory(image []byte) error {
	list, err := Mapped()
	if err != nil {
		return err
	}
	start := uintptr(unsafe.Pointer(&image[0]))
	leave := func(from, to uintptr) (errno unix.Errno) {
		if from < to {
			_, _, errno = unix.RawSyscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTFORK)
		}
		return errno
	}
	for _, m := range private(list) {
		before, after := min(m[1], max(m[0], start)), max(m[0], min(m[1], start+uintptr(len(image))))
		if before >= after { // the image is elsewhere
			before, after = m[1], m[1]
		}
		for _, errno := range [...]unix.Errno{leave(m[0], before), leave(after, m[1])} {
			if errno != 0 {
				return fmt.Errorf("memory that the sandbox must not have: %w", errno)
			}
		}
	}
	return nil
}

// private joins the ranges that are to be left out.
func private(list []Mapping) (ranges [][2]uintptr) {
	reached := uintptr(0) // as far as there is nothing but such memory, and address space that the Go runtime has reserved for more of it
	for _, m := range list {
		switch {
		case m.File || m.Perms != "rw-p" && m.Perms != "---p":
			continue
		case m.Perms == "rw-p" && len(ranges) > 0 && m.From == reached:
			ranges[len(ranges)-1][1] = m.To
		case m.Perms == "rw-p":
			ranges = append(ranges, [2]uintptr{m.From, m.To})
		case m.From != reached:
			continue
		}
		reached = m.To
	}
	return ranges
}

// ReadProc reads a file of /proc without registering it with the network poller, as package os would.
func ReadProc(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 16<<10)
	for {
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if n == 0 {
			return buf, nil
		}
		if buf = buf[:len(buf)+n]; len(buf) == cap(buf) {
			buf = append(buf, make([]byte, cap(buf))...)[:len(buf)]
		}
	}
}
