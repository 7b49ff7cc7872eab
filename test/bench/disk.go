package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Where everything is kept unless -dir says otherwise.
const ownPlace = "/var/tmp"

// disk makes a file system with a journal to measure on, where that of the usual place is an ext4 without one: no distribution makes those, and they look
// for free inodes several times as long when starts follow each other (docs/why/fast.md). It needs root; for anybody else the place is taken as it is.
func (b *bench) disk() (dir string, err error) {
	if !b.root || !withoutJournal(ownPlace) {
		return ownPlace, nil
	}
	image, err := os.CreateTemp(ownPlace, "casemate-bench-disk")
	if err != nil {
		return "", err
	}
	defer image.Close()
	dir = image.Name() + ".mounted"
	b.undo = append(b.undo, func() error { return os.Remove(image.Name()) }, func() error { return os.Remove(dir) })
	if err := image.Truncate(16 << 30); err != nil { // sparse: it takes what is written
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := quiet(exec.Command("mkfs.ext4", "-q", "-F", image.Name())); err != nil {
		return "", err
	}
	if err := quiet(exec.Command("mount", "-o", "loop", image.Name(), dir)); err != nil {
		return "", err
	}
	b.undo = append(b.undo, func() error { return quiet(exec.Command("umount", "--lazy", dir)) })
	b.where = fmt.Sprintf("on an ext4 with a journal in a loop device, as that of %s has none", ownPlace)
	return dir, nil
}

func withoutJournal(dir string) bool {
	var fs unix.Statfs_t
	st, err := os.Stat(dir)
	if err != nil || unix.Statfs(dir, &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		return false
	}
	dev := st.Sys().(*syscall.Stat_t).Dev
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		return false
	}
	task, err := os.ReadFile(filepath.Join("/sys/fs/ext4", filepath.Base(device), "journal_task"))
	return err == nil && strings.Contains(string(task), "none")
}
