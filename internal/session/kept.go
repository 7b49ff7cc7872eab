package session

import (
	"time"

	"casemate.dev/internal/gate/wire"
)

// maxKept is how many bytes of a run's connections are written down, and as many of all else that it tried. The record is everybody's, and put aside when
// it is 16 MiB long: a sandbox that connects over and over must not make it forget the others'.
const maxKept = 4 << 20

// maxAlarms is how many bytes of alarms are written down beside: a flood of anything else hides none.
const maxAlarms = 1 << 20

// kept is what one run has in the record of connections.
type kept struct {
	made, tried int             // bytes about connections that were made, and about all else
	alarms      int             // bytes of alarms
	open        map[uint64]bool // connections whose end is still to be written
	left        int             // records that were left out and nobody was told of
	told        bool            // that some are
}

// takes says whether a record of a length is to be written down. Where a connection's beginning was, its end is too; twice the limit holds even for a gate that
// was taken over.
func (k *kept) takes(r wire.Record, long int) bool {
	switch {
	case k.open[r.ID] && r.Verdict != wire.Opened:
		delete(k.open, r.ID)
		if k.made += long; k.made <= 2*maxKept {
			return true
		}
	case r.Verdict == wire.Opened:
		if k.made+long <= maxKept {
			if k.open == nil {
				k.open = map[uint64]bool{}
			}
			k.open[r.ID], k.made = true, k.made+long
			return true
		}
	case r.Secret != "" && k.alarms+long <= maxAlarms:
		k.alarms += long
		return true
	case r.Verdict == wire.Closed: // of one that was left out
	case k.tried+long <= maxKept:
		k.tried += long
		return true
	}
	k.left++
	if r.Verdict == wire.Lost {
		k.left += r.Times - 1
	}
	return false
}

// lost is the record of what was left out since the last one; false where that is nothing.
func (k *kept) lost() (wire.Record, bool) {
	r := wire.Record{Time: time.Now().UTC(), Verdict: wire.Lost, Times: k.left, Why: "of one run no more is written down"}
	k.left, k.told = 0, true
	return r, r.Times > 0
}
