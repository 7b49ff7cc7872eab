// Package address says which real addresses the gate may connect to.
package address

import (
	"fmt"
	"net/netip"

	"casemate.dev/internal/gate/wire"
)

// class is a range that no public name has a reason to resolve to.
type class struct {
	prefix string
	what   string
	grip   grip
}

// grip is what it takes to open a class.
type grip int

const (
	ranged grip = iota // a network of the rule that holds the address
	exact              // the same, and that network lies within the class: 10.0.0.0/8 or ::/0 do not open loopback by the way
	never
)

// classes are asked from the top. Sources: the IANA registries of special-purpose addresses (RFC 6890 and updates), and the clouds' manuals for
// metadata. Documentation ranges are not here: nothing lives there.
func classes() []class {
	return []class{
		{"169.254.169.254/32", "the metadata service of clouds", exact},
		{"169.254.170.2/32", "the credentials service of Amazon's containers", exact},
		{"169.254.170.23/32", "the credentials service of Amazon's clusters", exact},
		{"100.100.100.200/32", "the metadata service of Alibaba's cloud", exact},
		{"168.63.129.16/32", "the agent's service of Azure", exact},
		{"192.0.0.192/32", "the metadata service of Oracle's cloud", exact},
		{"fd00:ec2::254/128", "the metadata service of Amazon's cloud", exact},
		{"fd00:ec2::23/128", "the credentials service of Amazon's clusters", exact},
		{"fd20:ce::254/128", "the metadata service of Google's cloud", exact},
		{"127.0.0.0/8", "loopback", exact},
		{"::1/128", "loopback", exact},
		{"169.254.0.0/16", "link-local", exact},
		{"fe80::/10", "link-local", exact},
		{"0.0.0.0/8", "an unspecified address", never},
		{"::/128", "an unspecified address", never},
		{"224.0.0.0/4", "multicast", never},
		{"ff00::/8", "multicast", never},
		{"240.0.0.0/4", "reserved", never},
		{wire.SyntheticV4, "of the range of synthetic addresses", ranged},
		{wire.SyntheticV6, "of the range of synthetic addresses", ranged},
		{"10.0.0.0/8", "private", ranged},
		{"172.16.0.0/12", "private", ranged},
		{"192.168.0.0/16", "private", ranged},
		{"100.64.0.0/10", "of a carrier's private range", ranged},
		{"192.0.0.0/24", "of a range for protocols", ranged},
		{"192.88.99.0/24", "a 6to4 relay", ranged},
		{"fc00::/7", "private", ranged},
		{"fec0::/10", "site-local", ranged},
		{"64:ff9b:1::/48", "of a local translation to IPv4", ranged},
		{"100::/64", "of a range that is discarded", ranged},
		{"2001::/23", "of a range for protocols, such as Teredo", ranged},
		{"::/96", "an old form of an IPv4 address", ranged},
	}
}

// Check returns why a rule with these networks may not be used to connect to the address; nil if it may.
func Check(a netip.Addr, networks []netip.Prefix) error {
	if !a.IsValid() || a.Zone() != "" {
		return fmt.Errorf("%v is no address of another machine", a)
	}
	a = a.Unmap()
	for _, c := range classes() {
		if p := netip.MustParsePrefix(c.prefix); p.Contains(a) {
			if c.opened(p, a, networks) {
				return nil
			}
			return refusal(a, c)
		}
	}
	if inner, ok := embedded(a); ok && !contains(networks, a) {
		if err := Check(inner, networks); err != nil {
			return fmt.Errorf("%v leads to IPv4: %w", a, err)
		}
	}
	return nil
}

// CheckOwn is Check for an address of this machine: everything that listens here hears it, so a wide network does not open it.
func CheckOwn(a netip.Addr, networks []netip.Prefix) error {
	own := class{what: "an address of this machine", grip: exact}
	a = a.Unmap()
	if a.IsLoopback() || own.opened(netip.PrefixFrom(a, a.BitLen()), a, networks) {
		return nil // Check has decided about loopback
	}
	return refusal(a, own)
}

func (c class) opened(p netip.Prefix, a netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if c.grip != never && n.Contains(a) && (c.grip == ranged || n.Bits() >= p.Bits()) {
			return true
		}
	}
	return false
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

func refusal(a netip.Addr, c class) error {
	switch c.grip {
	case never:
		return fmt.Errorf("%v is %s, to which nothing connects", a, c.what)
	case exact:
		return fmt.Errorf("%v is %s, and no network of the rule names just that", a, c.what)
	}
	return fmt.Errorf("%v is %s, and no network of the rule holds it", a, c.what)
}

// embedded is the IPv4 address that packets to a go to behind a translator: NAT64's well-known prefix (RFC 6052), 6to4 (RFC 3056).
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return a, false
	}
	b := a.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return a, false
}
