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

// reset ends a connection so that its other end knows at once that it was not in order.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
