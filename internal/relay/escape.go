package relay

import (
	"strconv"
	"strings"
)

// Escape makes a string that came out of the sandbox fit for a message of ours: what a terminal would act on (control
// bytes, C1 controls, text direction marks), what cannot be seen and what is not UTF-8 becomes a Go escape such as \x1b or
// \u202e, and a backslash becomes two, so that nothing can pretend to have been escaped. Other text stays as it is.
func Escape(s string) string {
	if plain(s) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// plain is the common case: printable ASCII without a backslash.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e || s[i] == '\\' {
			return false
		}
	}
	return true
}
