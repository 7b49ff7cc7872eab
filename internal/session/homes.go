package session

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Home is what sandboxes of a project have for a home.
type Home struct {
	ID      string    `json:"id"`
	Project string    `json:"project"`
	Dir     string    `json:"dir"`
	Size    int64     `json:"size"`  // bytes on disk
	Since   time.Time `json:"since"` // of the last change in it that can be seen
	Running bool      `json:"running,omitempty"`
}

// HomeFile is one thing that a run left in a home.
type HomeFile struct {
	Path  string    `json:"path"`
	Kind  string    `json:"kind"` // file, link, other, or unreadable for a directory that cannot be looked into
	Size  int64     `json:"size"`
	Since time.Time `json:"since"`
	Laid  string    `json:"laid,omitempty"` // as-laid or changed: casemate wrote it for an agent
}

// Homes lists them with what each takes.
func Homes(st *store.Store) ([]Home, error) {
	found, err := st.Homes()
	if err != nil {
		return nil, err
	}
	list := []Home{}
	for _, f := range found {
		h := Home{ID: f.ID, Project: f.Project, Dir: f.Dir, Running: homeInUse(st, filepath.Dir(f.Dir)) != nil}
		var own unix.Stat_t
		if unix.Lstat(f.Dir, &own) == nil {
			h.Size, h.Since = own.Blocks*512, time.Unix(own.Mtim.Unix())
		}
		err := walkHome(f.Dir, func(_ string, _ int, st *unix.Stat_t) {
			h.Size += st.Blocks * 512
			if t := time.Unix(st.Mtim.Unix()); t.After(h.Since) {
				h.Since = t
			}
		})
		if err != nil {
			return nil, err
		}
		list = append(list, h)
	}
	return list, nil
}

// FindHomes returns those that are meant: by the ID of casemate home ls, the path of a project, or the project itself.
func FindHomes(st *store.Store, name, project string) ([]Home, error) {
	all, err := Homes(st)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = project
	}
	if abs, err := filepath.Abs(name); err == nil && strings.Contains(name, "/") {
		name = followed(abs)
	}
	return slices.DeleteFunc(all, func(h Home) bool { return h.ID != name && h.Project != name }), nil
}

// HomeFiles lists what is in a home, empty files and directories excepted. While a sandbox has it nothing is listed: what is looked at would change meanwhile.
func HomeFiles(st *store.Store, h Home) ([]HomeFile, error) {
	if err := homeInUse(st, filepath.Dir(h.Dir)); err != nil {
		return nil, err
	}
	laid, err := readLaid(h.Dir)
	if err != nil {
		laid = map[string]string{}
	}
	files := []HomeFile{}
	err = walkHome(h.Dir, func(rel string, dir int, st *unix.Stat_t) {
		f := HomeFile{Path: rel, Kind: "file", Size: st.Size, Since: time.Unix(st.Mtim.Unix())}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if dir >= 0 {
				return
			}
			f.Kind = "unreadable"
		case unix.S_IFREG:
			if st.Size == 0 {
				return
			}
			if sum, ours := laid[rel]; ours {
				f.Laid = "changed"
				if sum == digestAt(dir, path.Base(rel)) {
					f.Laid = "as-laid"
				}
			}
		case unix.S_IFLNK:
			f.Kind = "link"
		default:
			f.Kind = "other"
		}
		files = append(files, f)
	})
	return files, err
}

// digestAt is the digest of a small file, or "".
func digestAt(dir int, name string) string {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	text := make([]byte, 1<<20)
	n, err := unix.Read(fd, text)
	if err != nil {
		return ""
	}
	return digest(text[:n])
}

// maxHomeDepth is how deep a home is looked into: each level holds a descriptor.
const maxHomeDepth = 100

// walkHome calls see for everything below a home, with the descriptor of the directory that it is in. It follows no link: whatever ran in the sandbox could
// have laid one. A directory comes after what is in it, or with -1 where it cannot be looked into.
func walkHome(home string, see func(rel string, dir int, st *unix.Stat_t)) error {
	fd, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("home %s: %w", home, err)
	}
	walkHomeAt(fd, "", see)
	return nil
}

// walkHomeAt takes the descriptor.
func walkHomeAt(fd int, below string, see func(rel string, dir int, st *unix.Stat_t)) {
	f := os.NewFile(uintptr(fd), below)
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	slices.Sort(names)
	for _, name := range names {
		var st unix.Stat_t
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		rel, at := path.Join(below, name), fd
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			inner, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			switch {
			case err != nil:
				at = -1
			case strings.Count(rel, "/") >= maxHomeDepth:
				unix.Close(inner)
				at = -1
			default:
				walkHomeAt(inner, rel, see)
			}
		}
		see(rel, at, &st)
	}
}
