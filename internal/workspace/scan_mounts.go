package workspace

import (
	"bytes"
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// findMounts notes what is mounted in the project and where else the project is mounted.
func (s *Survey) findMounts(top *rooted, table []byte) (err error) {
	if table == nil {
		if table, _, err = readWhole("/proc/self/mountinfo", maxMounts); err != nil {
			return err
		}
	}
	var st unix.Statx_t
	if err := unix.Statx(top.fd, "", unix.AT_EMPTY_PATH, statMask|unix.STATX_MNT_ID, &st); err != nil {
		return fmt.Errorf("stat project %q: %w", s.Root, err)
	}
	s.dev = nodeOf(&st).dev
	inside, elsewhere := aliasMounts(parseMounts(table), s.Root, int(st.Mnt_id))
	for _, m := range inside {
		s.find("mount", m, Refused, "another file system is mounted there, and an overlay cannot show it: unmount it, or use files.workspace: live")
	}
	s.Elsewhere = elsewhere
	for _, e := range elsewhere {
		s.find("elsewhere", "", Reported, "the project can also be reached through %q, where nothing is hidden: a sandbox must not see that path", e)
	}
	return nil
}

// maxMounts bounds the mount table: a hundred thousand mounts.
const maxMounts = 16 << 20

// mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	id, parent int
	dev        string // major:minor
	root       string // the directory of the file system that is mounted
	point      string // where
}

// parseMounts skips lines that it cannot read: the table holds mount points named by other users.
func parseMounts(table []byte) (mounts []mount) {
	for line := range bytes.Lines(table) {
		f := bytes.Fields(line)
		if len(f) < 6 {
			continue
		}
		id, err1 := strconv.Atoi(string(f[0]))
		parent, err2 := strconv.Atoi(string(f[1]))
		m := mount{id, parent, string(f[2]), unescapeMount(f[3]), unescapeMount(f[4])}
		if err1 == nil && err2 == nil && path.IsAbs(m.point) && path.IsAbs(m.root) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// unescapeMount undoes the octal escapes of space, tab, newline and backslash.
func unescapeMount(b []byte) string {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) {
			if n, err := strconv.ParseUint(string(b[i+1:i+4]), 8, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, b[i])
	}
	return string(out)
}

// aliasMounts returns what is mounted beneath the project (relative to it), and the other paths of the project or of parts of it. id is the
// mount that the project lies on, because the table also lists mounts that others cover.
func aliasMounts(mounts []mount, project string, id int) (inside, elsewhere []string) {
	var own mount
	for _, m := range mounts {
		if m.id == id {
			own = m
		}
	}
	if own.id == 0 {
		return nil, nil
	}
	content := path.Join(own.root, project[len(trimRoot(own.point)):]) // the project's path in its file system
	for _, m := range mounts {
		if m.parent == id && m.point != project && under(m.point, project) {
			inside = append(inside, m.point[len(project)+1:])
		}
		if m.id == id || m.dev != own.dev {
			continue
		}
		switch {
		case under(trimRoot(content), trimRoot(m.root)):
			if alias := path.Join(m.point, content[len(trimRoot(m.root)):]); alias != project {
				elsewhere = append(elsewhere, alias)
			}
		case under(m.root, content) && !under(m.point, project):
			elsewhere = append(elsewhere, m.point)
		}
	}
	return inside, elsewhere
}

// trimRoot makes "/" the prefix of every absolute path.
func trimRoot(p string) string {
	if p == "/" {
		return ""
	}
	return p
}
