package native

import (
	"casemate.dev/internal/engine/native/inside"
	"golang.org/x/sys/unix"
)

// GiveBack returns to the kernel what a start needed and waiting does not: the pages of the program itself. They come back from the page
// cache when they are used again, and the few that the supervisor's loop needs do so at once. A garbage collection would need more memory
// for itself than a start leaves behind.
func GiveBack() {
	list, err := inside.Mapped()
	if err != nil {
		return // then it stays as large as it is
	}
	for _, m := range list {
		if m.File && m.Perms[1] == '-' { // the writable data differs from the file
			unix.RawSyscall(unix.SYS_MADVISE, m.From, m.To-m.From, unix.MADV_DONTNEED)
		}
	}
}
