package limits

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// These three use system calls directly: os.ReadFile and os.WriteFile add an fstat, an epoll registration and a finalizer to each file, and
// this package opens a dozen of them at every start.

func openat(dir int, path string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// readAt returns what buf can hold of a file, which is always from one snapshot for the small files of proc and cgroupfs.
func readAt(dir int, path string, buf []byte) ([]byte, error) {
	fd, err := openat(dir, path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		got, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case got == 0:
			return buf[:n], nil
		}
		n += got
	}
	return buf[:n], nil
}

// readOnce is readAt with a single read, for files that the kernel writes whole into the first one.
func readOnce(dir int, path string, buf []byte) ([]byte, error) {
	fd, err := openat(dir, path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

func read(path string) ([]byte, error) {
	buf := make([]byte, 4096)
	for {
		data, err := readAt(unix.AT_FDCWD, path, buf)
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if len(data) < len(buf) {
			return data, nil
		}
		buf = make([]byte, 4*len(buf))
	}
}

// readShow is read for files that the kernel prints in one piece, which saves the read that finds the end.
func readShow(path string) ([]byte, error) {
	buf := make([]byte, 4096)
	data, err := readOnce(unix.AT_FDCWD, path, buf)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	if len(data) == len(buf) {
		return read(path)
	}
	return data, nil
}

func write(path, value string) error {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_WRONLY)
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		unix.Close(fd)
	}
	if err != nil {
		return &fs.PathError{Op: "write " + value + " to", Path: path, Err: err}
	}
	return nil
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
