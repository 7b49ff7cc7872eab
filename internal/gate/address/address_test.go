package address

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, addr, networks string
		refused              bool
	}{
		{"public", "93.184.216.34", "", false},
		{"public IPv6", "2606:4700::1111", "", false},
		{"documentation", "203.0.113.5", "", false},
		{"private", "10.0.0.5", "", true},
		{"private, named", "10.0.0.5", "10.0.0.0/24", false},
		{"private, another named", "10.0.1.5", "10.0.0.0/24", true},
		{"private by a wide range", "192.168.1.1", "0.0.0.0/0", false},
		{"mapped private", "::ffff:10.0.0.5", "", true},
		{"carrier", "100.64.0.1", "", true},
		{"unique local", "fd12::1", "", true},
		{"loopback", "127.0.0.1", "", true},
		{"loopback by a wide range", "127.0.0.1", "0.0.0.0/0", true},
		{"loopback, named", "127.0.0.1", "127.0.0.0/8", false},
		{"loopback, named narrowly", "127.0.0.2", "127.0.0.1/32", true},
		{"loopback IPv6", "::1", "::/0", true},
		{"loopback IPv6, named", "::1", "::1/128", false},
		{"mapped loopback", "::ffff:127.0.0.1", "", true},
		{"mapped loopback by a wide IPv6 range", "::ffff:127.0.0.1", "::/0", true},
		{"old form of loopback", "::127.0.0.1", "", true},
		{"link-local", "169.254.1.1", "0.0.0.0/0", true},
		{"link-local, named", "169.254.1.1", "169.254.0.0/16", false},
		{"link-local IPv6", "fe80::1", "", true},
		{"link-local IPv6 with a zone", "fe80::1%eth0", "fe80::/10", true},
		{"metadata", "169.254.169.254", "", true},
		{"metadata by link-local", "169.254.169.254", "169.254.0.0/16", true},
		{"metadata, named", "169.254.169.254", "169.254.169.254/32", false},
		{"metadata of Amazon, IPv6", "fd00:ec2::254", "fd00::/8", true},
		{"metadata of Alibaba by carrier", "100.100.100.200", "100.64.0.0/10", true},
		{"Azure's, a public address", "168.63.129.16", "", true},
		{"unspecified", "0.0.0.0", "0.0.0.0/32", true},
		{"this network", "0.1.2.3", "0.0.0.0/0", true},
		{"unspecified IPv6", "::", "::/128", true},
		{"multicast", "224.0.0.1", "224.0.0.0/4", true},
		{"multicast IPv6", "ff02::1", "ff00::/8", true},
		{"broadcast", "255.255.255.255", "0.0.0.0/0", true},
		{"synthetic", "198.18.0.20", "", true},
		{"synthetic IPv6", "fd43:6173:6d61::c612:14", "", true},
		{"NAT64 of public", "64:ff9b::93.184.216.34", "", false},
		{"NAT64 of metadata", "64:ff9b::169.254.169.254", "", true},
		{"NAT64 of private", "64:ff9b::10.0.0.5", "", true},
		{"NAT64 of private, named", "64:ff9b::10.0.0.5", "10.0.0.0/8", false},
		{"local NAT64", "64:ff9b:1::1", "", true},
		{"6to4 of loopback", "2002:7f00:1::", "", true},
		{"6to4 of private", "2002:c0a8:101::1", "", true},
		{"6to4 of public", "2002:5db8:d822::1", "", false},
		{"Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var networks []netip.Prefix
			for n := range strings.FieldsSeq(c.networks) {
				networks = append(networks, netip.MustParsePrefix(n))
			}
			if err := Check(netip.MustParseAddr(c.addr), networks); (err != nil) != c.refused {
				t.Errorf("%s with %q: %v", c.addr, c.networks, err)
			}
		})
	}
}

func TestCheckOwn(t *testing.T) {
	for networks, refused := range map[string]bool{"": true, "10.0.0.0/8": true, "0.0.0.0/0": true, "10.0.0.5/32": false} {
		var list []netip.Prefix
		for n := range strings.FieldsSeq(networks) {
			list = append(list, netip.MustParsePrefix(n))
		}
		if err := CheckOwn(netip.MustParseAddr("10.0.0.5"), list); (err != nil) != refused {
			t.Errorf("with %q: %v", networks, err)
		}
	}
}

// FuzzCheck: no spelling of an address that the standard library calls private, loopback, link-local, multicast or unspecified gets through without a network.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:a00:1::", "fe80::1", "ff02::1", "93.184.216.34"} {
		a := netip.MustParseAddr(s).As16()
		f.Add(a[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || Check(a, nil) != nil {
			return
		}
		all := []netip.Addr{a, a.Unmap()}
		if inner, ok := embedded(a.Unmap()); ok {
			all = append(all, inner)
		}
		for _, a := range all {
			if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
				t.Errorf("%v is let through", a)
			}
		}
	})
}
