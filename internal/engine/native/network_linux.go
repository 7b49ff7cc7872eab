package native

import (
	"net/netip"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// network makes the way to the gate, in a network namespace that has loopback and nothing else. Every address is one of this machine's own, so that a
// connection to any of them stays here; a redirect leads it to the gate's listener, which the supervisor gets. What is not TCP is rejected at once, so that
// programs do not wait: QUIC falls back to TCP.
//
// NOT promised: that a listener inside which is bound to another address than loopback's is reached by that address.
func network(p *program, pl *plan.Plan) []inside.Slot {
	if pl.Network.Kind != plan.Gate {
		return nil
	}
	p.Step("addresses and routes of the network")
	p.ask(unix.NETLINK_ROUTE, routes(pl.Network.IPv6))
	p.Step("redirect to the gate (nf_tables)")
	p.ask(unix.NETLINK_NETFILTER, Redirects(pl.Network.IPv6))
	p.Step("listeners of the gate")
	var fds []inside.Slot
	for _, l := range wire.Listeners(pl.Network.IPv6, pl.Network.HostPorts) {
		kind := unix.SOCK_STREAM
		if l == wire.DNS {
			kind = unix.SOCK_DGRAM
		}
		at := l.Inside()
		s := p.bound(at, kind)
		if kind == unix.SOCK_STREAM {
			const backlog = 1024
			p.Call(unix.SYS_LISTEN, s.Arg(), inside.Int(backlog))
		}
		fds = append(fds, s)
	}
	if pl.Network.Auto {
		// Asked for listeners by whoever holds it, it answers about this namespace (sock_diag(7)).
		fds = append(fds, p.Get(unix.SYS_SOCKET, inside.Int(unix.AF_NETLINK), inside.Int(unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK), inside.Int(unix.NETLINK_SOCK_DIAG)))
	}
	return fds
}

// verifyNetwork sees the wall for what is not TCP. The namespace has no interface to send it out by.
func verifyNetwork(p *program, pl *plan.Plan) {
	if pl.Network.Kind != plan.Gate {
		return
	}
	p.Step("verify the network")
	s := p.Get(unix.SYS_SOCKET, inside.Int(unix.AF_INET), inside.Int(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), zero)
	to := socketAddress(netip.AddrPortFrom(netip.MustParseAddr(wire.SyntheticProbe), wire.GatePort))
	p.Refused(unix.EPERM, unix.SYS_SENDTO, s.Arg(), p.Buffer(1), inside.Int(1), zero, p.Bytes(to), inside.Int(len(to)))
}

func (p *program) bound(at netip.AddrPort, kind int) inside.Slot {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	s := p.Get(unix.SYS_SOCKET, inside.Int(family), inside.Int(kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK), zero)
	name := socketAddress(at)
	p.Call(unix.SYS_BIND, s.Arg(), p.Bytes(name), inside.Int(len(name)))
	return s
}

// socketAddress is struct sockaddr_in or sockaddr_in6.
func socketAddress(to netip.AddrPort) []byte {
	at := to.Addr()
	b := native(nil, uint16(unix.AF_INET))
	if at.Is6() {
		b = native(nil, uint16(unix.AF_INET6))
	}
	b = network16(b, to.Port())
	if at.Is6() {
		b = append(b, 0, 0, 0, 0)
		b = append(b, at.AsSlice()...)
		return append(b, 0, 0, 0, 0)
	}
	return append(append(b, at.AsSlice()...), make([]byte, 8)...)
}

// routes gives lo an address of each family beside loopback's, as resolvers ask only for addresses of families that the machine has (AI_ADDRCONFIG in
// getaddrinfo(3)), and makes every other address local.
func routes(ipv6 bool) []byte {
	b := netlinkMessages{}
	b.address(netip.MustParseAddr(wire.HostV4))
	b.local(netip.MustParseAddr(wire.HostV4))
	if ipv6 {
		b.address(netip.MustParseAddr(wire.HostV6))
		b.local(netip.MustParseAddr(wire.HostV6))
	}
	b.answered()
	b.end()
	return b.bytes
}

const loIndex = 1 // of lo, the first interface of every network namespace

func (b *netlinkMessages) address(at netip.Addr) {
	b.begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.raw(familyOf(at), byte(at.BitLen()), unix.IFA_F_NODAD, unix.RT_SCOPE_HOST)
	b.bytes = native(b.bytes, uint32(loIndex))
	b.attr(unix.IFA_LOCAL, at.AsSlice())
	b.attr(unix.IFA_ADDRESS, at.AsSlice())
}

// local is `ip route add local default dev lo src FROM`. Without a source each connection would come from the address that it goes to.
func (b *netlinkMessages) local(from netip.Addr) {
	b.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.raw(familyOf(from), 0, 0, 0, unix.RT_TABLE_LOCAL, unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL)
	b.bytes = native(b.bytes, uint32(0))
	b.attr(unix.RTA_OIF, native(nil, uint32(loIndex)))
	b.attr(unix.RTA_PREFSRC, from.AsSlice())
}

func familyOf(at netip.Addr) byte {
	if at.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
