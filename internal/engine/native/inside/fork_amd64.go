package inside

// fork clones the command. It shares pid 1's memory until it is executed, and pid 1 waits meanwhile (clone(2), CLONE_VM and CLONE_VFORK): nothing
// of the memory has to be copied, and nothing thrown away. It has a stack of its own in it, and goes on in resume.
//
// The result is a process, or a negative errno.
//
//go:noescape
func fork(stack uintptr, m *machine, next uintptr) (pid uintptr)

// resume is entered by the command, on its own stack.
//
//lint:ignore U1000 its address is taken in assembly
//go:norace
//go:nosplit
func resume(m *machine, next uintptr) { run(m, int(next)) }
