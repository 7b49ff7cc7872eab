package syscalls

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// announcedCalls are all that change a mode, an owner or a time, and the one that watches.
const announcedCalls = "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat inotify_add_watch"

// metadataSupervised is a role: it makes each of the calls, with arguments that no kernel would take, while another thread answers all with one
// errno that none of them gives by itself.
func metadataSupervised(r role, _ []string) error {
	if r.Filtered {
		go refuse(unix.EXDEV)
	}
	for name := range strings.FieldsSeq(announcedCalls) {
		if number, known := native.number(name); known {
			_, _, errno := unix.Syscall6(uintptr(number), ^uintptr(0), 0, 0, 0, 0, 0)
			fmt.Println(name, errno == unix.EXDEV)
		}
	}
	return nil
}

// refuse never ends.
func refuse(errno unix.Errno) {
	for {
		var n notification
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifyReceive, uintptr(unsafe.Pointer(&n))); e != 0 {
			panic(e)
		}
		r := reply{id: n.id, errno: -int32(errno)}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifySend, uintptr(unsafe.Pointer(&r))); e != 0 {
			panic(e)
		}
	}
}

func TestMetadataIsNotified(t *testing.T) {
	for _, filtered := range []bool{true, false} {
		want := ""
		for name := range strings.FieldsSeq(native.known(announcedCalls)) {
			want += fmt.Sprintln(name, filtered)
		}
		got, err := output(child(role{Name: "metadata", Options: Options{MetadataHook: true, Fallback: true}, Filtered: filtered}))
		if err != nil || got != want {
			t.Errorf("filtered %t: %q, %v, want %q", filtered, got, err, want)
		}
	}
}
