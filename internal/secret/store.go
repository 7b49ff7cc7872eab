package secret

import (
	"context"
	"time"
)

// Store is a place where the value of one entry lies.
//
// Get reads it anew each time, and does not print, log or keep it. It ends when ctx does. until is the moment from which the value is of no use, where the
// store knows it. An error is a sentence for the person who can mend it, and never holds the value or a part of it.
type Store interface {
	Get(ctx context.Context) (v Value, until time.Time, err error)
}

// Keeper is a Store that can be written through casemate too. Put replaces the value whole, or leaves it as it was; Remove of one that is not there is no error.
type Keeper interface {
	Store
	Put(ctx context.Context, v Value) error
	Remove(ctx context.Context) error
}

// Problem is an error with the way out, for the person at the terminal.
type Problem struct {
	Err  error
	Help string
}

func (p *Problem) Error() string { return p.Err.Error() }
func (p *Problem) Unwrap() error { return p.Err }

// Hint is the way out.
func (p *Problem) Hint() string { return p.Help }
