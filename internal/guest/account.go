package guest

import (
	"os"
	"strconv"
	"strings"
)

// Account is a line of /etc/passwd.
type Account struct {
	Name        string
	UID, GID    int
	Home, Shell string
}

// AccountOf looks a user up in the host's /etc/passwd. Users of directory services are not there; package os/user would not find them
// either in a program without cgo.
func AccountOf(uid int) (Account, bool) {
	b, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return Account{}, false
	}
	return accountIn(string(b), uid)
}

func accountIn(passwd string, uid int) (Account, bool) {
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 || f[0] == "" {
			continue
		}
		id, err := strconv.Atoi(f[2])
		if err != nil || id != uid {
			continue
		}
		gid, err := strconv.Atoi(f[3])
		if err != nil {
			continue
		}
		return Account{Name: f[0], UID: id, GID: gid, Home: f[5], Shell: f[6]}, true
	}
	return Account{}, false
}
