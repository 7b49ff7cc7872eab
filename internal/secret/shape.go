package secret

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Shape is what may be known of a value: enough to make a placeholder that programs take for one, and nothing that helps to guess it.
type Shape struct {
	Prefix   string `json:"prefix,omitempty"` // what every value of the kind begins with, such as "sk-ant-api03-"
	Length   int    `json:"length"`           // of the whole, with the prefix
	Alphabet string `json:"alphabet"`         // the characters that follow the prefix, each once, in the order of ASCII

	Parts []Shape `json:"parts,omitempty"` // of a value in parts, with a colon between: each has its own, and the rest is about the whole
}

// maxParts is how many parts a value may have.
const maxParts = 3

// Check says whether a placeholder can be made in the shape: printable ASCII that fits into a header and into a variable.
func (s Shape) Check() error {
	last := byte(' ')
	for i := range len(s.Alphabet) {
		if c := s.Alphabet[i]; c <= last || c >= 0x7f {
			return errors.New("an alphabet is printable ASCII, each character once and in order")
		}
		last = s.Alphabet[i]
	}
	for i := range len(s.Prefix) {
		if c := s.Prefix[i]; c <= ' ' || c >= 0x7f {
			return errors.New("a prefix is printable ASCII")
		}
	}
	if s.Length < 1 || s.Length > MaxValue || len(s.Prefix) >= s.Length || len(s.Alphabet) < 2 {
		return fmt.Errorf("a shape cannot have %d characters, %d of them its prefix, out of an alphabet of %d", s.Length, len(s.Prefix), len(s.Alphabet))
	}
	if len(s.Parts) == 1 || len(s.Parts) > maxParts {
		return fmt.Errorf("a shape cannot have %d parts", len(s.Parts))
	}
	for _, p := range s.Parts {
		if len(p.Parts) > 0 {
			return errors.New("a part of a shape has no parts")
		}
		if strings.Contains(p.Alphabet+p.Prefix, ":") {
			return errors.New("a part of a shape has no colon")
		}
		if err := p.Check(); err != nil {
			return err
		}
	}
	return nil
}

// shortest is the length below which a value cannot be told from other text, where it is looked for in what leaves a sandbox and in what answers hold.
const shortest = 8

// ShapeOf finds the shape of a value of a kind, or of none that is known. Its prefix comes from the list of kinds alone: what every value of a kind begins
// with is public, and what this one begins with is not.
func ShapeOf(kind string, v Value) (s Shape, err error) {
	err = v.Use(func(b []byte) error {
		s, err = shapeOf(b)
		if kind != AWS || err != nil {
			return err
		}
		if s.Parts, err = partsOf(b); err != nil {
			return err
		}
		return s.Check()
	})
	return s, err
}

// partsOf are the shapes of a normal value's parts. A placeholder has no character either that would be the end of one.
func partsOf(b []byte) (list []Shape, err error) {
	for i, part := range bytes.Split(b, []byte(":")) {
		s, err := shapeOf(part)
		if err != nil {
			return nil, fmt.Errorf("its part %d: %w", i+1, err)
		}
		not := ":"
		if i == 0 {
			not += notInID
		}
		s.Alphabet = strings.Map(func(c rune) rune {
			if strings.ContainsRune(not, c) {
				return -1
			}
			return c
		}, s.Alphabet)
		list = append(list, s)
	}
	return list, nil
}

func shapeOf(b []byte) (Shape, error) {
	if len(b) < shortest {
		return Shape{}, fmt.Errorf("it is shorter than %d characters, so it could not be told from other text", shortest)
	}
	for _, c := range b {
		if c < ' ' || c >= 0x7f {
			return Shape{}, errors.New("it holds a line break or another character that no header of a request can have")
		}
	}
	prefix := ""
	for _, k := range Kinds() {
		for _, p := range k.Prefixes {
			if len(p) > len(prefix) && len(b) >= len(p)+shortest && string(b[:len(p)]) == p {
				prefix = p
			}
		}
	}
	return Shape{Prefix: prefix, Length: len(b), Alphabet: alphabetOf(b[len(prefix):])}, nil
}

// alphabetOf is the smallest of a few well-known alphabets that has all the characters: which of its characters a value lacks is nobody's business.
func alphabetOf(b []byte) string {
	const digits, upper, lower = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
	for _, a := range []string{
		digits, digits + "abcdef", digits + "ABCDEF", digits + lower, digits + upper, digits + upper + lower,
		"-" + digits + upper + "_" + lower, "+/" + digits + "=" + upper + lower, "+-./" + digits + "=" + upper + "_" + lower + "~",
	} {
		if !bytes.ContainsFunc(b, func(r rune) bool { return !strings.ContainsRune(a, r) }) {
			return a
		}
	}
	var all []byte
	for c := byte('!'); c < 0x7f; c++ {
		all = append(all, c)
	}
	return string(all)
}
