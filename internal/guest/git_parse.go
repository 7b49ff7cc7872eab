package guest

import (
	"bytes"
	"strings"
)

// parseGitConfig reads the format of git-config(1), "Syntax", and gives each variable with section and key in lower case. It stops at the first
// thing that git would call an error. A variable without "=" is true.
func parseGitConfig(data []byte, emit func(gitEntry)) {
	p := gitParser{data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))}
	section, sub, ok := "", "", false
	for {
		switch c := p.skipBlank(); {
		case c == 0:
			return
		case c == '#' || c == ';':
			p.skipLine()
		case c == '[':
			if section, sub, ok = p.header(); !ok {
				return
			}
		default:
			key, value, good := p.variable()
			if !good || section == "" {
				return
			}
			emit(gitEntry{section, sub, key, value})
		}
	}
}

type gitParser struct {
	data []byte
	at   int
}

// next returns the next byte, or 0 at the end. NUL cannot be part of a setting, so it is an end too.
func (p *gitParser) next() byte {
	if p.at >= len(p.data) {
		return 0
	}
	c := p.data[p.at]
	p.at++
	if c == '\r' && p.at < len(p.data) && p.data[p.at] == '\n' {
		p.at++
		return '\n'
	}
	return c
}

func (p *gitParser) peek() byte {
	was := p.at
	c := p.next()
	p.at = was
	return c
}

func (p *gitParser) skipBlank() byte {
	for {
		switch c := p.peek(); c {
		case ' ', '\t', '\n':
			p.next()
		default:
			return c
		}
	}
}

func (p *gitParser) skipLine() {
	for c := p.next(); c != 0 && c != '\n'; c = p.next() {
	}
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// header reads [section], [section "sub"] and the old [section.sub], whose sub is in lower case.
func (p *gitParser) header() (section, sub string, ok bool) {
	p.next()
	var name strings.Builder
	for {
		switch c := p.next(); {
		case c == ']':
			section, sub, _ = strings.Cut(strings.ToLower(name.String()), ".")
			return section, sub, section != ""
		case c == ' ' || c == '\t':
			sub, ok = p.quotedSub()
			return strings.ToLower(name.String()), sub, ok && name.Len() > 0
		case isAlnum(c) || c == '-' || c == '.':
			name.WriteByte(c)
		default:
			return "", "", false
		}
	}
}

func (p *gitParser) quotedSub() (string, bool) {
	for p.peek() == ' ' || p.peek() == '\t' {
		p.next()
	}
	if p.next() != '"' {
		return "", false
	}
	var sub strings.Builder
	for {
		c := p.next()
		switch c {
		case 0, '\n':
			return "", false
		case '"':
			return sub.String(), p.next() == ']'
		case '\\':
			if c = p.next(); c == 0 || c == '\n' {
				return "", false
			}
		}
		sub.WriteByte(c)
	}
}

func (p *gitParser) variable() (key, value string, ok bool) {
	var name strings.Builder
	for isAlnum(p.peek()) || p.peek() == '-' {
		name.WriteByte(p.next())
	}
	key = strings.ToLower(name.String())
	if key == "" || !('a' <= key[0] && key[0] <= 'z') {
		return "", "", false
	}
	for p.peek() == ' ' || p.peek() == '\t' {
		p.next()
	}
	switch p.peek() {
	case '=':
		p.next()
		value, ok = p.value()
		return key, value, ok
	case 0, '\n', '#', ';':
		p.skipLine()
		return key, "true", true
	}
	return "", "", false
}

// value reads to the end of the line: blanks around it are dropped, those inside kept; quotes keep blanks and comment signs; a
// backslash at the end of a line joins the next.
func (p *gitParser) value() (string, bool) {
	for p.peek() == ' ' || p.peek() == '\t' {
		p.next()
	}
	var v strings.Builder
	quoted, keep := false, 0 // v[:keep] ends with what is not a trailing blank
	for {
		c := p.next()
		switch {
		case c == 0 || c == '\n':
			return v.String()[:keep], !quoted
		case !quoted && (c == '#' || c == ';'):
			p.skipLine()
			return v.String()[:keep], true
		case c == '"':
			quoted = !quoted
			keep = v.Len()
			continue
		case c == '\\':
			switch c = p.next(); c {
			case '\n':
				continue
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case 'b':
				c = '\b'
			case '\\', '"':
			default:
				return "", false
			}
			v.WriteByte(c)
			keep = v.Len()
			continue
		}
		v.WriteByte(c)
		if quoted || c != ' ' && c != '\t' {
			keep = v.Len()
		}
	}
}
