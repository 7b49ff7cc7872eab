//go:build !amd64 && !arm64

package syscalls

var native *machine // no reviewed list of calls: Compile refuses

var ready [0]prepared
