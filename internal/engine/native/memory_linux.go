package native

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// mapping is one line of /proc/self/maps.
type mapping struct {
	from, to uintptr
	perms    string // such as rw-p
	file     bool   // there is one behind it
}

// ownMemory lists what this process has mapped.
func ownMemory() ([]mapping, error) {
	maps, err := readProc("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	var list []mapping
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
		list = append(list, mapping{uintptr(from), uintptr(to), string(f[1]), string(f[4]) != "0"})
	}
	return list, nil
}

// writableMemory lists this process's private writable memory without files behind it: its heap and stacks, in which are its environment
// and whatever it has read so far. The child keeps none of it.
func writableMemory() ([][2]uintptr, error) {
	list, err := ownMemory()
	if err != nil {
		return nil, err
	}
	var ranges [][2]uintptr
	reached := uintptr(0) // as far as there is nothing but such memory, and address space that the Go runtime has reserved for more of it
	for _, m := range list {
		switch {
		case m.file || m.perms != "rw-p" && m.perms != "---p":
			continue
		case m.perms == "rw-p" && len(ranges) > 0 && m.from == reached:
			ranges[len(ranges)-1][1] = m.to
		case m.perms == "rw-p":
			ranges = append(ranges, [2]uintptr{m.from, m.to})
		case m.from != reached:
			continue
		}
		reached = m.to
	}
	return ranges, nil
}

// forget gives back the memory that the child has of its parent: the host's environment and all that the supervisor has read.
func forget(p *program, at *Attach) {
	p.Step("forget the supervisor's memory")
	for _, m := range at.Memory {
		p.Scrub(m[0], m[1]-m[0])
	}
}

// GiveBack returns to the kernel what a start needed and waiting does not: the pages of the program itself. They come back from the page
// cache when they are used again, and the few that the supervisor's loop needs do so at once. A garbage collection would need more memory
// for itself than a start leaves behind.
func GiveBack() {
	list, err := ownMemory()
	if err != nil {
		return // then it stays as large as it is
	}
	for _, m := range list {
		if m.file && m.perms[1] == '-' { // the writable data differs from the file
			unix.RawSyscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
		}
	}
}
