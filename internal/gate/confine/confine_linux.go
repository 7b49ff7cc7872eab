// Package confine takes from the gate's process everything but its sockets and the files that say how names are resolved; from the signer of ssh logins those too.
package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Files is how many files the gate may have open: two sockets for each connection, a pipe for those that are moving bytes, dials, look-ups.
const Files = 4096

// Confine holds for every thread, now and later, and cannot be undone. Whatever cannot be had is an error: a gate without its walls does not start.
func Confine() error {
	named := Authorities(os.Getenv)
	os.Clearenv()
	for name, value := range named {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := limits(); err != nil {
		return err
	}
	paths := readable()
	for _, value := range named {
		paths = append(paths, filepath.SplitList(value)...)
	}
	return walls(paths, rules(uint32(os.Getpid())))
}

// Alone is Confine for a process that has all it needs: it opens no file and makes no socket, and what connects to it is what it listens for already.
func Alone() error {
	os.Clearenv()
	if err := limits(); err != nil {
		return err
	}
	return walls(nil, alone(rules(uint32(os.Getpid()))))
}

// walls come in this order: each takes what the next one needs no more.
func walls(readable []string, calls []rule) error {
	if err := onAllThreads("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return err
	}
	if err := landlock(readable); err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	// Last before the filter, which forbids it: nobody else's processes may trace this one or read its memory (ptrace(2)).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("be not dumpable: %w", err)
	}
	return filter(calls)
}

// limits are lowered, never raised, so they need no privilege.
func limits() error {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	n := min(Files, files.Max)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("no core dumps: %w", err)
	}
	return nil
}

// onAllThreads makes a call on every thread of the process. The Go runtime can do that without C only.
func onAllThreads(what string, call, a, b, c uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(call, a, b, c)
	if errno == unix.ENOTSUP {
		return fmt.Errorf("%s: it was built with cgo; build it with CGO_ENABLED=0, as make does", what)
	}
	if errno != 0 {
		return fmt.Errorf("%s: %w", what, errno)
	}
	return nil
}

// readable is what resolving names reads, and the certificates that connections of the gate's own will need. Directories stand where a file is replaced
// by another one of the same name, as systemd-resolved does; /etc is not one of them, because of what else lies there.
func readable() []string {
	return []string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
		"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf", "/mnt/wsl/resolv.conf",
		"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
		// The files that crypto/x509 reads, which may be links to somewhere else.
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}
}

// Authorities are the variables by which a person names others than the system's (crypto/x509, and OpenSSL before it), those with absolute paths.
func Authorities(getenv func(string) string) map[string]string {
	named := map[string]string{}
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		value := getenv(name)
		if list := filepath.SplitList(value); len(list) > 0 && !slices.ContainsFunc(list, func(path string) bool { return !filepath.IsAbs(path) }) {
			named[name] = value
		}
	}
	return named
}

// landlock refuses every file but the readable ones, every bind of TCP, and abstract sockets where the kernel can. Signals are left to the filter: each
// thread gets a domain of its own here, and kernels before 6.15 would keep them from signalling each other, which the Go runtime does.
func landlock(paths []string) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("it needs Landlock: %w (see /sys/kernel/security/lsm)", errno)
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled(abi)}
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	size := uintptr(24) // an older kernel knows fewer fields
	switch {
	case abi < 4:
		size = 8
	case abi < 6:
		size = 16
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("make a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(set))
	for _, path := range paths {
		if err := allowReading(set, path); err != nil {
			return err
		}
	}
	return onAllThreads("Landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0)
}

// handled is every access to files that this version of Landlock knows.
func handled(abi uintptr) uint64 {
	bits := 13
	switch {
	case abi >= 5:
		bits = 16
	case abi >= 3:
		bits = 15
	case abi == 2:
		bits = 14
	}
	return 1<<bits - 1
}

func allowReading(set uintptr, path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: unix.LANDLOCK_ACCESS_FS_READ_FILE, Parent_fd: int32(fd)}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		rule.Allowed_access |= unix.LANDLOCK_ACCESS_FS_READ_DIR
	}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("read %q: %w", path, errno)
	}
	return nil
}

// dropCapabilities matters where the gate was started by root.
func dropCapabilities() error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	var stay runtime.Pinner // on a stack, which moves when it grows, they would not be where the kernel looks
	stay.Pin(header)
	stay.Pin(data)
	defer stay.Unpin()
	return onAllThreads("no capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(data)), 0)
}
