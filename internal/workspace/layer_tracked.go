package workspace

import (
	"slices"
	"strings"
)

// indexPaths are the paths that a git index holds, sorted by byte.
type indexPaths []string

func (t indexPaths) holds(rel string) bool {
	_, found := slices.BinarySearch(t, rel)
	return found
}

// leadsTo says whether git tracks a path, or something beneath it.
func (t indexPaths) leadsTo(rel string) bool {
	if t.holds(rel) {
		return true
	}
	i, _ := slices.BinarySearch(t, rel+"/")
	return i < len(t) && strings.HasPrefix(t[i], rel+"/")
}

// listIndex lists the paths of an index; none if it is not there or cannot be read.
func listIndex(file string) indexPaths {
	data, _, err := readWhole(file, maxIndex)
	if err != nil {
		return nil
	}
	for _, hash := range []int{20, 32} { // as in matchIndex
		if names, err := indexNames(data, hash); err == nil {
			return names
		}
	}
	return nil
}

// trackedAtBirth are the paths that git on the host tracked when the layer was born, by the index that was kept then: nothing inside reaches it.
func (l *Layer) trackedAtBirth() indexPaths {
	if !l.listed && l.Base.Index != "" {
		l.born = listIndex(l.Base.Index)
	}
	l.listed = true
	return l.born
}

// deletedByHost says why a file of the layer that the host has not got is no new one, or "": git tracked it when the layer was born, and it was not
// gone already when the run began that wrote it. Of what git did not track, nothing tells this from a file that the sandbox has made.
func (l *Layer) deletedByHost(rel string, q *pair) string {
	made := q.in.Type == File || q.in.Type == Symlink
	if !made || q.host.Type != Absent || l.fromHere(rel, q.host) {
		return ""
	}
	if l.goneSince(rel) {
		return hostDeletedIt
	}
	if !l.trackedAtBirth().holds(rel) || l.restedSince(rel, l.mountBefore(q.made)) {
		return ""
	}
	return hostDeletedIt
}

const hostDeletedIt = "the host deleted it"

// restedSince reports whether the host has not changed since then which names there are in the directory of rel, or in what is left above it.
func (l *Layer) restedSince(rel string, then int64) bool {
	for {
		rel = parentOf(rel)
		n, err := l.project.stat(rel)
		if err != nil || n.Type == Dir || rel == "" {
			return err == nil && n.ctime <= then
		}
	}
}
