package keeper

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const originalDestination = 80 // SO_ORIGINAL_DST, and IP6T_SO_ORIGINAL_DST

// destination is where a client wanted to go: what it was redirected from or, where nothing redirects, where it arrived.
func destination(fd int, client netip.Addr) (netip.AddrPort, error) {
	if client.Unmap().Is4() {
		if m, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, originalDestination); err == nil { // room for a sockaddr_in
			b := m.Multiaddr
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), nil
		}
	} else if m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, originalDestination); err == nil { // begins with a sockaddr_in6
		p := m.Addr.Port
		return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr).Unmap(), p<<8|p>>8), nil
	}
	return arrivedAt(fd)
}

// arrivedAt is the address of this end.
func arrivedAt(fd int) (netip.AddrPort, error) {
	a, err := syscall.Getsockname(fd)
	return addrPort(a), err
}

// addrPort takes what package syscall returns: that of x/sys asks each socket for its protocol before it says the address.
func addrPort(a syscall.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

func sockaddr(a netip.AddrPort) (family int, _ unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

const (
	unsent = 256 << 10 // bytes that may wait in the kernel for a peer that does not take them
	window = 512 << 10 // bytes from inside that may wait for the gate; the way from there is short
)

// settle has a connection send at once what it has, end when its other end is gone for good, and not fill the kernel's memory for TCP, which all of the
// machine's programs share. It does not bound what is on its way to a peer that takes it, so a long way costs no speed. Without it all works, and more
// is held.
func settle(fd int) {
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, // seconds, as package net has them
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent},
	} {
		_ = unix.SetsockoptInt(fd, o.level, o.name, o.value)
	}
}

// settleClient is settle for a client of the gate, or for a listener: what is accepted there has all this from it.
func settleClient(fd int) {
	settle(fd)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, window)
}
