package workspace

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// copyAttributes copies the extended attributes of an open file. Those of overlayfs are part of what the layer says; of the others, which never
// leave a layer, those that this user may not set are left out.
func copyAttributes(to, from int) error {
	size, err := unix.Flistxattr(from, nil)
	if err != nil || size == 0 {
		return ignoreUnsupported(err)
	}
	list := make([]byte, size)
	if size, err = unix.Flistxattr(from, list); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:size]), "\x00"), "\x00") {
		if name == "security.selinux" { // the system's own word about the place where a file is
			continue
		}
		err := copyAttribute(to, from, name)
		if err != nil && (strings.HasPrefix(name, xattrOverlay) || !errors.Is(err, unix.EPERM)) {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
	}
	return nil
}

func copyAttribute(to, from int, name string) error {
	size, err := unix.Fgetxattr(from, name, nil)
	if err != nil {
		return err
	}
	value := make([]byte, size)
	if size, err = unix.Fgetxattr(from, name, value); err != nil {
		return err
	}
	return unix.Fsetxattr(to, name, value[:size], 0)
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}
