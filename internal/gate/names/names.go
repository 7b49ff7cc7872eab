// Package names gives each name that may be reached an address of its own, which stands for it as long as the sandbox lives.
package names

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"casemate.dev/internal/gate/wire"
)

const (
	// first is the number of the first synthetic address that is given out; those before it are the sandbox's own.
	first = 16

	// Max is how many names a sandbox can use. An address is never given to a second name, because a program may still hold it, so a program
	// that makes up names below a wildcard ends here and not in the gate's memory.
	Max = 1 << 15
)

// Table is the names and their addresses. The zero value is empty and ready.
type Table struct {
	mu    sync.RWMutex
	index map[string]uint32
	names []string
}

// Addresses returns the addresses that stand for name, which is normalised. ok is false when there are none left.
func (t *Table) Addresses(name string) (v4, v6 netip.Addr, ok bool) {
	i, ok := t.find(name)
	if !ok {
		if i, ok = t.add(name); !ok {
			return v4, v6, false
		}
	}
	v4, v6 = address(i)
	return v4, v6, true
}

func (t *Table) find(name string) (uint32, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, ok := t.index[name]
	return i, ok
}

func (t *Table) add(name string) (uint32, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.index[name]; ok {
		return i, true
	}
	if len(t.names) == Max {
		return 0, false
	}
	if t.index == nil {
		t.index = map[string]uint32{}
	}
	i := uint32(len(t.names))
	t.names = append(t.names, name)
	t.index[name] = i
	return i, true
}

// Name returns the name that an address stands for. synthetic says that the address is of the ranges, whether or not it stands for one.
func (t *Table) Name(a netip.Addr) (name string, synthetic bool) {
	i, synthetic := number(a)
	if !synthetic || i < first {
		return "", synthetic
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if i -= first; i < uint32(len(t.names)) {
		name = t.names[i]
	}
	return name, true
}

func address(i uint32) (v4, v6 netip.Addr) {
	base := netip.MustParsePrefix(wire.SyntheticV4).Addr().As4()
	n := binary.BigEndian.Uint32(base[:]) + first + i
	var four [4]byte
	binary.BigEndian.PutUint32(four[:], n)
	sixteen := netip.MustParsePrefix(wire.SyntheticV6).Addr().As16()
	copy(sixteen[12:], four[:])
	return netip.AddrFrom4(four), netip.AddrFrom16(sixteen)
}

// number is the place of an address in the IPv4 range, to which the last 32 bits of an IPv6 one belong too.
func number(a netip.Addr) (n uint32, synthetic bool) {
	a = a.Unmap()
	if a.Is6() {
		if !netip.MustParsePrefix(wire.SyntheticV6).Contains(a) {
			return 0, false
		}
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
		if !netip.MustParsePrefix(wire.SyntheticV4).Contains(a) {
			return 0, true // the sandbox's own address, and what stands for nothing
		}
	}
	v4 := netip.MustParsePrefix(wire.SyntheticV4)
	if !v4.Contains(a) {
		return 0, false
	}
	b, base := a.As4(), v4.Addr().As4()
	return binary.BigEndian.Uint32(b[:]) - binary.BigEndian.Uint32(base[:]), true
}
