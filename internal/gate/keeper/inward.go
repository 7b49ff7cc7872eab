package keeper

import (
	"context"
	"errors"
	"fmt"
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
	server, err := way{port: port, late: time.Now().Add(near)}.race(c.ctx, []netip.Addr{netip.MustParseAddr(wire.Loopback4), netip.MustParseAddr(wire.Loopback6)})
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
		d, err := newDoor(f)
		f.Close()
		if err != nil {
			k.unoffered(port, err)
			continue
		}
		k.offered[port] = append(k.offered[port], d)
		go k.accept(d, func(c *connection) { c.toInside(port) })
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
func (k *Keeper) connectInside(ctx context.Context, port int) (*stream, error) {
	c, err := k.connectFamily(ctx, netip.AddrPortFrom(netip.MustParseAddr(wire.Loopback4), uint16(port)))
	if err == nil {
		return c, nil
	}
	if six, err6 := k.connectFamily(ctx, netip.AddrPortFrom(netip.IPv6Loopback(), uint16(port))); err6 == nil {
		return six, nil
	}
	return nil, err
}

func (k *Keeper) connectFamily(ctx context.Context, port netip.AddrPort) (*stream, error) {
	family, _ := sockaddr(port)
	fd, err := k.socket(ctx, family)
	if err != nil {
		return nil, err
	}
	if !isTCP(fd) {
		unix.Close(fd)
		return nil, errors.New("the socket made inside is not of TCP")
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s, waits, err := begin(fd, port, true)
	if err == nil && waits {
		err = s.connected(ctx, time.Time{})
	}
	if err != nil {
		return nil, fmt.Errorf("connect inside: %w", err)
	}
	return s, nil
}
