package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// newResolver is the host's. Connections that look the same name up at the same moment share the answer; nothing of it is kept.
func newResolver() *net.Resolver { return &net.Resolver{PreferGo: true, Dial: dialResolver} }

// lookup asks the host's resolver, as its files say. Names with a dot are whole: search domains of the host are not added to them.
func (k *Keeper) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if strings.Contains(host, ".") {
		host += "."
	}
	ctx, cancel := context.WithTimeout(ctx, k.limits.Resolve)
	defer cancel()
	list, err := k.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, unresolved(strings.TrimSuffix(host, "."), err)
	}
	return list, nil
}

// unresolved says why. Landlock lets the gate read the file that was there when it started: where a host replaces it, instead of writing into it or
// linking to a directory of systemd's or NetworkManager's, the gate has no resolver any more.
func unresolved(host string, err error) error {
	var e *net.DNSError
	if errors.As(err, &e) {
		err = errors.New(e.Err)
	}
	f, errOpen := os.Open("/etc/resolv.conf")
	if errors.Is(errOpen, fs.ErrPermission) {
		return fmt.Errorf("look up %s on the host: /etc/resolv.conf was replaced after the sandbox had started; start it again", host)
	}
	f.Close()
	return fmt.Errorf("look up %s on the host: %w", host, err)
}

// query is a socket for one query and its answer, with a port of its own that nobody can know before. Package net's would do the same with more calls.
type query struct{ *stream }

// ReadFrom and WriteTo say to package net that these are packets.
func (q query) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := q.Read(p)
	return n, q.RemoteAddr(), err
}

func (q query) WriteTo(p []byte, _ net.Addr) (int, error) { return q.Write(p) }

// dialResolver makes what the resolver asks for. What is not the rule is package net's: TCP for long answers, link-local servers.
func dialResolver(ctx context.Context, network, server string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(server)
	if err != nil || network != "udp" || to.Addr().Zone() != "" {
		return new(net.Dialer).DialContext(ctx, network, server)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	family, at := sockaddr(to)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, dialling(to, os.NewSyscallError("socket", err))
	}
	if err := unix.Connect(fd, at); err != nil {
		unix.Close(fd)
		return nil, dialling(to, os.NewSyscallError("connect", err))
	}
	s, err := newStream(fd, to)
	if err != nil {
		return nil, dialling(to, err)
	}
	s.network = network
	return query{s}, nil
}

// Read reads one answer. An empty one, which anybody can forge, is not the end.
func (q query) Read(p []byte) (n int, err error) {
	waited := q.raw.Read(func(fd uintptr) bool {
		n, err = retry(func() (int, error) { return unix.Read(int(fd), p) })
		return err != unix.EAGAIN
	})
	return max(n, 0), q.failure("read", firstOf(waited, err))
}
