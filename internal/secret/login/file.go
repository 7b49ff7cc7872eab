package login

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"casemate.dev/internal/secret"
	"golang.org/x/sys/unix"
)

// maxFile is more than any login has: beside it lie those of MCP servers.
const maxFile = 1 << 20

var errDamaged = errors.New("it is damaged: it is not the JSON that the agent writes")

// Get is the login's access token as it is now, and until when it is good. Where it ends soon, renew is called, which is to have another written into the file;
// as long as the old one is good, an error of renew is none of ours.
func (f File) Get(ctx context.Context, now func() time.Time, renew func(context.Context) error) (secret.Value, time.Time, error) {
	t, err := f.read()
	if err != nil {
		return secret.Value{}, time.Time{}, err
	}
	if !t.due(now()) {
		return t.value()
	}
	failed := renew(ctx)
	if t, err = f.read(); err != nil {
		return secret.Value{}, time.Time{}, err
	}
	if !t.over(now()) {
		return t.value()
	}
	if failed == nil {
		failed = problem("is the clock right? otherwise "+f.Again, "the login of %s ended at %s, although it was just renewed", f.Agent, t.expires.UTC().Format(time.RFC3339))
	}
	return secret.Value{}, time.Time{}, failed
}

// Check says whether there is a login that can be used, or renewed.
func (f File) Check() error {
	_, err := f.read()
	return err
}

func (f File) read() (tokens, error) {
	contents, err := f.contents()
	defer clear(contents)
	if err != nil {
		return tokens{}, err
	}
	return f.parse(contents)
}

func (f File) parse(contents []byte) (tokens, error) {
	t, err := f.form.read(contents)
	switch {
	case errors.Is(err, errNone):
		return t, f.none(f.Path)
	case err != nil:
		return t, problem(f.Again, "the login of %s in %q cannot be used: %w", f.Agent, f.Path, err)
	}
	return t, nil
}

// contents reads the file, which must be the person's alone, in a directory that nobody else writes. It looks at what it opened.
func (f File) contents() ([]byte, error) {
	if err := f.checkDir(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(f.Path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return nil, f.none(f.Path)
	case err == unix.ELOOP:
		return nil, problem("put the file itself there: whoever renews a login replaces the file", "%q is a symbolic link", f.Path)
	case err != nil:
		return nil, &fs.PathError{Op: "open", Path: f.Path, Err: err}
	}
	file := os.NewFile(uintptr(fd), f.Path)
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, problem("", "%q is no file", f.Path)
	case int(st.Uid) != os.Geteuid():
		return nil, problem("run casemate as the user whose login it is", "%q belongs to user %d, and not to you", f.Path, st.Uid)
	case st.Mode&0o077 != 0:
		return nil, problem("chmod 600 "+f.Path+"; and log out and in again if others may have read it", "others may read or write %q (mode %04o)", f.Path, st.Mode&0o7777)
	case st.Nlink != 1:
		return nil, problem("remove the other name: a renewed login would not be in it", "%q has %d names (hard links)", f.Path, st.Nlink)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%q is longer than %d bytes", f.Path, maxFile)
	}
	if err != nil {
		clear(b)
		return nil, err
	}
	return b, nil
}

func (f File) checkDir() error {
	dir := filepath.Dir(f.Path)
	var st unix.Stat_t
	switch err := unix.Lstat(dir, &st); {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return f.none(f.Path)
	case err != nil:
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return problem("casemate secret rm "+f.Name+", and set it again: the directory was another one then", "%q is no directory", dir)
	case int(st.Uid) != os.Geteuid():
		return problem("run casemate as the user whose login it is", "%q belongs to user %d, and not to you", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return problem("chmod go-w "+dir, "others may write into %q (mode %04o)", dir, st.Mode&0o7777)
	}
	return nil
}

// draft is the file that will replace a login. It is there before the vendor is asked, with room for all that will be in it: once a refresh token has been used,
// the one that came for it must not be lost.
//
// Its name has a digest of that refresh token. So one that somebody was killed over is known for what it is: the login that belongs to what is in the file, which
// only has to be put in its place, or one of another time.
type draft struct {
	file *os.File
	path string
}

func (f File) draftOf(refresh string) string {
	sum := sha256.Sum256([]byte(refresh))
	return f.draftPrefix() + hex.EncodeToString(sum[:8])
}

func (f File) draftPrefix() string { return f.Path + ".casemate-" }

func (f File) newDraft(refresh string, size int) (*draft, error) {
	d := &draft{path: f.draftOf(refresh)}
	var err error
	if d.file, err = os.OpenFile(d.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil { // O_EXCL follows no link
		return nil, err
	}
	if err := reserve(d.file, size+64<<10); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		d.drop()
		return nil, &fs.PathError{Op: "make room in", Path: d.path, Err: err}
	}
	return d, nil
}

// reserve makes room. The length stays that of what is in the file (FALLOC_FL_KEEP_SIZE): who is killed as soon as that is written has left a whole one.
func reserve(file *os.File, size int) error {
	err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(size))
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS { // as NFS 4.1, ext3 and many of FUSE's have it
		return fill(file, size)
	}
	return err
}

// fill makes room where the file system reserves none, of what may follow JSON.
func fill(file *os.File, size int) error {
	if _, err := file.Write(bytes.Repeat([]byte{' '}, size)); err != nil {
		return err
	}
	return file.Sync()
}

func (d *draft) drop() {
	d.file.Close()
	os.Remove(d.path)
}

// become puts the new contents in the place of the login, whole, with the mode that it has. Once they are on the disk, an error leaves them there.
func (d *draft) become(f File, contents []byte) error {
	defer d.file.Close()
	if err := d.write(contents); err != nil {
		return err
	}
	var st unix.Stat_t
	if unix.Lstat(f.Path, &st) == nil {
		d.file.Chmod(fs.FileMode(st.Mode & 0o700))
	}
	return f.replaceBy(d.path)
}

func (d *draft) write(contents []byte) error {
	if _, err := d.file.WriteAt(contents, 0); err != nil {
		return err
	}
	if err := d.file.Truncate(int64(len(contents))); err != nil {
		return err
	}
	return d.file.Sync()
}

func (f File) replaceBy(draft string) error {
	if err := os.Rename(draft, f.Path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// finish does what somebody who was killed had left to do, under the locks: it puts a whole draft in its place where it belongs to the login that is there, and
// removes all others.
func (f File) finish() error {
	left, err := filepath.Glob(globbed(f.draftPrefix()) + "*")
	if err != nil || len(left) == 0 {
		return err
	}
	t, err := f.read()
	for _, path := range left {
		if err == nil && path == f.draftOf(t.refresh) {
			if _, whole := (File{f.Kind, path}).read(); whole == nil {
				if err := f.replaceBy(path); err != nil {
					return err
				}
				continue
			}
		}
		if err == nil { // a login that cannot be read says nothing about what belongs to it
			os.Remove(path)
		}
	}
	return nil
}

// globbed is a path as Glob matches it itself.
func globbed(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}
