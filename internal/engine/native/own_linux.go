package native

import (
	"encoding/binary"
	"fmt"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/plan"
	"golang.org/x/sys/unix"
)

// What the sandbox has of its own: /dev, /proc, loopback.

var nodes = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// devices makes /dev in the root's own memory: six device files of the host, checked to be what their names say (CVE-2025-31133), a terminal
// file system of its own, and links.
func devices(p *program, m plan.Mount) {
	for _, n := range nodes {
		node := p.String("dev/" + n.name)
		p.Call(unix.SYS_MKNODAT, here, node, inside.Int(unix.S_IFREG|0o666), zero)
		p.Call(unix.SYS_MOUNT, p.String("/dev/"+n.name), node, zero, inside.Int(unix.MS_BIND), zero)
		p.device(node, n.major, n.minor)
	}
	for _, d := range []string{"pts", "shm"} {
		p.Call(unix.SYS_MKDIRAT, here, p.String("dev/"+d), inside.Int(0o755))
	}
	p.Call(unix.SYS_MOUNT, p.String("devpts"), p.String("dev/pts"), p.String("devpts"), inside.Int(unix.MS_NOSUID|unix.MS_NOEXEC), p.String("newinstance,ptmxmode=0666,mode=0620"))
	p.Call(unix.SYS_MOUNT, p.String("tmpfs"), p.String("dev/shm"), p.String("tmpfs"), inside.Int(unix.MS_NOSUID|unix.MS_NODEV), p.String(fmt.Sprintf("size=%d,mode=1777", m.Size)))
	for _, l := range [][2]string{{"pts/ptmx", "ptmx"}, {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}} {
		p.Call(unix.SYS_SYMLINKAT, p.String(l[0]), here, p.String("dev/"+l[1]))
	}
}

// loopback brings up lo, the only interface of the empty network namespace.
func loopback(p *program) {
	p.Step("loopback")
	s := p.Get(unix.SYS_SOCKET, inside.Int(unix.AF_INET), inside.Int(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), zero)
	request := make([]byte, 40) // struct ifreq: name, then flags
	copy(request, "lo")
	binary.NativeEndian.PutUint16(request[16:], unix.IFF_UP|unix.IFF_RUNNING)
	p.Call(unix.SYS_IOCTL, s.Arg(), inside.Int(unix.SIOCSIFFLAGS), p.Bytes(request))
	p.Step("host name")
	p.Call(unix.SYS_SETHOSTNAME, p.String(hostname), inside.Int(len(hostname)))
}

// procSettings writes the settings of our own namespaces. Nested user namespaces are the way to more kernel surface, so they are refused
// twice: here and by the system call filter.
func procSettings(p *program) {
	p.Step("no nested user namespaces")
	p.writeFile("proc/sys/user/max_user_namespaces", "0")
	p.Step("a share of the user's inotify instances")
	p.writeFile("proc/sys/user/max_inotify_instances", watchers)
	p.Step("low ports for programs inside")
	fd := p.Get(unix.SYS_OPENAT, here, p.String("proc/sys/net/ipv4/ip_unprivileged_port_start"), inside.Int(unix.O_WRONLY|unix.O_CLOEXEC), zero)
	p.Call(unix.SYS_WRITE, fd.Arg(), p.String("0"), inside.Int(1))
}

// watchers is how many inotify instances the sandbox may have. They count as the user's on the host too, who has 128 as most kernels are set
// (fs.inotify.max_user_instances in inotify(7)), and without any of them editors and desktops stop seeing changes. Watches are not held: how many the user
// has depends on the machine's memory, so that any number here would be too few on one and too many on another.
const watchers = "100"

// maskProc makes what the kernel lets everybody configure read-only, and hides what tells of the host. Most of it belongs to root on the
// host and is refused anyway: this is the second lock.
func maskProc(p *program) {
	for _, name := range []string{"sys", "irq", "bus", "fs"} {
		p.Step("read-only /proc/" + name)
		p.readOnly("proc/" + name)
	}
	for _, name := range []string{"kcore", "keys", "key-users", "sysrq-trigger", "timer_list", "kmsg", "interrupts", "latency_stats", "sched_debug"} {
		p.Step("hide /proc/" + name)
		p.Try(unix.ENOENT, unix.SYS_MOUNT, p.String("dev/null"), p.String("proc/"+name), zero, inside.Int(unix.MS_BIND), zero)
	}
}
