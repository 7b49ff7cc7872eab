//go:build !amd64

package enginetest

// abiCases are about the other ABIs of amd64 kernels. A 64-bit ARM kernel has one, for 32-bit programs, that this program cannot enter.
func abiCases() []Case { return nil }
