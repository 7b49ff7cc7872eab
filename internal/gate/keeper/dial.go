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
	"time"

	"casemate.dev/internal/gate/address"
	"casemate.dev/internal/gate/rules"
)

const (
	stagger      = 250 * time.Millisecond // between the attempts at addresses (RFC 8305, 5)
	maxAddresses = 16
)

// refusal is an address that a rule does not open.
type refusal struct{ error }

// dial connects to a host that the rules allow. A name is looked up here and nowhere else, now and never again for this connection; its addresses are
// checked, and only checked addresses are dialled: a name that resolves to something else the next time gains nothing.
//
// Where the machine has to go through a proxy, that takes the place of all this.
func (k *Keeper) dial(ctx context.Context, host string, port int, d rules.Decision) (*net.TCPConn, error) {
	select {
	case k.dials <- struct{}{}:
		defer func() { <-k.dials }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if proxy := k.upstream.forHost(host, port); proxy != nil {
		return k.through(ctx, proxy, host, port)
	}
	all, err := k.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs, err := k.usable(all, d)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, k.limits.Dial)
	defer cancel()
	return race(ctx, interleave(addrs), port)
}

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
	resolver := net.Resolver{PreferGo: true}
	list, err := resolver.LookupNetIP(ctx, "ip", host)
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

// usable leaves out the addresses that the rule does not open. Some may be left where a name has good and bad ones.
func (k *Keeper) usable(list []netip.Addr, d rules.Decision) (good []netip.Addr, err error) {
	var first error
	for _, a := range list {
		a = a.Unmap()
		err := address.Check(a, d.Networks)
		if err == nil && own(a) {
			err = address.CheckOwn(a, d.Networks)
		}
		if err == nil {
			if no, denied := k.book.Set().Denied(a.String()); denied {
				err = errors.New(no.Why)
			}
		}
		if err == nil {
			good = append(good, a)
		} else if first == nil {
			first = err
		}
	}
	if len(good) == 0 && first == nil {
		return nil, errors.New("the name has no address")
	}
	if len(good) == 0 {
		return nil, refusal{first}
	}
	return good[:min(len(good), maxAddresses)], nil
}

// own says whether an address is this machine's: packets to one leave from it too. Connecting a UDP socket sends nothing.
func own(a netip.Addr) bool {
	const discard = 9
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, discard)))
	if err != nil {
		return false // there is no way to it, so dialling it fails too
	}
	defer c.Close()
	from, ok := c.LocalAddr().(*net.UDPAddr)
	return !ok || from.AddrPort().Addr().Unmap() == a
}

// interleave takes turns between the families, beginning with that of the first address (RFC 8305, 4).
func interleave(list []netip.Addr) []netip.Addr {
	var same, other []netip.Addr
	for _, a := range list {
		if a.Is4() == list[0].Is4() {
			same = append(same, a)
		} else {
			other = append(other, a)
		}
	}
	out := make([]netip.Addr, 0, len(list))
	for len(same)+len(other) > 0 {
		if len(same) > 0 {
			out, same = append(out, same[0]), same[1:]
		}
		if len(other) > 0 {
			out, other = append(out, other[0]), other[1:]
		}
	}
	return out
}

// attempt is what became of dialling one address.
type attempt struct {
	conn *net.TCPConn
	err  error
}

// race dials the addresses one after the other, without waiting long for any, and returns the first connection.
func race(ctx context.Context, addrs []netip.Addr, port int) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, len(addrs))
	if len(addrs) == 1 { // most names: nothing to wait for beside it, so no other thread has to wake
		dialOne(ctx, addrs[0], port, results)
		r := <-results
		return r.conn, r.err
	}
	running := 0
	var failed error
	next := time.NewTimer(0)
	defer next.Stop()
	for running > 0 || len(addrs) > 0 {
		select {
		case <-next.C:
			if len(addrs) > 0 {
				go dialOne(ctx, addrs[0], port, results)
				addrs = addrs[1:]
				running++
				next.Reset(stagger)
			}
		case r := <-results:
			running--
			if r.err == nil {
				go discard(results, running)
				return r.conn, nil
			}
			if failed == nil {
				failed = r.err
			}
			next.Reset(0)
		}
	}
	return nil, failed
}

func dialOne(ctx context.Context, a netip.Addr, port int, results chan<- attempt) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(a, uint16(port)).String())
	if err != nil {
		results <- attempt{err: err}
		return
	}
	results <- attempt{conn: c.(*net.TCPConn)}
}

// discard closes the connections that came too late.
func discard(results <-chan attempt, running int) {
	for range running {
		if r := <-results; r.err == nil {
			r.conn.Close()
		}
	}
}
