package workspace

import (
	"fmt"
	"strconv"
	"strings"
)

// births says when the entries of a forked layer were made: their own birth times are those of the copy, and with them a change of the host's
// between the two would count as seen. By number and birth time of the copy, so an entry that has the number later is not meant.
type births map[uint64]birth

type birth struct{ copied, made int64 }

const birthsName, birthsHeader = "births", "casemate births 1\n"

// of is when the layer's entry n was made, 0 if the file system does not say.
func (b births) of(n node) int64 {
	if at, known := b[n.ino]; known && at.copied == n.btime {
		return at.made
	}
	return n.btime
}

func (b births) note(n node, made int64) { b[n.ino] = birth{n.btime, made} }

// write puts the times beside the tree, out of the sandbox's reach.
func (b births) write(top *rooted) error {
	text := []byte(birthsHeader)
	for ino, at := range b {
		text = append(strconv.AppendUint(text, ino, 10), ' ')
		text = append(strconv.AppendInt(text, at.copied, 10), ' ')
		text = append(strconv.AppendInt(text, at.made, 10), '\n')
	}
	return replaceBeside(top, birthsName, text)
}

// readBirths reads the times of a forked layer; any other has none.
func readBirths(top *rooted) (births, error) {
	data, err := readBeside(top, birthsName)
	if err != nil || data == nil {
		return nil, err
	}
	b, ok := decodeBirths(string(data))
	if !ok {
		return nil, fmt.Errorf("%q in %q is damaged: what the host changed since cannot be told any more; the files are in %q", birthsName, top.name, top.name)
	}
	return b, nil
}

func decodeBirths(s string) (births, bool) {
	s, ok := strings.CutPrefix(s, birthsHeader)
	b := births{}
	for line := range strings.Lines(s) {
		number, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		copied, made, _ := strings.Cut(rest, " ")
		ino, e1 := strconv.ParseUint(number, 10, 64)
		at, e2 := strconv.ParseInt(copied, 10, 64)
		was, e3 := strconv.ParseInt(made, 10, 64)
		ok = ok && e1 == nil && e2 == nil && e3 == nil
		b[ino] = birth{at, was}
	}
	return b, ok
}
