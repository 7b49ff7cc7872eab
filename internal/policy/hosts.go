package policy

import (
	"net/netip"
	"strings"
)

// NormalizeHost returns the one spelling of a host name or address that patterns are compared with: lower case, no trailing dot, no brackets.
// What is not a host is an error and never "no match": NUL, CR, LF, %, empty labels, names over 253 bytes, labels over 63, names that look like an address
// but are none (inet_aton's 127.1, 0x7f.1 and 2130706433, which resolvers read in different ways).
// Names must come in ASCII; IDNA's mappings are not done here, so that no table of Unicode decides what is allowed.
func NormalizeHost(host string) (string, error) {
	if host == "" {
		return "", bad("", "the host is empty")
	}
	if addr, ok := bracketed(host); ok {
		return normalizeAddr(addr, host)
	}
	if strings.Contains(host, ":") && !strings.ContainsAny(host, "/@") || endsInNumber(host) {
		return normalizeAddr(host, host)
	}
	return normalizeName(host)
}

// bracketed is what stands within [ and ].
func bracketed(host string) (string, bool) {
	inner, opened := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	return inner, opened && closed && strings.Contains(inner, ":")
}

// normalizeAddr reads an address. An IPv4 address mapped into IPv6 is the IPv4 address: the same machine must not have two names.
func normalizeAddr(text, host string) (string, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil && strings.Count(host, ":") == 1:
		return "", bad("write the port under ports", "%s is a host and a port", quoted(host))
	case err != nil:
		return "", bad("write an address as four decimal numbers, or as IPv6", "%s is not a host: it looks like an address and is none", quoted(host))
	case addr.Zone() != "":
		return "", bad("write the address without %", "%s names a zone", quoted(host))
	}
	return addr.Unmap().String(), nil
}

// endsInNumber is the URL standard's test for "this must be an IPv4 address".
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return false
	}
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(strings.ToLower(last), "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}

func normalizeName(host string) (string, error) {
	name := strings.TrimSuffix(host, ".")
	if len(name) > 253 {
		return "", bad("", "%s is longer than 253 bytes, which no host name is", quoted(host))
	}
	if !isASCII(name) {
		return "", bad("write its punycode form, which begins with xn--", "%s is not in ASCII", quoted(host))
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label, host); err != nil {
			return "", err
		}
	}
	return strings.ToLower(name), nil
}

// checkLabel wants letters, digits, - and _ (which machine-made names have, whatever RFC 1123 says).
func checkLabel(label, host string) error {
	switch {
	case label == "":
		return bad("", "%s has an empty label", quoted(host))
	case len(label) > 63:
		return bad("", "%s has a label longer than 63 bytes", quoted(host))
	case label[0] == '-' || label[len(label)-1] == '-':
		return bad("", "%s has a label that begins or ends with -", quoted(host))
	}
	for i := range len(label) {
		if c := label[i]; !isLower(c) && !isUpper(c) && !isDigit(c) && c != '-' && c != '_' {
			return bad("write a host name alone: no scheme, port, path or user", "%s is not a host name: it has %q", quoted(host), rune(c))
		}
	}
	return nil
}

// hostPattern reads a host or "*.example.com" and returns its one spelling.
func hostPattern(text string) (string, error) {
	domain, wild := strings.CutPrefix(text, "*.")
	if !wild {
		if strings.Contains(text, "*") {
			return "", bad(`write a whole name, or *.example.com for all names below it`, "%s has a * that is not the first label", quoted(text))
		}
		return NormalizeHost(text)
	}
	if strings.Contains(domain, "*") {
		return "", bad("write *.example.com: it matches any number of labels", "%s has more than one *", quoted(text))
	}
	host, err := NormalizeHost(domain)
	if err != nil {
		return "", err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return "", bad("write the range under networks", "%s: there is nothing below an address", quoted(text))
	}
	if len(host) > 253-len("a.") {
		return "", bad("", "%s leaves no room for a name below it", quoted(text))
	}
	return "*." + host, nil
}

// allowPattern reads a pattern that opens something. All names below a top-level domain are too many to be meant.
func allowPattern(text string) (string, error) {
	p, err := hostPattern(text)
	if err != nil {
		return "", err
	}
	if domain, wild := strings.CutPrefix(p, "*."); wild && !strings.Contains(domain, ".") {
		return "", bad("name the domain, such as *.example.com", "%s allows a whole top-level domain", quoted(text))
	}
	return p, nil
}

// MatchHost says whether a pattern covers a host: itself, or for *.a.b one or more labels below a.b, never a.b itself and never evila.b.
// An invalid pattern or host is an error, not "no match": nobody may go on with it.
func MatchHost(pattern, host string) (bool, error) {
	p, err := hostPattern(pattern)
	if err != nil {
		return false, err
	}
	h, err := NormalizeHost(host)
	if err != nil {
		return false, err
	}
	domain, wild := strings.CutPrefix(p, "*.")
	if !wild {
		return p == h, nil
	}
	return strings.HasSuffix(h, "."+domain), nil
}

// allowed reads one opening of the network as the command line writes it: a host as a rule has it, then perhaps a colon and ports with commas between
// them. An address of IPv6 with ports stands in brackets.
func allowed(text string) (entry, error) {
	host, ports, err := hostAndPorts(text, 443)
	if err != nil {
		return entry{}, err
	}
	pattern, err := allowPattern(host)
	if err != nil {
		return entry{}, err
	}
	return listEntry(func(s *Settings) *[]Value[NetRule] { return &s.Network.Allow }, NetRule{Host: pattern, Ports: ports}, always), nil
}

func hostAndPorts(text string, usual int) (host string, ports []int, err error) {
	host, list := text, ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		var found bool
		if host, list, found = strings.Cut(rest, "]"); !found || list != "" && !strings.HasPrefix(list, ":") {
			return "", nil, bad("write [ADDRESS]:PORT", "%s has no address in brackets", quoted(text))
		}
		list = strings.TrimPrefix(list, ":")
	} else if strings.Count(text, ":") == 1 {
		host, list, _ = strings.Cut(text, ":")
	}
	if list == "" && !strings.HasSuffix(text, ":") {
		return host, []int{usual}, nil
	}
	for _, t := range strings.Split(list, ",") {
		n, err := port(t)
		if err != nil {
			return "", nil, err
		}
		ports = append(ports, n)
	}
	return host, ports, nil
}
