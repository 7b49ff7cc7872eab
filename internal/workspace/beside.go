package workspace

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// What casemate knows of a layer lies in files beside its tree, out of the sandbox's reach.

// readBeside reads one of them; nil if it is not there.
func readBeside(top *rooted, name string) ([]byte, error) {
	n, err := top.stat(name)
	if err != nil || n.Type == Absent {
		return nil, err
	}
	f, err := top.openFile(name, n)
	if err != nil {
		return nil, fmt.Errorf("read %q in %q: %w", name, top.name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read %q in %q: %w", name, top.name, err)
	}
	return data, nil
}

// replaceBeside replaces one at once, or removes it if there is nothing to say.
func replaceBeside(top *rooted, name string, data []byte) error {
	if len(data) == 0 {
		if err := unix.Unlinkat(top.fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %q in %q: %w", name, top.name, err)
		}
		return nil
	}
	fd, err := unix.Openat(top.fd, name+".new", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("write %q in %q: %w", name, top.name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(top.fd, name+".new", top.fd, name)
	}
	if err != nil {
		unix.Unlinkat(top.fd, name+".new", 0)
		return fmt.Errorf("write %q in %q: %w", name, top.name, err)
	}
	return nil
}

// addLine adds one to a file that nobody else writes. What a full disk cut short is taken off again: the next line would be part of it.
func addLine(f *os.File, line []byte) error {
	n, err := f.Write(append(line, '\n'))
	if err == nil || n == 0 {
		return err
	}
	end, e := f.Seek(0, io.SeekCurrent)
	if e == nil {
		e = f.Truncate(end - int64(n))
	}
	return errors.Join(err, e)
}
