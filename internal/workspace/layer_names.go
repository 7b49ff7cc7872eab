package workspace

import (
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// twins finds, for the names that a layer adds to a directory, another name there that file systems without regard to case or to Unicode
// normalisation (ext4 casefold, APFS, NTFS, a share mounted from either) take for the same: the second would overwrite the first.
// A name that the layer deletes is no twin, so README for readme is a rename.
func (l *Layer) twins(p *place, pairs []pair) map[string]string {
	if !slices.ContainsFunc(pairs, func(q pair) bool { return q.host.Type == Absent && q.in.Type != Absent }) {
		return nil
	}
	there := map[string]string{} // key to the name that was there first
	going := map[string]bool{}
	for _, q := range pairs {
		going[q.name] = q.in.Type == Absent
	}
	for _, name := range l.hostNames(p) {
		if !going[name] {
			there[nameKey(name)] = name
		}
	}
	added := make([]string, 0, len(pairs))
	for _, q := range pairs {
		if q.host.Type == Absent && q.in.Type != Absent {
			added = append(added, q.name)
		}
	}
	slices.Sort(added)
	twins := map[string]string{}
	for _, name := range added {
		key := nameKey(name)
		if other, ok := there[key]; ok {
			twins[name] = other
		} else {
			there[key] = name
		}
	}
	return twins
}

// hostNames lists the project's side of a place, or nothing.
func (l *Layer) hostNames(p *place) []string {
	if !p.host {
		return nil
	}
	fd, err := l.project.openDir(p.rel)
	if err != nil {
		return nil
	}
	defer closeFd(fd)
	names, _ := namesIn(fd)
	return names
}

// nameKey is equal for names that differ in case or in Unicode normalisation only.
func nameKey(name string) string {
	var b strings.Builder
	var marks []rune
	flush := func() {
		slices.Sort(marks) // the canonical order, but for marks of one class, whose order matters in scripts only
		for _, m := range marks {
			b.WriteRune(m)
		}
		marks = marks[:0]
	}
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		if r == utf8.RuneError && n <= 1 {
			flush()
			b.WriteByte(name[0]) // not UTF-8: a byte is itself
			name = name[1:]
			continue
		}
		name = name[n:]
		for _, d := range decompose(r) {
			if unicode.Is(unicode.Mn, d) {
				marks = append(marks, foldRune(d))
				continue
			}
			flush()
			if d == 'ß' || d == 'ẞ' {
				b.WriteString("ss")
				continue
			}
			b.WriteRune(foldRune(d))
		}
	}
	flush()
	return b.String()
}

// foldRune returns the same rune for all cases of a letter.
func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		return unicode.ToLower(r)
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return unicode.ToLower(least)
}

func decompose(r rune) []rune {
	const first, vowels, trails, last = 0xac00, 21, 28, 0xd7a3 // Hangul, Unicode 3.12
	switch {
	case r < 0xc0:
		return []rune{r}
	case first <= r && r <= last:
		s := r - first
		d := []rune{0x1100 + s/(vowels*trails), 0x1161 + s%(vowels*trails)/trails}
		if t := s % trails; t != 0 {
			d = append(d, 0x11a7+t)
		}
		return d
	}
	if d, ok := decomposed()[r]; ok {
		return []rune(d)
	}
	return []rune{r}
}

var decomposed = sync.OnceValue(func() map[rune]string {
	m := make(map[rune]string, strings.Count(decompositions, "\n"))
	for line := range strings.Lines(decompositions) {
		r, n := utf8.DecodeRuneInString(line)
		m[r] = line[n : len(line)-1]
	}
	return m
})
