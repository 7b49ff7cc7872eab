package guest

import "strings"

// GitLogin is where git inside shows a variable as its password, when a host asks for one.
type GitLogin struct {
	Address  string // https://HOST[:PORT][/PATH], as `credential.<url>` has it (gitcredentials(7))
	Variable string
}

// gitName is the name beside the password. Hosts that take tokens look at the token alone, or want just this name (GitHub's apps). Who needs another one
// has it in the address, https://NAME@HOST/..., or in the repository's credential.username: git takes both before this.
const gitName = "x-access-token"

// write has git ask for the variable by itself: only once the host has asked, so that what is public is fetched without it. What is in the file is the
// variable's name; a helper, because the variable is set later, and perhaps not at all.
func (l GitLogin) write(put func(gitEntry)) {
	if l.Address == "" || strings.ContainsAny(l.Address, "\x00\r\n") {
		return
	}
	put(gitEntry{"credential", l.Address, "username", gitName})
	put(gitEntry{"credential", l.Address, "helper", `!f() { test "$1" != get || test -z "$` + l.Variable + `" || printf 'password=%s\n' "$` + l.Variable + `"; }; f`})
}
