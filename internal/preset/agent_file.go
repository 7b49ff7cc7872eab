package preset

import (
	"os"

	"golang.org/x/sys/unix"
)

// looked is what an import's place is.
type looked struct{ dir, file, foreign bool }

func lstat(path string) (l looked, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return l, err
	}
	l.dir, l.file = st.Mode&unix.S_IFMT == unix.S_IFDIR, st.Mode&unix.S_IFMT == unix.S_IFREG
	l.foreign = st.Uid != 0 && int(st.Uid) != os.Geteuid() || st.Mode&0o002 != 0
	return l, nil
}
