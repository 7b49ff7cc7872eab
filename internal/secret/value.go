// Package secret holds what must never be printed: the values of credentials, and the contract of the stores that keep them.
//
// It is linked into casemate's gate, so what opens files and connections lies in packages of its own beneath it.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Redacted is what every form of a Value looks like.
const Redacted = "[redacted]"

// MaxValue is how long a value may be, in bytes. Base64 of it fits into one message of package ask.
const MaxValue = 32 << 10

// ErrWiped is what Use returns for a Value that was wiped, or never made.
var ErrWiped = errors.New("the value was wiped")

// Value is the value of a credential. Whatever formats, marshals or logs it gets Redacted, also where it lies in an unexported field, which package fmt
// prints without asking: the bytes lie behind a function, which reflection cannot look into. Use is the one way to them.
//
// The bytes lie in pages of their own, outside Go's heap: the collector never sees them, a core dump leaves them out (MADV_DONTDUMP), a child gets zeros
// (MADV_WIPEONFORK), and they are kept out of swap where the limit of locked memory allows (mlock(2)). Wipe, or the collector once nothing refers to the Value,
// overwrites them and gives the pages back.
//
// What that does NOT do: whoever made the bytes that New took, and whoever got them from Use and made a string or another slice of them, left copies that
// only Go's collector frees, and it does not overwrite what it frees. Package net/http and every TLS library keep such copies. Registers, and stacks that
// grew, are never overwritten. Who may read this process's memory reads the value while it lives; that is why the processes that hold values are not dumpable.
type Value struct{ held func() *pages }

// pages are where one value lies. mu is held for reading while the bytes are used, so that nobody wipes them under a user's hands.
type pages struct {
	mu      sync.RWMutex
	data    []byte // nil once wiped
	cleanup runtime.Cleanup
}

// New takes the bytes, and overwrites b: it is the caller's last sight of them.
func New(b []byte) (Value, error) {
	defer clear(b)
	if len(b) == 0 {
		return Value{}, errors.New("the value is empty")
	}
	if len(b) > MaxValue {
		return Value{}, fmt.Errorf("the value is longer than %d bytes", MaxValue)
	}
	data, err := unix.Mmap(-1, 0, len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return Value{}, fmt.Errorf("memory for a value: %w", err)
	}
	// Each is worth having and none is promised: a kernel without them, a filter or a limit may refuse.
	unix.Madvise(data, unix.MADV_DONTDUMP)
	unix.Madvise(data, unix.MADV_WIPEONFORK)
	unix.Mlock(data)
	copy(data, b)
	p := &pages{data: data}
	p.cleanup = runtime.AddCleanup(p, unmap, data)
	return Value{func() *pages { return p }}, nil
}

// unmap runs once for every value: in Wipe, or by the collector.
func unmap(data []byte) {
	clear(data)
	unix.Munmap(data)
}

// Use calls f with the bytes, for the moment in which they are put where they belong. f must not keep them: after Wipe they are gone, and
// whoever touches them ends the process.
func (v Value) Use(f func([]byte) error) error {
	if v.held == nil {
		return ErrWiped
	}
	p := v.held()
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.data == nil {
		return ErrWiped
	}
	return f(p.data)
}

// Copy is a Value of its own, which outlives the first one.
func (v Value) Copy() (c Value, err error) {
	err = v.Use(func(b []byte) (err error) { c, err = New(bytes.Clone(b)); return err }) // New overwrites what it was made from
	return c, err
}

// Wipe overwrites the bytes, for every copy of the Value, once those who use them are done. It may be called again.
func (v Value) Wipe() {
	if v.held == nil {
		return
	}
	p := v.held()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.data == nil {
		return
	}
	p.cleanup.Stop()
	unmap(p.data)
	p.data = nil
}

// Len is the value's length in bytes; 0 when it was wiped.
func (v Value) Len() int {
	if v.held == nil {
		return 0
	}
	p := v.held()
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.data)
}

// The forms of a Value. Format serves package fmt's every verb, and the others those who do not ask it.

func (v Value) Format(s fmt.State, _ rune)     { io.WriteString(s, Redacted) }
func (v Value) String() string                 { return Redacted }
func (v Value) GoString() string               { return Redacted }
func (v Value) LogValue() slog.Value           { return slog.StringValue(Redacted) }
func (v Value) MarshalJSON() ([]byte, error)   { return []byte(`"` + Redacted + `"`), nil }
func (v Value) MarshalText() ([]byte, error)   { return []byte(Redacted), nil }
func (v Value) MarshalBinary() ([]byte, error) { return []byte(Redacted), nil }
func (v Value) MarshalYAML() (any, error)      { return Redacted, nil }
func (v Value) GobEncode() ([]byte, error)     { return []byte(Redacted), nil }
