package session

import (
	"os"
	"path/filepath"

	"casemate.dev/internal/beneath"
	"casemate.dev/internal/merge"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// keepIndex keeps git's index as it was when the layer was born: what it has of a file is a common ancestor of what the host and the sandbox
// make of it, and its content stays in git's object database. It costs one file, beside the start. Without one, conflicts are not merged.
func (r *Run) keepIndex() {
	name := filepath.Join(r.Box.Dir, "index")
	unix.Unlink(name) // of another sandbox, whose directory this was
	r.Box.Record.Objects = ""
	if r.surveyed == nil {
		return
	}
	for _, g := range r.surveyed.GitDirs {
		if g.Path == ".git" && (g.Inside || g.Verified) && copyWhole(filepath.Join(g.Dir, "index"), name) == nil {
			r.Box.Record.Objects = filepath.Join(g.Common, "objects")
		}
	}
}

func copyWhole(from, to string) error {
	fd, err := unix.Open(from, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(fd), from)
	defer in.Close()
	st, err := in.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return unix.EINVAL
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	return beneath.Copy(out, in, st.Size())
}

// baseOf says where the common ancestors of a sandbox's files are.
func baseOf(box *store.Sandbox) merge.Base {
	if box.Record.Objects == "" {
		return merge.Base{}
	}
	return merge.Base{Index: filepath.Join(box.Dir, "index"), Objects: box.Record.Objects}
}
