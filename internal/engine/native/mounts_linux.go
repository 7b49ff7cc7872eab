package native

import (
	"fmt"
	"path"
	"strings"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// The tree that the sandbox sees.

// openSources takes every host tree that will be seen, while the host's tree is still there, and restricts it before anything is attached.
// Of overlays it opens the layers, or has root's: before all else, to have them at numbers from first on.
func openSources(p *program, pl *plan.Plan, at *Attach, first int) ([]inside.Arg, map[int]layers) {
	p.Step("private mounts")
	p.Call(unix.SYS_MOUNT, zero, p.String("/"), zero, inside.Int(unix.MS_REC|unix.MS_PRIVATE), zero)
	trees, opened := make([]inside.Arg, len(pl.Mounts)), map[int]layers{}
	for i, fds := range at.Layers {
		opened[i] = layers{fds[0], fds[1], fds[2], true}
	}
	for i, m := range pl.Mounts {
		if m.Kind == plan.Overlay && pl.Mode != plan.Root {
			p.Step("open " + m.Source)
			opened[i] = openLayers(p, m, first+3*len(opened))
		}
	}
	for i, m := range pl.Mounts {
		switch {
		case at.Trees != nil && at.Trees[i] >= 0:
			trees[i] = inside.Int(at.Trees[i])
		case m.Kind == plan.Bind && !m.Self:
			p.Step("open " + m.Source)
			fd := p.clone(m.Source)
			if m.Ino != 0 {
				p.sameFile(fd, m.Dev, m.Ino)
			}
			p.restrict(fd, attributes(m))
			trees[i] = fd.Arg()
		}
	}
	return trees, opened
}

func attributes(m plan.Mount) uint64 {
	a := uint64(sealed)
	if m.Empty && m.Source == "/dev/null" {
		a &^= unix.MOUNT_ATTR_NODEV
	}
	if !m.Writable {
		a |= unix.MOUNT_ATTR_RDONLY
	}
	if m.NoExec {
		a |= unix.MOUNT_ATTR_NOEXEC
	}
	return a
}

// newRoot makes an empty root in memory and goes there. It is mounted over the old root, where pivot_root will find it, and where only a step
// up from the old one leads (path_resolution(7): a mount on the root itself is not seen from it).
func newRoot(p *program) {
	p.Step("new root")
	p.mount("tmpfs", "/", unix.MS_NOSUID|unix.MS_NODEV, "size=1M", "nr_inodes=4096", "mode=755")
	p.Call(unix.SYS_CHDIR, p.String("/.."))
	p.statfs(".", unix.TMPFS_MAGIC)
}

func mounts(p *program, pl *plan.Plan, trees []inside.Arg, layers map[int]layers) {
	made := map[string]bool{"/": true}
	for i, m := range pl.Mounts {
		p.Step("mount " + m.Target)
		under := cover(pl.Mounts[:i], m.Target)
		switch {
		case under == nil:
			directories(p, made, path.Dir(m.Target))
		case under.Kind == plan.Tmpfs:
			directories(p, made, path.Dir(m.Target))
		}
		switch m.Kind {
		case plan.Symlink:
			p.Call(unix.SYS_SYMLINKAT, p.String(m.Source), here, p.String(relative(m.Target)))
			continue
		case plan.Bind, plan.Overlay, plan.Tmpfs:
			if under != nil && under.Kind != plan.Tmpfs {
				on := p.openBeneath(relative(m.Target))
				if m.Self {
					trees[i] = p.again(on, m)
				}
				if m.Kind == plan.Tmpfs {
					trees[i] = p.filesystem("tmpfs", attributes(m), fmt.Sprintf("size=%d", m.Size), fmt.Sprintf("mode=%o", m.Perm)).Arg()
				}
				if m.Kind == plan.Overlay {
					p.overlayOn(m, layers[i], on)
				} else {
					p.attachOn(trees[i], on)
				}
				continue
			}
			mountPoint(p, made, m)
			switch m.Kind {
			case plan.Overlay:
				p.overlay(m, layers[i])
			case plan.Tmpfs:
				p.mount("tmpfs", m.Target, unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d", m.Size), fmt.Sprintf("mode=%o", m.Perm))
			default:
				p.attach(trees[i], m.Target)
			}
		case plan.Proc:
			mountPoint(p, made, m)
			p.Call(unix.SYS_MOUNT, p.String("proc"), p.String(relative(m.Target)), p.String("proc"), inside.Int(unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), zero)
		case plan.Devices:
			mountPoint(p, made, m)
			devices(p, m)
		}
	}
}

// again takes what is mounted at an opened place, to be mounted over itself: read-only, or only so that its parents cannot be renamed.
func (p *program) again(on inside.Slot, m plan.Mount) inside.Arg {
	fd := p.Get(unix.SYS_OPEN_TREE, on.Arg(), p.String(""), inside.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH))
	p.restrict(fd, attributes(m))
	return fd.Arg()
}

// cover returns the mount that a target lies on, or nil for the root.
func cover(mounts []plan.Mount, target string) *plan.Mount {
	var best *plan.Mount
	for i, m := range mounts {
		if m.Kind != plan.Symlink && strings.HasPrefix(target, m.Target+"/") && (best == nil || len(m.Target) > len(best.Target)) {
			best = &mounts[i]
		}
	}
	return best
}

func mountPoint(p *program, made map[string]bool, m plan.Mount) {
	if made[m.Target] {
		return
	}
	made[m.Target] = true
	if m.File {
		p.Call(unix.SYS_MKNODAT, here, p.String(relative(m.Target)), inside.Int(unix.S_IFREG|0o444), zero)
		return
	}
	p.Call(unix.SYS_MKDIRAT, here, p.String(relative(m.Target)), inside.Int(0o755))
}

func directories(p *program, made map[string]bool, dir string) {
	if made[dir] {
		return
	}
	directories(p, made, path.Dir(dir))
	made[dir] = true
	p.Try(unix.EEXIST, unix.SYS_MKDIRAT, here, p.String(relative(dir)), inside.Int(0o755))
}

// leaveHost makes the new root the only one. The old root is detached as a whole: one umount, because each waits for the kernel's grace
// period under load.
func leaveHost(p *program) {
	p.Step("leave the host's tree")
	p.Call(unix.SYS_PIVOT_ROOT, p.String("."), p.String("."))
	p.Call(unix.SYS_UMOUNT2, p.String("."), inside.Int(unix.MNT_DETACH))
	p.Call(unix.SYS_CHDIR, p.String("/"))
	p.Step("no set-user-ID programs on any mount")
	p.Call(unix.SYS_MOUNT_SETATTR, here, p.String("/"), inside.Int(unix.AT_RECURSIVE), bytesOf(p, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID}), inside.Int(mountAttrSize))
	p.Step("read-only root")
	attr := bytesOf(p, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	p.Call(unix.SYS_MOUNT_SETATTR, here, p.String("/"), zero, attr, inside.Int(mountAttrSize))
}
