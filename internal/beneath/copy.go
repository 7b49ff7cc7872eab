package beneath

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Copy copies size bytes from the beginning of src: shared where the file system can (FICLONE), else range by range with holes left out, so
// that a sparse file takes no more room than it did. A source that has become shorter is an error.
func Copy(dst, src *os.File, size int64) error {
	d, s := int(dst.Fd()), int(src.Fd())
	if unix.IoctlFileClone(d, s) == nil {
		if st, err := dst.Stat(); err != nil || st.Size() != size {
			return errors.Join(err, ErrReplaced)
		}
		return nil
	}
	if err := unix.Ftruncate(d, size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		from, to, err := nextData(s, at, size)
		if err != nil {
			return err
		}
		if err := copyRange(dst, src, from, to); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// nextData finds the next range that is not a hole.
func nextData(fd int, at, size int64) (from, to int64, err error) {
	from, err = unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // a hole to the end
		return size, size, nil
	case errors.Is(err, unix.EINVAL): // a file system that cannot say
		return at, size, nil
	case err != nil:
		return 0, 0, err
	}
	if to, err = unix.Seek(fd, from, unix.SEEK_HOLE); err != nil {
		return 0, 0, err
	}
	return min(from, size), min(to, size), nil
}

func copyRange(dst, src *os.File, from, to int64) error {
	for from < to {
		in, out := from, from
		n, err := unix.CopyFileRange(int(src.Fd()), &in, int(dst.Fd()), &out, int(min(to-from, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
		case err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EIO || err == unix.EFBIG:
			return err
		case err != nil: // across file systems, or one that cannot
			return copyThrough(dst, src, from, to)
		case n == 0:
			return ErrReplaced
		}
		from += int64(max(n, 0))
	}
	return nil
}

func copyThrough(dst, src *os.File, from, to int64) error {
	n, err := io.Copy(io.NewOffsetWriter(dst, from), io.NewSectionReader(src, from, to-from))
	if err == nil && n != to-from {
		err = ErrReplaced
	}
	return err
}

// ErrReplaced says that a file is not the one that was looked at any more.
var ErrReplaced = errors.New("it was replaced while it was read")
