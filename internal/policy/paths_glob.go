package policy

import (
	"errors"
	"strings"
)

// A glob is a compiled wildcard pattern. Matching takes time linear in the pattern times, at worst, the square of the text, so a hostile
// pattern or file name costs little.
type glob []globToken

type globToken struct {
	op  globOp
	b   byte     // of opByte
	set *byteSet // of opSet
}

type globOp uint8

const (
	opByte globOp = iota
	opAny         // `?`: any byte but a slash
	opSet         // `[...]`: never a slash
	opStar        // `*`: any run of bytes without a slash
	opDeep        // `**`: any run of bytes
	opDirs        // `**/`: nothing, or any run of bytes up to and including a slash
)

type byteSet [4]uint64

func (s *byteSet) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *byteSet) has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }
func (s *byteSet) invert() {
	for i := range s {
		s[i] = ^s[i]
	}
}

func (t *globToken) takes(b byte) bool {
	switch t.op {
	case opByte:
		return b == t.b
	case opAny:
		return b != '/'
	default:
		return b != '/' && t.set.has(b)
	}
}

// match walks text once and falls back to the last star, and when that meets a slash, to the last double star. Older ones need no second look:
// whatever they could give up, a later one of the same kind can take.
func (g glob) match(text string) bool {
	p, i := 0, 0
	star, starAt := -1, 0
	deep, deepAt := -1, 0
	for {
		switch {
		case p == len(g) && i == len(text):
			return true
		case p == len(g):
		case g[p].op == opStar:
			p++
			star, starAt = p, i
			continue
		case g[p].op >= opDeep:
			p++
			deep, deepAt, star = p, i, -1
			continue
		case i < len(text) && g[p].takes(text[i]):
			p, i = p+1, i+1
			continue
		}
		switch {
		case star >= 0 && starAt < len(text) && text[starAt] != '/':
			starAt++
			p, i = star, starAt
		case deep >= 0:
			n := g.step(deep, text[deepAt:])
			if n == 0 {
				return false
			}
			deepAt += n
			p, i, star = deep, deepAt, -1
		default:
			return false
		}
	}
}

// step returns how far the double star before g[after] has to reach at least, to take more of rest than nothing; 0 if it cannot.
func (g glob) step(after int, rest string) int {
	if g[after-1].op == opDirs {
		return strings.IndexByte(rest, '/') + 1
	}
	return min(1, len(rest))
}

// literal returns the text of a glob without wildcards.
func (g glob) literal() (string, bool) {
	text := make([]byte, len(g))
	for i, t := range g {
		if t.op != opByte {
			return "", false
		}
		text[i] = t.b
	}
	return string(text), true
}

func (g glob) hasSlash() bool {
	for _, t := range g {
		if t.op == opByte && t.b == '/' || t.op >= opDeep {
			return true
		}
	}
	return false
}

var (
	errGlobClass     = errors.New("has a [ without its ]")
	errGlobClassName = errors.New("names a [:class:] that does not exist")
	errGlobBackslash = errors.New("ends in a backslash that quotes nothing")
	errPathComponent = errors.New("has an empty, . or .. component, which no path in a project has")
)

// parseGlob compiles s, the pattern without its leading `!` and `/` and its trailing `/`.
func parseGlob(s string, onPath bool) (glob, error) {
	g := make(glob, 0, len(s))
	plain := true // no wildcard yet
	component := 0
	for i := 0; i < len(s); {
		var t globToken
		n := 1
		switch c := s[i]; c {
		case '?':
			t.op = opAny
		case '*':
			t.op, n = parseStars(s, i, onPath, plain)
		case '[':
			set, end, err := parseSet(s[i+1:])
			if err != nil {
				return nil, err
			}
			t.op, t.set, n = opSet, set, 1+end
		case '\\':
			if i+1 == len(s) {
				return nil, errGlobBackslash
			}
			t.b, n = s[i+1], 2
		default:
			t.b = c
		}
		if t.op == opByte && t.b == '/' {
			if badComponent(g[component:]) {
				return nil, errPathComponent
			}
			component = len(g) + 1
		}
		plain = plain && t.op == opByte && s[i] != '\\'
		g = append(g, t)
		i += n
		if t.op == opDirs {
			component = len(g)
		}
	}
	if badComponent(g[component:]) {
		return nil, errPathComponent
	}
	return g, nil
}

func badComponent(g glob) bool {
	text, ok := g.literal()
	return ok && (text == "" || text == "." || text == "..")
}

// parseStars reads the run of stars at s[i]. Two or more are special in a path pattern, as a whole component. git cuts the part before the
// first wildcard off before it looks, and so takes `a**` for a whole component too; so do we.
func parseStars(s string, i int, onPath, plain bool) (globOp, int) {
	end := i
	for end < len(s) && s[end] == '*' {
		end++
	}
	n, rest := end-i, s[end:]
	switch {
	case n == 1 || !onPath || !plain && s[i-1] != '/':
		return opStar, n
	case rest == "" || strings.HasPrefix(rest, `\/`):
		return opDeep, n
	case rest[0] == '/':
		return opDirs, n + 1
	}
	return opStar, n
}

// parseSet reads a bracket expression after its `[`, and returns the length up to and including the `]`.
func parseSet(s string) (*byteSet, int, error) {
	var set byteSet
	i, negated := 0, false
	if s != "" && (s[0] == '!' || s[0] == '^') {
		i, negated = 1, true
	}
	prev := -1 // the low end of a range, if the next byte is a dash
	for first := true; first || i >= len(s) || s[i] != ']'; first = false {
		if i >= len(s) {
			return nil, 0, errGlobClass
		}
		switch name, isName := className(s[i:]); {
		case isName:
			if !set.addClass(name) {
				return nil, 0, errGlobClassName
			}
			prev, i = -1, i+len(name)+len("[::]")
		case s[i] == '-' && prev >= 0 && i+1 < len(s) && s[i+1] != ']':
			high, n, err := setByte(s[i+1:])
			if err != nil {
				return nil, 0, err
			}
			for b := prev; b <= int(high); b++ {
				set.add(byte(b))
			}
			prev, i = -1, i+1+n
		default:
			b, n, err := setByte(s[i:])
			if err != nil {
				return nil, 0, err
			}
			set.add(b)
			prev, i = int(b), i+n
		}
	}
	if negated {
		set.invert()
	}
	return &set, i + 1, nil
}

func setByte(s string) (b byte, n int, err error) {
	if s[0] != '\\' {
		return s[0], 1, nil
	}
	if len(s) < 2 {
		return 0, 0, errGlobClass
	}
	return s[1], 2, nil
}

// className reads `[:name:]`. As in git, the first `]` ends it, and without a colon before that it is no class at all.
func className(s string) (string, bool) {
	if !strings.HasPrefix(s, "[:") {
		return "", false
	}
	inner, _, found := strings.Cut(s[2:], "]")
	if !found {
		return "", false
	}
	return strings.CutSuffix(inner, ":")
}

func (s *byteSet) addClass(name string) bool {
	in := classTest(name)
	if in == nil {
		return false
	}
	for b := byte(0); b < 0x80; b++ {
		if in(b) {
			s.add(b)
		}
	}
	return true
}

func classTest(name string) func(byte) bool {
	between := func(low, high byte) func(byte) bool { return func(b byte) bool { return low <= b && b <= high } }
	digit, up, low := between('0', '9'), between('A', 'Z'), between('a', 'z')
	alpha := func(b byte) bool { return up(b) || low(b) }
	graph := between(0x21, 0x7e)
	switch name {
	case "alnum":
		return func(b byte) bool { return alpha(b) || digit(b) }
	case "alpha":
		return alpha
	case "blank":
		return func(b byte) bool { return b == ' ' || b == '\t' }
	case "cntrl":
		return func(b byte) bool { return b < 0x20 || b == 0x7f }
	case "digit":
		return digit
	case "graph":
		return graph
	case "lower":
		return low
	case "print":
		return between(0x20, 0x7e)
	case "punct":
		return func(b byte) bool { return graph(b) && !alpha(b) && !digit(b) }
	case "space":
		return func(b byte) bool { return b == ' ' || between('\t', '\r')(b) }
	case "upper":
		return up
	case "xdigit":
		return func(b byte) bool { return digit(b) || between('a', 'f')(b|0x20) }
	}
	return nil
}
