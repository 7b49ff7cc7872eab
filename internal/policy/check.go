package policy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Size is a number of bytes.
type Size int64

const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// String is the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.n == 0 {
			return strconv.FormatInt(int64(s/u.n), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

type sizeUnit struct {
	name string
	n    Size
}

// sizeUnits are the units, the binary ones first: String prefers them.
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1}}
}

// size reads sizes of at least low.
func size(low Size) func(string) (Size, error) {
	return func(text string) (Size, error) {
		s, err := parseSize(text)
		if err == nil && s < low {
			err = bad("nothing runs in less than "+low.String(), "%s is too small", text)
		}
		return s, err
	}
}

func parseSize(text string) (Size, error) {
	digits := strings.TrimRight(text, "BKMGTikmgt ")
	unit := strings.TrimSpace(text[len(digits):])
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || leadingZero(digits) {
		return 0, bad(`write a whole number and a unit, such as 512MiB or 12GiB, or plain bytes`, "%q is not a size", text)
	}
	factor := Size(1)
	if unit != "" {
		i := slices.IndexFunc(sizeUnits(), func(u sizeUnit) bool { return u.name == unit })
		if i < 0 {
			return 0, bad("units are kB MB GB TB, and KiB MiB GiB TiB in steps of 1024", "%q has no unit that says how much it is", text)
		}
		factor = sizeUnits()[i].n
	}
	if n > uint64(math.MaxInt64/factor) {
		return 0, bad("", "%q is more than any machine has", text)
	}
	return Size(n) * factor, nil
}

// duration reads times of at least a second, and "none".
func duration(text string) (time.Duration, error) {
	if text == "none" {
		return Unlimited, nil
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil || strings.ContainsAny(text, "+"):
		return 0, bad("write a number and a unit, such as 90s, 30m, 2h or 1h30m, or none", "%q is not a time", text)
	case d < time.Second:
		return 0, bad("write none for no limit", "%s is too short: the shortest limit is 1s", text)
	}
	return d, nil
}

// whole reads whole numbers within bounds.
func whole(what string, low, high int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high || text != strconv.Itoa(n) {
			return 0, bad("", "%q is not a %s: want a whole number from %d to %d", text, what, low, high)
		}
		return n, nil
	}
}

// leadingZero is true for what YAML 1.1 reads as octal and people do not.
func leadingZero(text string) bool { return len(text) > 1 && text[0] == '0' && isDigit(text[1]) }

func cpus(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.") != "" || leadingZero(text) || n < 0.01 || n > 65536 {
		return 0, bad("write how many CPUs may be busy at once, such as 4 or 0.5", "%q is not a number of CPUs", text)
	}
	return n, nil
}

func port(text string) (int, error) { return whole("port", 1, 65535)(text) }

// publish reads "3000", "8081:8080" and "auto".
func publish(text string) (Publish, error) {
	if text == "auto" {
		return Publish{Auto: true}, nil
	}
	host, inside, two := strings.Cut(text, ":")
	if !two {
		inside = host
	}
	h, err1 := port(host)
	i, err2 := port(inside)
	if err1 != nil || err2 != nil {
		return Publish{}, bad(`write 3000, "8081:8080" (host's loopback : inside) or auto`, "%q is not a port to publish", text)
	}
	return Publish{Host: h, Inside: i}, nil
}

// oneOf reads one of a few words.
func oneOf[T ~string](words ...T) func(string) (T, error) {
	return func(text string) (T, error) {
		if slices.Contains(words, T(text)) {
			return T(text), nil
		}
		list := make([]string, len(words))
		for i, w := range words {
			list[i] = string(w)
		}
		hint := didYouMean(text, list)
		if hint == "" {
			hint = "write one of " + strings.Join(list, ", ")
		}
		return "", bad(hint, "%s is not one of %s", quoted(text), strings.Join(list, ", "))
	}
}

// name reads the name of something that other issues or people define: a preset, a cache, a device.
func name(text string) (string, error) {
	ok := text != "" && len(text) <= 64
	for i := range len(text) {
		c := text[i]
		ok = ok && (isLower(c) || isDigit(c) || i > 0 && (c == '-' || c == '.' || c == '_'))
	}
	if !ok {
		return "", bad("names are made of a-z, 0-9, - . and _", "%s is not a name", quoted(text))
	}
	return text, nil
}

// yes reads a truth value.
func yes(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, bad("write true or false", "%s is neither true nor false", quoted(text))
	}
	return text == "true", nil
}

// guarantee reads the name of a guarantee.
func guarantee(text string) (string, error) {
	if slices.Contains(Guarantees(), text) {
		return text, nil
	}
	hint := didYouMean(text, Guarantees())
	if hint == "" {
		hint = "casemate plan lists the guarantees, such as limits.memory"
	}
	return "", bad(hint, "%s is no guarantee of this version", quoted(text))
}

// variable reads the name of an environment variable.
func variable(text string) (string, error) {
	ok := text != "" && len(text) <= 256 && !isDigit(text[0])
	for i := range len(text) {
		c := text[i]
		ok = ok && (isLower(c) || isUpper(c) || isDigit(c) || c == '_')
	}
	if !ok {
		return "", bad("names are made of letters, digits and _", "%s is not the name of a variable", quoted(text))
	}
	if text == "CASEMATE" || text == "AI_SANDBOX" {
		return "", bad("it tells a program inside where it is", "%s is set by casemate itself", quoted(text))
	}
	return text, nil
}

// plainText refuses what cannot be a path or is not what it looks like.
func plainText(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return bad("", "%s is empty", quoted(text))
	case !utf8.ValidString(text) || strings.ContainsFunc(text, isDeceptive):
		return bad("", "%s holds a byte that is not text", quoted(text))
	case strings.TrimSpace(text) != text:
		return bad("remove it", "%s begins or ends with a space", quoted(text))
	case len(text) > MaxPattern:
		return bad("", "%s is longer than %d bytes", quoted(text), MaxPattern)
	}
	return nil
}

// printable refuses empty text and control characters, which would draw on a terminal.
func printable(text string) (string, error) {
	if err := plainText(text); err != nil {
		return "", err
	}
	return text, nil
}

// method reads an HTTP method.
func method(text string) (string, error) {
	if text == "" || len(text) > 32 || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
		return "", bad("methods are written in capitals, such as GET", "%s is not an HTTP method", quoted(text))
	}
	if text == "CONNECT" || text == "TRACE" {
		return "", bad("leave it out", "%s is refused on every connection that the gate opens", quoted(text))
	}
	return text, nil
}

// urlPath reads a pattern of MatchPath's.
func urlPath(text string) (string, error) {
	if err := plainText(text); err != nil {
		return "", err
	}
	switch {
	case text[0] != '/':
		return "", bad("write it with a leading /, such as /v1/*", "%s is not a path of a request", quoted(text))
	case strings.ContainsAny(text, "?# \\%") || strings.Contains(text, "//") || !isASCII(text):
		return "", bad("write the decoded path, without a query", "%s is more than the path of a request", quoted(text))
	case slices.Contains(strings.Split(text, "/"), "..") || slices.Contains(strings.Split(text, "/"), "."):
		return "", bad("", "%s has a . or .. component", quoted(text))
	case strings.Contains(text, "**"):
		return "", bad("write /* at the end for everything below", "%s has a **", quoted(text))
	}
	return text, nil
}

// network reads a range of addresses.
func network(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, bad("write it like 10.20.0.0/16 or fd00:1::/64", "%s is not a range of addresses", quoted(text))
	case p.Addr().Is4In6():
		return p, bad("write the IPv4 range", "%s is an IPv4 range in IPv6 clothes", quoted(text))
	case p.Bits() == 0:
		return p, bad("name the ranges that are needed", "%s is every address", quoted(text))
	case p.Masked() != p:
		return p, bad(fmt.Sprintf("write %s", p.Masked()), "%s has bits beyond its length", quoted(text))
	}
	return p, nil
}

// day reads a date.
func day(text string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, bad("write year-month-day, such as 2026-12-01", "%s is not a date", quoted(text))
	}
	return t, nil
}

// quoted is text fit for a message: quoted, and not a megabyte of it.
func quoted(text string) string {
	const most = 80
	if len(text) <= most {
		return strconv.Quote(text)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strconv.Quote(text[:cut]) + "..."
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
