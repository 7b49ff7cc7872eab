package syscalls

var native = &x86_64
