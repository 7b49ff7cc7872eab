package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is a prepared /etc. It is held until Close: nobody removes it meanwhile.
type Tree struct {
	Path string // the directory to show as /etc
	lock int    // the generation's directory, with a shared flock(2)
}

// Close lets the tree be removed. Call it when the sandbox has ended.
func (t *Tree) Close() { unix.Close(t.lock) }

// Etc returns an /etc for the options, from dir if one is there that is still true, or builds it. dir must be writable by nobody else.
//
// A generation is dir/<digest of the options>.<random>, with the tree in root/ and a stamp of what it was made from; the link
// dir/<digest> leads to the current one. Builders do not wait for each other: each makes its own, and the last link stands.
func Etc(dir string, o EtcOptions) (*Tree, error) {
	return etcFrom("/etc", dir, o)
}

func etcFrom(host, dir string, o EtcOptions) (*Tree, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	current := filepath.Join(dir, o.digest(host))
	if t := openGeneration(current); t != nil {
		return t, nil
	}
	t, err := build(host, dir, current, o)
	if err != nil {
		return nil, fmt.Errorf("an /etc for the sandbox: %w", err)
	}
	sweep(dir)
	return t, nil
}

// etcVersion changes when the table or the way of building does, so that a new casemate does not use an old one's trees.
const etcVersion = 4

// digest is over all options. Package fmt prints a structure in twenty times as long, at every start.
func (o EtcOptions) digest(host string) string {
	h := sha256.New()
	var b []byte
	for _, n := range [...]int{etcVersion, o.UID, o.GID} {
		b = append(strconv.AppendInt(b, int64(n), 10), 0)
	}
	for _, s := range [...]string{host, o.Name, o.Home, o.Shell, o.Hostname, o.Resolver} { // none holds NUL: check
		b = append(append(b, s...), 0)
	}
	for _, s := range o.Places { // nor does a path, and none is empty
		b = append(append(b, s...), 0)
	}
	b = append(b, 0)
	h.Write(b)
	h.Write(o.GitConfig)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// openGeneration opens the generation that link leads to, unless it is missing, being removed, or no longer true.
func openGeneration(link string) *Tree {
	fd, err := unix.Open(link, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	// The stamp is the first thing that a remover takes away, under an exclusive lock: read it after locking.
	if unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) == nil {
		if result, ok := decode(readAt(fd, "stamp"), time.Now()); ok {
			return &Tree{Path: filepath.Join(filepath.Dir(link), string(result), "root"), lock: fd}
		}
	}
	unix.Close(fd)
	return nil
}

// readAt reads a file below a directory, with three system calls where os.ReadFile needs seven.
func readAt(dir int, name string) []byte {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	n, err := unix.Read(fd, buf)
	if err != nil || n == len(buf) { // a stamp is a few kilobytes; a longer one is no stamp of ours
		return nil
	}
	return buf[:n]
}

func build(host, dir, current string, o EtcOptions) (*Tree, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name := filepath.Base(current) + "." + unique()
	generation := filepath.Join(dir, name)
	if err := os.Mkdir(generation, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(generation, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := fill(host, fd, generation, o); err != nil {
		unix.Close(fd)
		os.RemoveAll(generation)
		return nil, err
	}
	return &Tree{Path: filepath.Join(generation, "root"), lock: fd}, point(current, name)
}

func fill(host string, fd int, generation string, o EtcOptions) error {
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return err
	}
	b := etcBuild{host: host, to: filepath.Join(generation, "root"), o: o, stamp: newStamp()}
	if err := b.mkdir(b.to); err != nil {
		return err
	}
	if err := b.run(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(generation, "stamp"), b.stamp.encode([]byte(filepath.Base(generation))), 0o600)
}

// point lets the link current lead to the new generation, in one step.
func point(current, name string) error {
	temporary := filepath.Join(filepath.Dir(current), name+".link")
	if err := os.Symlink(name, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, current)
}

const (
	settling = time.Minute        // younger generations may be somebody's who has not locked yet
	unused   = 8 * 24 * time.Hour // a used one is rebuilt daily, so an older one belongs to options that nobody has any more
)

// sweep removes generations that no link leads to and no sandbox uses. It does what it can; what is in use stays for the next time.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		key, suffix, generation := strings.Cut(e.Name(), ".")
		st, err := e.Info()
		if err != nil || !generation || time.Since(st.ModTime()) < settling {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if strings.HasSuffix(suffix, ".link") {
			os.Remove(path) // of a builder that died
			continue
		}
		text, err := os.Readlink(filepath.Join(dir, key))
		isCurrent := err == nil && text == e.Name()
		if e.IsDir() && (!isCurrent || time.Since(st.ModTime()) > unused) {
			remove(path)
		}
	}
}

func remove(generation string) {
	fd, err := unix.Open(generation, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	if err := unix.Unlinkat(fd, "stamp", 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	os.RemoveAll(generation)
}
