package limits

import (
	"bytes"
	"strings"
)

// cgroupMount is one mounted hierarchy, from /proc/self/mountinfo.
type cgroupMount struct {
	v2          bool
	root        string   // the group that is seen at point
	point       string   // where it is mounted
	controllers []string // v1 only
}

// membership is one line of /proc/self/cgroup.
type membership struct {
	controllers []string // none: the v2 hierarchy
	path        string
}

// parseMounts returns the cgroup mounts in the order of the file; a later mount of the same hierarchy hides an earlier one.
// The format is that of proc_pid_mountinfo(5): optional fields of unknown number end with a dash.
func parseMounts(data []byte) []cgroupMount {
	var found []cgroupMount
	for line := range bytes.Lines(data) {
		if !bytes.Contains(line, []byte(" - cgroup")) {
			continue
		}
		before, after, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 {
			continue
		}
		m := cgroupMount{root: unescape(left[3]), point: unescape(left[4])}
		switch right[0] {
		case "cgroup2":
			m.v2 = true
		case "cgroup":
			m.controllers = strings.Split(right[2], ",")
		default:
			continue
		}
		found = append(found, m)
	}
	return found
}

// unescape undoes the octal escapes that the kernel writes for blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) bool {
	return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7'
}

func parseMemberships(data []byte) []membership {
	var found []membership
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			continue
		}
		m := membership{path: f[2]}
		if f[1] != "" {
			m.controllers = strings.Split(f[1], ",")
		}
		found = append(found, m)
	}
	return found
}

// directory is where the group at path is visible, if it is: a container may see only a part of the tree, and a cgroup namespace shows
// what lies outside it as "/..".
func (m cgroupMount) directory(path string) (string, bool) {
	if strings.HasPrefix(path, "/..") || strings.HasPrefix(m.root, "/..") {
		return "", false
	}
	if m.root != "/" {
		rest, ok := strings.CutPrefix(path, m.root)
		if !ok || rest != "" && rest[0] != '/' {
			return "", false
		}
		path = rest
	}
	return m.point + strings.TrimSuffix(path, "/"), true
}

// field returns the number after name at the start of a line, as in /proc/N/status, memory.events or cpu.stat, or -1.
func field(data []byte, name string) int64 {
	for len(data) > 0 {
		line := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		if len(line) > len(name) && string(line[:len(name)]) == name && (line[len(name)] == ' ' || line[len(name)] == '\t' || line[len(name)] == ':') {
			return number(line[len(name):])
		}
	}
	return -1
}

// number reads the first decimal number in b, or -1. One that does not fit is the largest that does.
func number(b []byte) int64 {
	i := 0
	for i < len(b) && (b[i] < '0' || b[i] > '9') {
		i++
	}
	if i == len(b) {
		return -1
	}
	var n int64
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		d := int64(b[i] - '0')
		if n > (1<<63-1-d)/10 {
			return 1<<63 - 1
		}
		n = n*10 + d
	}
	return n
}
