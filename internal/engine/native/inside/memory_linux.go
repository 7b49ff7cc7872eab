package inside

import (
	"bytes"
	"errors"
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
// and whatever it has read so far (madvise(2), MADV_DONTFORK). They get the image, and the program's variables that begin as zero, as such: the runtime, or
// what counts a test's coverage, may look at those at any time.
//
// Programs that package os/exec starts share all memory until they are executed, and do not notice. One with a user namespace of its own
// (SysProcAttr.Cloneflags) does not share it, and cannot be started after this.
func leaveOutMemory(image []byte) error {
	list, err := Mapped()
	if err != nil {
		return err
	}
	start := uintptr(unsafe.Pointer(&image[0]))
	for _, r := range private(list) {
		before, after := min(r.to, max(r.from, start)), max(r.from, min(r.to, start+uintptr(len(image))))
		if before >= after { // the image is elsewhere
			before, after = r.to, r.to
		}
		if err := errors.Join(advise(r.from, before, r.advice), advise(after, r.to, r.advice)); err != nil {
			return fmt.Errorf("memory that the sandbox must not have: %w", err)
		}
	}
	return nil
}

// advise takes no offence at what is not there any more (ENOMEM): the rest of the range was advised, and that cannot be inherited.
func advise(from, to uintptr, advice int) error {
	if from >= to {
		return nil
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_MADVISE, from, to-from, uintptr(advice)); errno != 0 && errno != unix.ENOMEM {
		return errno
	}
	return nil
}

// region is a range of memory and what children have of it.
type region struct {
	from, to uintptr
	advice   int
}

// private joins the ranges that are to be left out.
func private(list []Mapping) (regions []region) {
	var before Mapping
	reached := uintptr(0) // as far as there is nothing but such memory, and address space that the Go runtime has reserved for more of it
	for _, m := range list {
		last := len(regions) - 1
		switch {
		case m.File || m.Perms != "rw-p" && m.Perms != "---p":
			before = m
			continue
		case m.Perms == "rw-p" && before.File && before.Perms == "rw-p" && before.To == m.From:
			regions = append(regions, region{m.From, m.To, unix.MADV_WIPEONFORK})
			before = m
			continue
		case m.Perms == "rw-p" && last >= 0 && m.From == reached:
			regions[last].to = m.To
		case m.Perms == "rw-p":
			regions = append(regions, region{m.From, m.To, unix.MADV_DONTFORK})
		case m.From != reached:
			before = m
			continue
		}
		before, reached = m, m.To
	}
	return regions
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
