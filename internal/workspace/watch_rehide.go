package workspace

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Rehide removes, through the merged root of a running sandbox, a hidden entry that overlayfs still shows because it was looked up before the mask
// hid it. upper is the sandbox's upper directory. It returns the paths removed: each left a whiteout there, which is no deletion by the sandbox.
//
// What the sandbox itself made under that name stays: that is its own, and no secret of the host. A copy of the host's file that it made by
// opening it for writing is removed.
//
// Everything on the way is hostile, so nothing is resolved by path more than once and no link is followed.
func Rehide(merged, upper int, rel string) (removed []string, err error) {
	h := rehider{merged: &rooted{merged, "merged"}, upper: &rooted{upper, "upper"}, left: maxRehidden}
	if err := h.remove(rel, 0); err != nil {
		return h.removed, fmt.Errorf("hide %q in the running sandbox: %w", rel, err)
	}
	return h.removed, nil
}

const (
	maxRehidden    = 100_000 // entries in a hidden directory
	maxRehideDepth = 200
)

type rehider struct {
	merged, upper *rooted
	removed       []string
	left          int
}

func (h *rehider) remove(rel string, depth int) error {
	if h.left--; h.left < 0 || depth > maxRehideDepth {
		return errors.New("more lies in it than can be hidden")
	}
	if own, err := h.sandboxMade(rel); own || err != nil {
		return err
	}
	dir, err := h.merged.openParent(rel)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	switch err := unix.Unlinkat(dir, baseName(rel), 0); {
	case err == nil:
		h.removed = append(h.removed, rel)
		return nil
	case absent(err):
		return nil
	case err != unix.EISDIR:
		return err
	}
	if err := h.empty(dir, rel, depth); err != nil {
		return err
	}
	switch err := unix.Unlinkat(dir, baseName(rel), unix.AT_REMOVEDIR); {
	case err == nil:
		h.removed = append(h.removed, rel)
		return nil
	case absent(err), err == unix.ENOTEMPTY: // what is left is the sandbox's own
		return nil
	default:
		return err
	}
}

func (h *rehider) empty(dir int, rel string, depth int) error {
	fd, err := unix.Openat(dir, baseName(rel), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := namesIn(fd)
	unix.Close(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := h.remove(join(rel, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// sandboxMade reports whether an entry other than a directory is in the upper layer and was not copied there from below, which overlayfs notes in
// an attribute that the sandbox cannot forge: it escapes those set from inside.
func (h *rehider) sandboxMade(rel string) (bool, error) {
	fd, err := h.upper.open(rel, unix.O_PATH|unix.O_NOFOLLOW)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	n, err := statFd(fd)
	if err != nil || n.Type == Dir || n.blank {
		return false, err
	}
	dir, err := h.upper.openParent(rel)
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	// Its value is empty where the lower file system has no stable handles; that it is there says enough.
	_, err = unix.Lgetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, baseName(rel)), "user.overlay.origin", nil)
	if err == unix.ENODATA {
		return true, nil
	}
	return false, err
}
