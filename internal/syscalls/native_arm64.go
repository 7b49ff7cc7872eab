package syscalls

var native = &aarch64
