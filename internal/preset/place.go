package preset

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"casemate.dev/internal/policy"
)

// place is where a URL leads, without whatever could be a credential in it: user, password, query and fragment are dropped as it is read, so that
// nothing after this can show, store or pass them on.
type place struct {
	scheme string // https, http or ssh
	host   string // normalised
	port   int
	path   string // empty where it looks like it holds a token
	token  bool   // it did
}

// errLocal is about a URL that leads to no other machine.
var errLocal = errors.New("it leads to no other machine")

// parsePlace reads a URL as configuration files write it. Package net/url is not used: it accepts what hosts must not be, and casemate must not link net.
func parsePlace(text string) (place, error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(text), "://")
	scheme = strings.ToLower(scheme)
	for _, wrapper := range []string{"sparse+", "registry+", "git+", "svn+", "hg+", "bzr+", "tor+"} {
		scheme = strings.TrimPrefix(scheme, wrapper)
	}
	p := place{scheme: scheme}
	switch {
	case !ok:
		return p, errors.New("it is no URL")
	case scheme == "https":
		p.port = 443
	case scheme == "http":
		p.port = 80
	case scheme == "ssh":
		p.port = 22
	case scheme == "file" || scheme == "cdrom" || scheme == "copy":
		return p, errLocal
	default:
		return p, errors.New("its scheme is none of https, http and ssh")
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, `/?#\`); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	authority = authority[strings.LastIndexByte(authority, '@')+1:]
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		host, port = authority[:i], authority[i+1:]
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return p, errors.New("its port is none")
		}
		p.port = int(n)
	}
	var err error
	if p.host, err = policy.NormalizeHost(host); err != nil {
		return p, errors.New("its host is no host name") // the error would quote it, and it may be a misplaced password
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if p.path = path; hasToken(path) || !isPlain(path) {
		p.path, p.token = "", true
	}
	return p, nil
}

// url is the place again, as a tool inside may be told.
func (p place) url() string {
	host := p.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if p.port != map[string]int{"https": 443, "http": 80, "ssh": 22}[p.scheme] {
		host += ":" + strconv.Itoa(p.port)
	}
	return p.scheme + "://" + host + p.path
}

// target is HOST:PORT, or HOST alone where --allow means that.
func (p place) target() string {
	host := p.host
	if strings.Contains(host, ":") && p.port != 443 {
		host = "[" + host + "]"
	}
	if p.port == 443 {
		return host
	}
	return fmt.Sprintf("%s:%d", host, p.port)
}

// isLoopback is true for what means another machine's programs inside than outside.
func (p place) isLoopback() bool {
	return p.host == "localhost" || strings.HasSuffix(p.host, ".localhost") || p.host == "::1" || strings.HasPrefix(p.host, "127.") && strings.Trim(p.host, "0123456789.") == ""
}

// isPlain refuses what has no business in the path of a registry.
func isPlain(path string) bool {
	return strings.IndexFunc(path, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'`$\\<>{}|^", r)
	}) < 0
}

// hasToken recognises what some registries put into paths in place of a password: a word in which letters and digits take turns, as in no name of a
// directory. One that looks like a name gets through: it is only told to the tool inside, for the host that it is meant for.
func hasToken(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		turns, before := 0, byte(0)
		for i := range len(part) {
			now := byte(0)
			switch c := part[i] | 0x20; {
			case '0' <= part[i] && part[i] <= '9':
				now = '0'
			case 'a' <= c && c <= 'z':
				now = 'a'
			}
			if now != 0 && before != 0 && now != before {
				turns++
			}
			before = now
		}
		if len(part) >= 16 && turns >= 4 || len(part) > 64 || strings.ContainsAny(part, "@:") || strings.Contains(part, "%40") || strings.Contains(part, "%3") {
			return true
		}
	}
	return false
}
