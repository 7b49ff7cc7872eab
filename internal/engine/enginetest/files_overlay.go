package enginetest

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// overlayCases are about the overlay that shows the project.
func overlayCases() []Case {
	return []Case{
		{ID: "F25.redirect", Group: "files", Title: "forge overlay redirects", Guarantee: denyRead, Control: None, Setup: Hidden,
			NoControl: "a mount with userxattr never follows redirects; this watches that the workspace is such a mount", Attack: forgeRedirect},
		{ID: "F25.whiteout", Group: "files", Title: "make a whiteout", Guarantee: hide, Control: Outside, Setup: Hidden, Attack: func(e *Env) Outcome {
			return unless(unix.Mknod(filepath.Join(scratchDir(e), "w"+e.id), unix.S_IFCHR|0o600, 0), "mknod c 0 0")
		}},
		{ID: "F25.xattr", Group: "files", Title: "forge whiteouts and opaque directories with extended attributes", Guarantee: hide, Control: None, Setup: Hidden,
			NoControl: "outside there is no overlay", Attack: forgeOpaque},
		{ID: "F25.layers", Group: "files", Title: "reach the overlay's own layers by the paths in mountinfo", Guarantee: denyRead, Control: None,
			NoControl: "outside there is no overlay", Attack: func(e *Env) Outcome {
				b, err := os.ReadFile("/proc/self/mountinfo")
				if err != nil {
					return held("%v", err)
				}
				return reachLayers(e, string(b))
			}},
	}
}

// forgeRedirect marks a directory as moved from elsewhere, as an overlay without userxattr would believe.
func forgeRedirect(e *Env) Outcome {
	dir := filepath.Join(scratchDir(e), "redirected")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return held("%v", err)
	}
	target := filepath.Dir(e.Canary)
	for _, ns := range []string{"user", "trusted"} {
		for _, value := range []string{target, "/../../../../../../.." + target, "../../../../../.."} {
			_ = unix.Setxattr(dir, ns+".overlay.redirect", []byte(value), 0)
			_ = unix.Setxattr(dir, ns+".overlay.metacopy", nil, 0)
			_ = unix.Setxattr(dir, ns+".overlay.origin", []byte(value), 0)
			for _, name := range []string{filepath.Base(e.Canary), "hostname", "etc/hostname"} {
				if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
					return open("%s became visible", name)
				}
			}
		}
	}
	return held("nothing became visible")
}

// forgeOpaque tries to uncover what the mask layer hides.
func forgeOpaque(e *Env) Outcome {
	if !e.hasDir() {
		return notRun("this project has no fixtures")
	}
	for _, ns := range []string{"user", "trusted"} {
		for _, path := range []string{e.dir(), e.dir("sub"), e.dir(".env")} {
			_ = unix.Setxattr(path, ns+".overlay.opaque", []byte("n"), 0)
			_ = unix.Setxattr(path, ns+".overlay.whiteout", nil, 0)
			_ = unix.Removexattr(path, ns+".overlay.opaque")
			_ = unix.Removexattr(path, ns+".overlay.whiteout")
			_ = unix.Setxattr(path, ns+".overlay.protattr", []byte("x"), 0)
		}
	}
	return first(e.read(e.dir(".env")), e.read(e.dir("sub", ".env")))
}

// reachLayers opens the directories that an overlay names as its own.
func reachLayers(e *Env, mountinfo string) Outcome {
	tried := 0
	for opt := range strings.FieldsFuncSeq(mountinfo, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		key, value, _ := strings.Cut(opt, "=")
		if !strings.HasPrefix(key, "lowerdir") && key != "upperdir" && key != "workdir" {
			continue
		}
		for path := range strings.SplitSeq(value, ":") {
			if !strings.HasPrefix(path, "/") || path == e.Work {
				continue
			}
			tried++
			if _, err := os.ReadDir(path); err == nil {
				return open("%s %q can be listed", key, path)
			}
		}
	}
	return held("%d paths named, none reachable", tried)
}
