package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/sys/unix"
)

// patient is how long a connection to another sandbox may take: its supervisor gives up before.
const patient = 2 * near

// toMember serves a connection to another sandbox on a private network. The two supervisors find each other; what comes back is a socket that is
// connected to the port there, and leads nowhere else.
func (c *connection) toMember() {
	c.mu.Lock()
	c.target, c.member, c.whole = c.record.Name, true, true
	c.mu.Unlock()
	c.record.Rule = "network.internal"
	ctx, cancel := context.WithTimeout(c.ctx, patient)
	defer cancel()
	server, met, err := c.keeper.call(ctx, c.record.Name, c.record.Port)
	if err != nil {
		if met.Sandbox == "" {
			err = fmt.Errorf("%w on the internal network %s, and %s", err, strings.Join(c.keeper.internal, " or "), c.keeper.book.Decide(c.record.Name, c.record.Port).Why)
		}
		c.record.Peer = met.Sandbox
		c.fail(err)
		return
	}
	c.record.Rule, c.record.Peer = met.Rule, met.Sandbox
	if c.opened(server) {
		c.relay(trust)
	}
}

// call asks the supervisor for a connection to another sandbox.
func (k *Keeper) call(ctx context.Context, member string, port int) (*stream, wire.Met, error) {
	select {
	case k.dials <- struct{}{}:
		defer func() { <-k.dials }()
	case <-ctx.Done():
		return nil, wire.Met{}, context.Cause(ctx)
	}
	id, came := k.calls.begin()
	text, err := json.Marshal(wire.Request{Call: &wire.Call{ID: id, Member: member, Port: port}})
	if err == nil {
		_, err = k.supervisor.Write(text)
	}
	if err != nil {
		k.calls.forget(id)
		return nil, wire.Met{}, err
	}
	select {
	case a := <-came:
		c, err := a.connection()
		return c, a.Met, err
	case <-ctx.Done():
		k.calls.forget(id)
		return nil, wire.Met{}, context.Cause(ctx)
	}
}

// calls are those that were not answered yet.
type calls struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan meeting
}

// meeting is an answer and its socket; -1 without one.
type meeting struct {
	wire.Met
	fd int
}

func (c *calls) begin() (uint64, <-chan meeting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[uint64]chan meeting{}
	}
	c.last++
	came := make(chan meeting, 1)
	c.waiting[c.last] = came
	return c.last, came
}

// forget is for who waits no longer. The answer may have come by now.
func (c *calls) forget(id uint64) {
	c.mu.Lock()
	came := c.waiting[id]
	delete(c.waiting, id)
	c.mu.Unlock()
	if came == nil {
		return
	}
	select {
	case a := <-came:
		a.close()
	default:
	}
}

func (c *calls) deliver(m wire.Met, fds []int) {
	a := meeting{m, -1}
	if len(fds) == 1 {
		a.fd = fds[0]
	} else {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	came := c.waiting[m.Call]
	delete(c.waiting, m.Call)
	if came == nil {
		a.close()
		return
	}
	came <- a
}

func (a meeting) close() {
	if a.fd >= 0 {
		unix.Close(a.fd)
	}
}

func (a meeting) connection() (*stream, error) {
	if a.fd < 0 {
		return nil, errors.New(a.Why)
	}
	return received(a.fd)
}
