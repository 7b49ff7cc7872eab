package guest

import (
	"os"

	"golang.org/x/sys/unix"
)

// systemDirs returns the system's trees, read-only, and the links of a merged /usr. Nothing of /sys, /var, /run, /srv, /boot and /home is
// the system's for this purpose; /etc is made, /dev, /proc and /tmp are new.
func (l *look) systemDirs() []Place {
	l.stamp.watch("/") // every tree that comes or goes is an entry of it
	var out []Place
	for _, dir := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/nix/var/nix/profiles", "/gnu/store"} {
		out = l.systemDir(out, dir)
	}
	l.stamp.watch("/opt")
	if len(names("/opt")) > 0 {
		out = l.systemDir(out, "/opt")
	}
	out = l.systemDir(out, "/run/current-system") // NixOS: a link into /nix/store
	if l.isDir(linuxbrew) {
		l.stamp.watch(linuxbrew)
		for _, dir := range []string{"bin", "sbin", "Cellar", "lib", "opt", "include", "share", "libexec", "Homebrew", "etc/openssl@3", "etc/ca-certificates"} {
			out = l.systemDir(out, linuxbrew+"/"+dir)
		}
	}
	for i := range out {
		if out[i].Target == "/usr" {
			out[i].Hide = l.systemHides()
		}
	}
	return out
}

// systemDir adds a directory, or recreates a link. Of /nix only the store and the profiles are shown: /nix/var holds the daemon's socket, and
// a read-only mount does not keep anybody from connecting to one.
func (l *look) systemDir(out []Place, dir string) []Place {
	st, err := l.lstat(dir)
	if err != nil {
		return out
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		if text, err := os.Readlink(dir); err == nil {
			return append(out, Place{Target: dir, Source: text, Link: true})
		}
	case unix.S_IFDIR:
		return append(out, Place{Target: dir, Source: dir, Dev: uint64(st.Dev), Ino: st.Ino})
	}
	return out
}

// systemHides lists files of /usr that everybody may read and that hold tokens where an administrator has set them for all.
func (l *look) systemHides() []string {
	var out []string
	for _, dir := range []string{"/usr/etc", "/usr/local/etc"} {
		if !l.exists(dir) {
			continue
		}
		l.stamp.watch(dir)
		for _, name := range []string{"npmrc", "pip.conf", "gitconfig", "netrc"} {
			if l.exists(dir + "/" + name) {
				out = append(out, dir+"/"+name)
			}
		}
	}
	return out
}
