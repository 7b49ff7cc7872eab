package keeper

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const originalDestination = 80 // SO_ORIGINAL_DST, and IP6T_SO_ORIGINAL_DST

// destination is where the client wanted to go: what it was redirected from or, where nothing redirects, where it arrived.
func destination(c *net.TCPConn) (netip.AddrPort, error) {
	arrived, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("the connection has no address")
	}
	local := arrived.AddrPort()
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	to := local
	err = raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			if m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, originalDestination); err == nil { // room for a sockaddr_in
				b := m.Multiaddr
				to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
		} else if m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, originalDestination); err == nil { // begins with a sockaddr_in6
			p := m.Addr.Port
			to = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr).Unmap(), p<<8|p>>8)
		}
	})
	return to, err
}

const (
	unsent = 256 << 10 // bytes that may wait in the kernel for a peer that does not take them
	window = 512 << 10 // bytes from inside that may wait for the gate; the way from there is short
)

// bound keeps a connection from filling the kernel's memory for TCP, which all of the machine's programs share. It does not bound what is on its way to a
// peer that takes it, so a long way costs no speed.
func bound(c *net.TCPConn, inside bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // without it all works, and more is held
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		if inside {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, window)
		}
	})
}

// reset ends a connection so that its other end knows at once that it was not in order.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
