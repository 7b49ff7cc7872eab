package broker

import "bytes"

// view is a stream as a reader further on may take it: with its escapes undone.
type view struct {
	decode func(out, in []byte) (more []byte, rest int) // appends; rest bytes at the end may be the beginning of an escape
	marks  string                                       // without one of these bytes the view is the stream itself
	carry  []byte
	tail   []byte // of what was looked through, long enough for a text that has begun in it
	plain  int    // bytes since the view last differed from the stream
}

// views are the ways to look at a stream. Each is a guess at what a reader undoes once; what is escaped twice is not found.
func views() []view {
	return []view{
		{plain: -1},
		{decode: percent, marks: "%"},
		{decode: backslash, marks: `\`},
		{decode: joined, marks: "\r\n"},
	}
}

// undo appends what the view makes of the next bytes.
func (v *view) undo(out, p []byte) []byte {
	in := p
	if len(v.carry) > 0 {
		in = append(v.carry, p...)
	}
	out, rest := v.decode(out, in)
	v.carry = bytes.Clone(in[len(in)-rest:])
	return out
}

// percent undoes the escapes of addresses and forms (RFC 3986, 2.1).
func percent(out, in []byte) (more []byte, rest int) {
	for i := 0; i < len(in); i++ {
		if n := bytes.IndexByte(in[i:], '%'); n != 0 {
			n = upTo(n, len(in)-i)
			out = append(out, in[i:i+n]...)
			i += n - 1
			continue
		}
		if n := len(in) - i; n < 3 && (n == 1 || isHex(in[i+1])) {
			return out, n
		}
		if isHex(in[i+1]) && isHex(in[i+2]) {
			out = append(out, number(in[i+1])<<4|number(in[i+2]))
			i += 2
			continue
		}
		out = append(out, '%')
	}
	return out, 0
}

// backslash undoes the escapes of JSON strings (RFC 8259, 7), as far as they stand for bytes of ASCII.
func backslash(out, in []byte) (more []byte, rest int) {
	for i := 0; i < len(in); i++ {
		if n := bytes.IndexByte(in[i:], '\\'); n != 0 {
			n = upTo(n, len(in)-i)
			out = append(out, in[i:i+n]...)
			i += n - 1
			continue
		}
		if i+1 == len(in) {
			return out, 1
		}
		if in[i+1] != 'u' {
			out = append(out, escaped(in[i+1]))
			i++
			continue
		}
		digits := 0
		for digits < 4 && i+2+digits < len(in) && isHex(in[i+2+digits]) {
			digits++
		}
		switch {
		case digits < 4 && i+2+digits == len(in):
			return out, len(in) - i
		case digits == 4 && in[i+2] == '0' && in[i+3] == '0':
			out = append(out, number(in[i+4])<<4|number(in[i+5]))
			i += 5
		default:
			out = append(out, '\\')
		}
	}
	return out, 0
}

func escaped(c byte) byte {
	if i := bytes.IndexByte([]byte("bfnrt"), c); i >= 0 {
		return "\b\f\n\r\t"[i]
	}
	return c
}

// joined leaves out the ends of lines, with which base64 is broken (RFC 2045, 6.8).
func joined(out, in []byte) (more []byte, rest int) {
	for len(in) > 0 {
		n := upTo(bytes.IndexByte(in, '\n'), len(in))
		n = upTo(bytes.IndexByte(in[:n], '\r'), n)
		out = append(out, in[:n]...)
		in = in[min(n+1, len(in)):]
	}
	return out, 0
}

// upTo is where something was found, or the end.
func upTo(found, end int) int {
	if found < 0 {
		return end
	}
	return found
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func number(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
