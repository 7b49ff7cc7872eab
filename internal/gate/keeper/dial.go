package keeper

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"casemate.dev/internal/gate/address"
	"casemate.dev/internal/gate/rules"
	"golang.org/x/sys/unix"
)

const maxAddresses = 16

// refusal is an address that a rule does not open.
type refusal struct{ error }

// dial connects to a host that the rules allow. A name is looked up here and nowhere else, now and never again for this connection; its addresses are
// checked, and only checked addresses are dialled: a name that resolves to something else the next time gains nothing.
//
// Where the machine has to go through a proxy, that takes the place of all this.
func (k *Keeper) dial(ctx context.Context, host string, port int, d rules.Decision) (*stream, error) {
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
	return way{port: port, late: time.Now().Add(k.limits.Dial), check: true, networks: d.Networks}.race(ctx, interleave(addrs))
}

// usable leaves out the addresses that the rule does not open. Some may be left where a name has good and bad ones. Whether one is this machine's own is
// asked when it is dialled: some names have many, and most connections take the first.
func (k *Keeper) usable(list []netip.Addr, d rules.Decision) (good []netip.Addr, err error) {
	var first error
	for _, a := range list {
		a = a.Unmap()
		err := address.Check(a, d.Networks)
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

// own says whether an address is this machine's.
func own(a netip.Addr) (bool, error) {
	if a.IsLoopback() {
		return true, nil
	}
	return leavesFrom(a)
}

// leavesFrom says whether packets to an address leave from it too. Connecting a UDP socket sends nothing.
func leavesFrom(a netip.Addr) (bool, error) {
	const discard = 9
	family, to := sockaddr(netip.AddrPortFrom(a, discard))
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == unix.EAFNOSUPPORT { // there is no way to it, so dialling it fails too
		return false, nil
	}
	if err != nil { // and not false: there may be a descriptor again when it is dialled
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if unix.Connect(fd, to) != nil {
		return false, nil // there is no way to it either
	}
	from, err := arrivedAt(fd)
	return err != nil || from.Addr() == a, nil
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
