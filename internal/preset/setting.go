package preset

import (
	"strconv"
	"strings"
)

// setting is one line of a configuration file that names a registry. Parsers return nothing else of a file: tokens and passwords stay in it.
type setting struct {
	key   string
	value string
	line  int
}

// maxSettings bounds what is taken of one file.
const maxSettings = 200

// at is a place in a file, for people; line 0 is the whole file.
func at(file string, line int) string {
	if line == 0 {
		return file
	}
	return file + ":" + strconv.Itoa(line)
}

// last is the setting that holds where a file says something twice.
func last(list []setting, key string) (setting, bool) {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].key == key {
			return list[i], true
		}
	}
	return setting{}, false
}

// eachLine calls use with the lines of a text, from 1, without their ends.
func eachLine(text string, use func(n int, line string)) {
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		use(n, strings.TrimSuffix(line, "\r"))
	}
}

// unquote takes quotes off that stand around the whole text.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// isURL tells a registry from what a tool says beside it.
func isURL(s string) bool {
	_, err := parsePlace(s)
	return err == nil
}
