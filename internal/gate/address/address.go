// Package address says which real addresses the gate may connect to.
package address

import (
	"fmt"
	"net/netip"
	"sync"

	"casemate.dev/internal/gate/wire"
)

// class is a range that no public name has a reason to resolve to.
type class struct {
	text   string
	what   string
	grip   grip
	prefix netip.Prefix // text, read
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
	list := []class{
		{text: "169.254.169.254/32", what: "the metadata service of clouds", grip: exact},
		{text: "169.254.170.2/32", what: "the credentials service of Amazon's containers", grip: exact},
		{text: "169.254.170.23/32", what: "the credentials service of Amazon's clusters", grip: exact},
		{text: "100.100.100.200/32", what: "the metadata service of Alibaba's cloud", grip: exact},
		{text: "168.63.129.16/32", what: "the agent's service of Azure", grip: exact},
		{text: "192.0.0.192/32", what: "the metadata service of Oracle's cloud", grip: exact},
		{text: "fd00:ec2::254/128", what: "the metadata service of Amazon's cloud", grip: exact},
		{text: "fd00:ec2::23/128", what: "the credentials service of Amazon's clusters", grip: exact},
		{text: "fd20:ce::254/128", what: "the metadata service of Google's cloud", grip: exact},
		{text: "127.0.0.0/8", what: "loopback", grip: exact},
		{text: "::1/128", what: "loopback", grip: exact},
		{text: "169.254.0.0/16", what: "link-local", grip: exact},
		{text: "fe80::/10", what: "link-local", grip: exact},
		{text: "0.0.0.0/8", what: "an unspecified address", grip: never},
		{text: "::/128", what: "an unspecified address", grip: never},
		{text: "224.0.0.0/4", what: "multicast", grip: never},
		{text: "ff00::/8", what: "multicast", grip: never},
		{text: "240.0.0.0/4", what: "reserved", grip: never},
		{text: wire.SyntheticV4, what: "of the range of synthetic addresses", grip: ranged},
		{text: wire.SyntheticV6, what: "of the range of synthetic addresses", grip: ranged},
		{text: "10.0.0.0/8", what: "private", grip: ranged},
		{text: "172.16.0.0/12", what: "private", grip: ranged},
		{text: "192.168.0.0/16", what: "private", grip: ranged},
		{text: "100.64.0.0/10", what: "of a carrier's private range", grip: ranged},
		{text: "192.0.0.0/24", what: "of a range for protocols", grip: ranged},
		{text: "192.88.99.0/24", what: "a 6to4 relay", grip: ranged},
		{text: "fc00::/7", what: "private", grip: ranged},
		{text: "fec0::/10", what: "site-local", grip: ranged},
		{text: "64:ff9b:1::/48", what: "of a local translation to IPv4", grip: ranged},
		{text: "100::/64", what: "of a range that is discarded", grip: ranged},
		{text: "2001::/23", what: "of a range for protocols, such as Teredo", grip: ranged},
		{text: "::/96", what: "an old form of an IPv4 address", grip: ranged},
	}
	for i := range list {
		list[i].prefix = netip.MustParsePrefix(list[i].text)
	}
	return list
}

// read are the classes from the first question on: each connection asks several times, and reading them takes longer than asking.
var read struct {
	once sync.Once
	list []class
}

// Check returns why a rule with these networks may not be used to connect to the address; nil if it may.
func Check(a netip.Addr, networks []netip.Prefix) error {
	if !a.IsValid() || a.Zone() != "" {
		return fmt.Errorf("%v is no address of another machine", a)
	}
	a = a.Unmap()
	read.once.Do(func() { read.list = classes() })
	for i := range read.list {
		if c := &read.list[i]; c.prefix.Contains(a) {
			if c.opened(a, networks) {
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
	a = a.Unmap()
	own := class{what: "an address of this machine", grip: exact, prefix: netip.PrefixFrom(a, a.BitLen())}
	if a.IsLoopback() || own.opened(a, networks) {
		return nil // Check has decided about loopback
	}
	return refusal(a, &own)
}

func (c *class) opened(a netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if c.grip != never && n.Contains(a) && (c.grip == ranged || n.Bits() >= c.prefix.Bits()) {
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

func refusal(a netip.Addr, c *class) error {
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
