package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/sys/unix"
)

const near = 5 * time.Second // for what is on this machine to answer

// toHost serves a connection to a port of the host's loopback that the policy opens.
func (c *connection) toHost(port int) {
	c.record.Name, c.record.Port, c.record.Rule = "localhost", port, "network.host_ports"
	ctx, cancel := context.WithTimeout(c.ctx, near)
	defer cancel()
	server, err := race(ctx, []netip.Addr{netip.MustParseAddr(wire.Loopback4), netip.MustParseAddr(wire.Loopback6)}, port)
	if err != nil {
		c.fail(err)
		return
	}
	if c.opened(server) {
		c.relay(trust)
	}
}

// toInside serves a connection of the host's to a published port. Nobody but the host's own programs can make one, so it leaves no record.
func (c *connection) toInside(port int) {
	ctx, cancel := context.WithTimeout(c.ctx, near)
	defer cancel()
	inside, err := c.keeper.connectInside(ctx, port)
	if err != nil {
		reset(c.client)
		return
	}
	c.mu.Lock()
	ended := c.ended
	c.server = inside
	c.mu.Unlock()
	if ended {
		reset(inside)
		return
	}
	_ = c.join(trust) // whoever called sees how it ended
}

// offer serves connections of the host's to a port inside from now on. That it cannot concerns this port alone.
func (k *Keeper) offer(port int, fds []int) {
	if len(fds) == 0 {
		k.unoffered(port, unix.EMFILE)
	}
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "offer")
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			k.unoffered(port, err)
			continue
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			k.unoffered(port, errors.New("it is not of TCP"))
			continue
		}
		k.offered[port] = append(k.offered[port], tcp)
		go k.accept(tcp, func(c *connection) { c.toInside(port) })
	}
}

func (k *Keeper) unoffered(port int, err error) {
	k.log.TellOnce(wire.Record{Verdict: wire.Failed, Name: "localhost", Port: port, Why: fmt.Sprintf("a listener for the port inside was not to be had: %v", err)})
}

// withdraw takes no more of them.
func (k *Keeper) withdraw(port int) {
	for _, l := range k.offered[port] {
		l.Close()
	}
	delete(k.offered, port)
}

// connectInside connects to a port of the sandbox's loopback, with a socket that was made there.
func (k *Keeper) connectInside(ctx context.Context, port int) (*net.TCPConn, error) {
	c, err := k.connectFamily(ctx, unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		return c, nil
	}
	if six, err6 := k.connectFamily(ctx, unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}); err6 == nil {
		return six, nil
	}
	return nil, err
}

func (k *Keeper) connectFamily(ctx context.Context, family int, to unix.Sockaddr) (*net.TCPConn, error) {
	fd, err := k.socket(ctx, family)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inside")
	defer f.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		return nil, err
	}
	any, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	c, ok := any.(*net.TCPConn)
	if !ok {
		any.Close()
		return nil, errors.New("the socket made inside is not of TCP")
	}
	if err := connected(ctx, c); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect inside: %w", err)
	}
	return c, nil
}

// connected waits until a socket that is connecting has done so.
func connected(ctx context.Context, c *net.TCPConn) error {
	if late, ok := ctx.Deadline(); ok {
		if err := c.SetWriteDeadline(late); err != nil {
			return err
		}
		defer c.SetWriteDeadline(time.Time{})
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && n != 0 {
			err = unix.Errno(n)
		}
		if err != nil {
			failed = err
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	if err == nil {
		err = failed
	}
	return err
}
