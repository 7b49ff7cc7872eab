package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/url"
)

// Shortest is how long a value must be, so that it can be told from other text.
const Shortest = 8

// forms are the ways in which text is looked for as it stands; the first is the text itself. Escapes are undone by views, in which these are looked for again.
func forms(text []byte) [][]byte {
	list := [][]byte{bytes.Clone(text)}
	add := func(form []byte) {
		for _, f := range list {
			if bytes.Equal(f, form) {
				return
			}
		}
		list = append(list, form)
	}
	for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			add(inBase64(alphabet, text, before))
		}
	}
	digits := hex.AppendEncode(nil, text)
	add(digits)
	add(bytes.ToUpper(digits))
	return list
}

// inBase64 is what base64 makes of text with so many bytes before it: those characters that nothing beside the text has a part in.
func inBase64(alphabet *base64.Encoding, text []byte, before int) []byte {
	all := make([]byte, before+len(text))
	copy(all[before:], text)
	defer clear(all)
	return alphabet.AppendEncode(nil, all)[(8*before+5)/6 : 8*(before+len(text))/6]
}

// written are the forms in which a server may send a value back: those, and as it is escaped in an address.
func written(value []byte) [][]byte {
	list := forms(value)
	for _, escape := range []func(string) string{url.QueryEscape, url.PathEscape} {
		if escaped := []byte(escape(string(value))); !bytes.Equal(escaped, value) {
			list = append(list, escaped)
		}
	}
	return list
}
