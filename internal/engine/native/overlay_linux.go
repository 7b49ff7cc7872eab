package native

import (
	"strconv"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// The overlay of a project, and of each git directory elsewhere.

// layers are the descriptors of an overlay's lower directory, mask and layer. Their numbers are known when the program is written, so that
// no path has to be quoted in mount options.
type layers struct {
	lower, mask, layer int
	taken              bool // by root, and not attached anywhere yet
}

// openLayers opens those of one overlay at three numbers from first on. There is an overlay for the project, and one for each git directory elsewhere
// that a working tree in it belongs to.
func openLayers(p *program, m plan.Mount, first int) layers {
	l := layers{first, first + 1, first + 2, false}
	p.place(p.open(m.Source, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW), l.lower, m)
	p.place(p.open(m.Mask, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW), l.mask, plan.Mount{})
	p.place(p.open(m.Layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW), l.layer, plan.Mount{})
	return l
}

// options are those of the overlay, once its layers can be mounted.
//
// Unmounting an overlay syncs the whole file system that its layer is on, which takes as long as everybody else's writes do. A volatile one
// does not; the supervisor syncs a layer that is kept. The kernel leaves a mark, to be removed before the next mount: the layer is sound
// unless the machine itself stopped during the run (overlayfs.rst, Volatile mount).
func (l layers) options(p *program) []string {
	at := func(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
	mark := at(l.layer) + "/work/work/incompat/volatile"
	p.Try(unix.ENOENT, unix.SYS_UNLINKAT, here, p.String(mark+"/dirty"), zero)
	p.Try(unix.ENOENT, unix.SYS_UNLINKAT, here, p.String(mark), inside.Int(unix.AT_REMOVEDIR))
	return []string{"lowerdir=" + at(l.mask) + ":" + at(l.lower), "upperdir=" + at(l.layer) + "/upper", "workdir=" + at(l.layer) + "/work", "userxattr", "volatile"}
}

// overlay mounts one on a path below the current directory, which must be in memory that only we have written. A layer must lie in the mounter's
// own mount namespace, so those that root has taken are attached where the overlay will cover them: below it nothing can reach them again,
// as nothing inside can unmount. One call does what takes nine of the newer ones.
func (p *program) overlay(m plan.Mount, l layers) {
	p.Step("overlay of " + m.Source) // see host.Diagnose
	if l.taken {
		for _, fd := range []int{l.lower, l.mask, l.layer} {
			p.attach(inside.Int(fd), m.Target)
		}
	}
	if m.ReadOnly { // the mount, not the file system: that would be another one
		p.attach(p.filesystem("overlay", sealed|unix.MOUNT_ATTR_RDONLY, l.options(p)...).Arg(), m.Target)
		return
	}
	p.mount("overlay", m.Target, unix.MS_NOSUID|unix.MS_NODEV, l.options(p)...)
}

// overlayOn does the same on an opened directory.
func (p *program) overlayOn(m plan.Mount, l layers, on inside.Slot) {
	p.Step("overlay of " + m.Source)
	if l.taken {
		for _, fd := range []int{l.lower, l.mask, l.layer} {
			p.attachOn(inside.Int(fd), on)
		}
	}
	attributes := uint64(sealed)
	if m.ReadOnly {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	p.attachOn(p.filesystem("overlay", attributes, l.options(p)...).Arg(), on)
}

func (p *program) place(fd inside.Slot, number int, m plan.Mount) {
	if m.Ino != 0 {
		p.sameFile(fd, m.Dev, m.Ino)
	}
	p.Call(unix.SYS_DUP3, fd.Arg(), inside.Int(number), inside.Int(unix.O_CLOEXEC))
}
