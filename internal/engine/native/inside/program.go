// Package inside holds the program of system calls that a cloned child runs to become the sandbox, and the loop it then stays in as pid 1.
//
// All decisions are taken by ordinary Go code that builds the program. What runs after the clone is only an interpreter of that list
// (child_linux.go): it allocates nothing, calls no function that may grow the stack, and so needs no Go runtime. That keeps the start at one
// Go runtime, makes every set-up step a row that can be printed, counted and made to fail, and leaves pid 1 as a process that owns next to
// no memory.
package inside

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kinds of operation. Everything that is not a plain system call is here because it cannot be decided before the clone.
const (
	opCall     = iota // a system call
	opEqual           // memory at a[0] equals memory at a[1], a[2] bytes
	opDiffer          // the same, but it must differ
	opContains        // memory at a[0] of slot-or-immediate length a[1] contains the bytes at a[2] of length a[3]
	opStore           // store the 32-bit value a[1] at address a[0]
	opRefused         // a system call that must fail with exactly the errno in ignore
	opFork            // clone the command: the child goes on with the next operation, pid 1 enters its loop
	opOnlyIf          // leave out the next a[3] operations unless memory at a[0] equals memory at a[1], a[2] bytes
	opRetry           // a system call repeated until it succeeds or says ENOENT, a[5] times at most, 10 ms apart
	opAnswer          // the 32-bit value at a[0] is 0, or the negative errno that the step fails with
	opFail            // fails always: fault injection
)

// Slot names a place where the result of an operation is kept for later ones.
type Slot uint16

// noSlot is the slot of operations whose result nobody needs. Its value is never read.
const noSlot Slot = 0

const maxSlots = 1 << 14

// op is one row of the program as the child reads it: no Go pointers, so that running it needs no write barriers.
type op struct {
	kind   uint8
	out    Slot
	slots  uint8  // bit i: a[i] is the number of a slot
	step   uint16 // index into Program.steps
	ignore uint16 // an errno that does not fail the step
	nr     uintptr
	a      [6]uintptr
}

// Arg is an argument of an operation: a plain value, a slot, or a place in the program's memory.
type Arg struct {
	v    uintptr
	kind argKind
}

type argKind uint8

const (
	immediate argKind = iota
	fromSlot
	pointer // v is an offset in Program.data, made an address when the program is sealed
)

// Int passes a plain value.
func Int[T ~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~uintptr | ~uint16](v T) Arg {
	return Arg{v: uintptr(v)}
}

// Arg passes the value that an earlier operation left in the slot.
func (s Slot) Arg() Arg { return Arg{v: uintptr(s), kind: fromSlot} }

// Program is a list of operations and the memory that they use. Build it, then Seal it, then Start it.
type Program struct {
	ops     []op
	ptrs    []uint8 // for each op, the arguments that are offsets into data
	data    []byte
	relocs  []int // offsets in data of words that hold offsets into data
	steps   []string
	slots   Slot
	image   []byte // the sealed program: operations, data, the interpreter's memory, its stack
	opsLen  uintptr
	machine int // where in the image the interpreter's own memory begins
}

// Step starts a named step: the operations that follow are reported under this name when they fail.
func (p *Program) Step(name string) { p.steps = append(p.steps, name) }

// Steps lists the names of the steps, in order.
func (p *Program) Steps() []string { return p.steps }

// Bytes places b in the program's memory and returns its address.
func (p *Program) Bytes(b []byte) Arg {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
	off := len(p.data)
	p.data = append(p.data, b...)
	return Arg{v: uintptr(off), kind: pointer}
}

// Buffer reserves n zero bytes.
func (p *Program) Buffer(n int) Arg { return p.Bytes(make([]byte, n)) }

// String places s, ended by NUL. A string that holds NUL would be cut silently, so it is a bug of the caller.
func (p *Program) String(s string) Arg {
	for i := range len(s) {
		if s[i] == 0 {
			panic("bug: NUL in a string for the kernel: " + fmt.Sprintf("%q", s))
		}
	}
	return p.Bytes(append([]byte(s), 0))
}

// Strings places a NULL-terminated array of strings, as execve takes them.
func (p *Program) Strings(ss []string) Arg {
	offs := make([]Arg, len(ss))
	for i, s := range ss {
		offs[i] = p.String(s)
	}
	arr := p.Buffer(8 * (len(ss) + 1))
	for i, a := range offs {
		p.Pointer(arr, uintptr(8*i), a)
	}
	return arr
}

// Pointer writes the address of to at offset off of the memory at in.
func (p *Program) Pointer(in Arg, off uintptr, to Arg) {
	at := int(in.v + off)
	*(*uintptr)(unsafe.Pointer(&p.data[at])) = to.v
	p.relocs = append(p.relocs, at)
}

// Offset returns the address n bytes after a.
func (a Arg) Offset(n uintptr) Arg { a.v += n; return a }

func (p *Program) add(kind uint8, nr uintptr, out Slot, ignore unix.Errno, args ...Arg) {
	if len(p.steps) == 0 {
		panic("bug: operation outside of a step")
	}
	if p.ops == nil { // as much as a sandbox takes: growing copies it several times, at every start
		p.ops, p.ptrs, p.data = make([]op, 0, 448), make([]uint8, 0, 448), append(make([]byte, 0, 24<<10), p.data...)
	}
	o := op{kind: kind, nr: nr, out: out, ignore: uint16(ignore), step: uint16(len(p.steps) - 1)}
	var ptrs uint8
	for i, a := range args {
		o.a[i] = a.v
		switch a.kind {
		case fromSlot:
			o.slots |= 1 << i
		case pointer:
			ptrs |= 1 << i
		}
	}
	p.ops = append(p.ops, o)
	p.ptrs = append(p.ptrs, ptrs)
}

// Call adds a system call that must succeed.
func (p *Program) Call(nr uintptr, args ...Arg) { p.add(opCall, nr, noSlot, 0, args...) }

// Try adds a system call that may fail with the one errno that the caller can do without.
func (p *Program) Try(ignore unix.Errno, nr uintptr, args ...Arg) {
	p.add(opCall, nr, noSlot, ignore, args...)
}

// Get adds a system call whose result later operations use.
func (p *Program) Get(nr uintptr, args ...Arg) Slot {
	s := p.newSlot()
	p.add(opCall, nr, s, 0, args...)
	return s
}

func (p *Program) newSlot() Slot {
	if p.slots+1 >= maxSlots {
		panic("bug: too many slots")
	}
	p.slots++
	return p.slots
}

// Retry adds a system call that is repeated, 10 ms apart and at most times times, until it succeeds or its object is gone.
func (p *Program) Retry(times int, nr uintptr, args ...Arg) {
	args = append(args[:len(args):len(args)], make([]Arg, 5-len(args))...)
	p.add(opRetry, nr, noSlot, 0, append(args, Int(times))...)
}

// Equal fails the step (ESTALE) unless n bytes at a and b are the same.
func (p *Program) Equal(a, b Arg, n int) { p.add(opEqual, 0, noSlot, 0, a, b, Int(n)) }

// Differ fails the step (ESTALE) if n bytes at a and b are the same.
func (p *Program) Differ(a, b Arg, n int) { p.add(opDiffer, 0, noSlot, 0, a, b, Int(n)) }

// OnlyIf leaves out the operations that then adds unless n bytes at a and b are the same. It is for cleaning up: no set-up goes on with less.
func (p *Program) OnlyIf(a, b Arg, n int, then func()) {
	i := len(p.ops)
	p.add(opOnlyIf, 0, noSlot, 0, a, b, Int(n))
	then()
	p.ops[i].a[3] = uintptr(len(p.ops) - i - 1)
}

// Contains fails the step (ESTALE) unless the first length bytes at a contain want.
func (p *Program) Contains(a, length Arg, want string) {
	p.add(opContains, 0, noSlot, 0, a, length, p.Bytes([]byte(want)), Int(len(want)))
}

// Store writes the slot's low 32 bits at addr: a descriptor number in a control message or a struct.
func (p *Program) Store(addr Arg, s Slot) { p.add(opStore, 0, noSlot, 0, addr, s.Arg()) }

// Answer fails the step unless the 32-bit value at addr is 0: the kernel's answer in a message is 0 or a negative errno.
func (p *Program) Answer(addr Arg) { p.add(opAnswer, 0, noSlot, 0, addr) }

// Refused adds a system call that must fail with want: the kernel is asked whether a wall stands. Success fails the step with ESTALE.
func (p *Program) Refused(want unix.Errno, nr uintptr, args ...Arg) {
	p.add(opRefused, nr, noSlot, want, args...)
}

// Fork splits the program: pid 1 closes all descriptors but the adjacent two, control and control+1 (a signalfd), and stays in
// its loop; the child goes on.
//
// Without a pid namespace there is no kernel that ends what the command leaves behind: then hunt makes the loop, which must be a child
// subreaper, kill its children until none is left.
func (p *Program) Fork(control int, hunt bool) {
	h := 0
	if hunt {
		h = 1
	}
	p.add(opFork, unix.SYS_CLONE, noSlot, 0, Int(control), Int(h))
}

// FailAt makes step i fail with EPERM in place of its first operation: fault injection for the proof that a failed step is never passed over.
func (p *Program) FailAt(i int) bool {
	for j := range p.ops {
		if int(p.ops[j].step) == i {
			p.ops[j] = op{kind: opFail, step: uint16(i)}
			p.ptrs[j] = 0
			return true
		}
	}
	return false
}

// stackSize is a page more than what the interpreter needs: functions that cannot grow their stack have 800 bytes in all, says the linker.
const stackSize = 8 << 10

// seal copies operations and data into a mapping of their own, outside the Go heap, and makes offsets addresses.
func (p *Program) seal() error {
	if len(p.steps) > 1<<15 {
		return fmt.Errorf("bug: %d steps", len(p.steps))
	}
	p.opsLen = uintptr(len(p.ops)) * unsafe.Sizeof(op{})
	p.machine = (int(p.opsLen)+len(p.data))&^7 + 8
	size := (p.machine+int(unsafe.Offsetof(machine{}.slots))+int(p.slots+1)*int(unsafe.Sizeof(uintptr(0))))&^4095 + 4096 + stackSize
	image, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("memory for the set-up program: %v", err)
	}
	p.image = image
	base := uintptr(unsafe.Pointer(&image[0])) + p.opsLen
	for _, at := range p.relocs {
		*(*uintptr)(unsafe.Pointer(&p.data[at])) += base
	}
	for i := range p.ops {
		for j := range 6 {
			if p.ptrs[i]&(1<<j) != 0 {
				p.ops[i].a[j] += base
			}
		}
	}
	if len(p.ops) > 0 {
		copy(image, unsafe.Slice((*byte)(unsafe.Pointer(&p.ops[0])), p.opsLen))
	}
	copy(image[p.opsLen:], p.data)
	return nil
}

// PutWord writes a 64-bit value at offset off of the memory at in.
func (p *Program) PutWord(in Arg, off uintptr, v uint64) {
	*(*uint64)(unsafe.Pointer(&p.data[in.v+off])) = v
}
