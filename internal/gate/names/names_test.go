package names

import (
	"fmt"
	"net/netip"
	"testing"

	"casemate.dev/internal/gate/wire"
)

// TestNeverReused: an address stands for one name for ever, and when none is left names fail.
func TestNeverReused(t *testing.T) {
	var table Table
	seen := map[netip.Addr]bool{}
	for _, own := range []string{wire.HostV4, wire.HostV6, wire.SyntheticProbe} {
		seen[netip.MustParseAddr(own)] = true
	}
	for i := range Max {
		name := fmt.Sprintf("n%d.example.com", i)
		v4, v6, ok := table.Addresses(name)
		if !ok || seen[v4] || seen[v6] {
			t.Fatalf("%s: %v %v %v", name, v4, v6, ok)
		}
		seen[v4], seen[v6] = true, true
		for _, a := range []netip.Addr{v4, v6, netip.AddrFrom16(v4.As16())} {
			if got, synthetic := table.Name(a); got != name || !synthetic {
				t.Fatalf("%v stands for %q, want %q", a, got, name)
			}
		}
	}
	if v4, _, ok := table.Addresses("one.too.many"); ok {
		t.Errorf("a name more got %v", v4)
	}
	if v4, _, ok := table.Addresses("n7.example.com"); !ok || v4 != netip.MustParseAddr("198.18.0.23") {
		t.Errorf("a name known before has %v %v now", v4, ok)
	}
}

func TestAddressesOfNobody(t *testing.T) {
	var table Table
	table.Addresses("a.example.com")
	for text, want := range map[string]bool{
		"198.18.0.0": true, wire.HostV4: true, wire.HostV6: true, wire.SyntheticProbe: true, "198.18.0.17": true, "198.19.255.255": true,
		"fd43:6173:6d61::c612:11": true, "fd43:6173:6d61::7f00:1": true,
		"198.17.255.255": false, "198.20.0.0": false, "127.0.0.1": false, "::1": false, "fd43:6173:6d61:0:1::c612:10": false, "::c612:10": false,
	} {
		if name, synthetic := table.Name(netip.MustParseAddr(text)); name != "" || synthetic != want {
			t.Errorf("%s: %q %v", text, name, synthetic)
		}
	}
}
