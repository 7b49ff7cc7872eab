package enginetest

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func networkCases() []Case {
	tcp := func(id, title string, addrs ...string) Case {
		return Case{ID: id, Group: "network", Title: title, Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			if e.TCPPort == 0 {
				return notRun("no host service is known")
			}
			var outcomes []Outcome
			for _, a := range addrs {
				outcomes = append(outcomes, dial(e, netip.AddrPortFrom(netip.MustParseAddr(a), uint16(e.TCPPort)), unix.SOCK_STREAM, 0))
			}
			return first(outcomes...)
		}}
	}
	family := func(id string, family, kind, proto int) Case {
		return Case{ID: id, Group: "network", Title: "open a socket: " + strings.TrimPrefix(id[strings.IndexByte(id, '.'):], "."), Guarantee: surface, Control: Outside,
			Attack: func(*Env) Outcome {
				fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
				if err == nil {
					unix.Close(fd)
					return open("socket(%d, %d, %d)", family, kind, proto)
				}
				return held("%v", err)
			}}
	}
	cases := []Case{
		{ID: "N01.tcp", Group: "network", Title: "connect to another host", Guarantee: netDeny, Control: None,
			NoControl: "the whole-binary test makes a network with another host, and reaches it from outside", Attack: func(e *Env) Outcome {
				to, err := netip.ParseAddrPort(e.Target)
				if err != nil {
					return notRun("no host of the test's own: it takes root to make one")
				}
				start := time.Now()
				o := dial(e, to, unix.SOCK_STREAM, 0)
				if took := time.Since(start); o.Verdict == Held && took > 2*time.Second {
					return open("it was refused after %v only", took)
				}
				return o
			}},
		{ID: "N01.route", Group: "network", Title: "find a way out: an interface or a route", Guarantee: netDeny, Control: Outside, Attack: wayOut},
		tcp("N07.loopback", "connect to a service on the host's loopback", "127.0.0.1"),
		tcp("N07.other-names", "the same by other addresses", "127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::"),
		{ID: "N07.fastopen", Group: "network", Title: "the same with TCP Fast Open, which Landlock does not see", Guarantee: netDeny, Control: Outside, Attack: fastOpen},
		{ID: "N11.udp", Group: "network", Title: "send UDP to the host's loopback", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			if e.UDPPort == 0 {
				return notRun("no host service is known")
			}
			return dial(e, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(e.UDPPort)), unix.SOCK_DGRAM, 0)
		}},
		{ID: "N04.dns", Group: "network", Title: "carry data out in a DNS query", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			if e.UDPPort == 0 {
				return notRun("no host resolver is known")
			}
			return udpQuery(e)
		}},
		{ID: "N11.mptcp", Group: "network", Title: "connect by MPTCP", Guarantee: netDeny, Control: Outside, Optional: "net.mptcp.enabled", Attack: func(e *Env) Outcome {
			return dial(e, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(e.TCPPort)), unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		}},
		maybe(family("N11.sctp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP), "CONFIG_IP_SCTP"),
		maybe(family("N11.udplite", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE), "CONFIG_UDPLITE"),
		maybe(family("N11.smc", 43, unix.SOCK_STREAM, 0), "CONFIG_SMC"),
		maybe(family("N11.ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP), "net.ipv4.ping_group_range"),
		asRoot(family("N11.raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)),
		asRoot(family("N11.packet", unix.AF_PACKET, unix.SOCK_RAW, 0)),
		maybe(family("N14.vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0), "CONFIG_VSOCKETS"),
		maybe(family("X.alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0), "CONFIG_CRYPTO_USER_API"),
		maybe(family("X.xdp", unix.AF_XDP, unix.SOCK_RAW, 0), "needs CAP_NET_RAW"),
		maybe(family("X.tipc", unix.AF_TIPC, unix.SOCK_RDM, 0), "CONFIG_TIPC"),
		maybe(family("X.can", unix.AF_CAN, unix.SOCK_RAW, 1), "CONFIG_CAN"),
		maybe(family("X.bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1), "CONFIG_BT"),
		maybe(family("X.rds", unix.AF_RDS, unix.SOCK_SEQPACKET, 0), "CONFIG_RDS"),
		maybe(family("X.kcm", unix.AF_KCM, unix.SOCK_DGRAM, 0), "CONFIG_AF_KCM"),
		maybe(family("X.qipcrtr", 42, unix.SOCK_DGRAM, 0), "CONFIG_QRTR"),
		maybe(family("X.key", unix.AF_KEY, unix.SOCK_RAW, 2), "needs CAP_NET_ADMIN"),
		maybe(family("X.netlink-audit", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT), "CONFIG_AUDIT"),
		family("X.netlink-uevent", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT),
		maybe(family("X.netlink-netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER), "CONFIG_NETFILTER_NETLINK"),
		maybe(family("X.netlink-xfrm", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM), "CONFIG_XFRM_USER"),
		family("X.netlink-generic", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC),
		maybe(family("X.netlink-diag", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_SOCK_DIAG), "CONFIG_INET_DIAG"),
		{ID: "N13.listen", Group: "network", Title: "listen without bind, where the host could be reached", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return held("%v", err)
			}
			defer unix.Close(fd)
			if err := unix.Listen(fd, 1); err != nil {
				return held("%v", err)
			}
			if link, err := os.Readlink("/proc/self/ns/net"); err == nil && link != e.HostNS["net"] {
				return held("it listens in a network namespace of its own")
			}
			return open("it listens on the host")
		}},
		{ID: "N16.abstract", Group: "network", Title: "connect to a host's abstract socket", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			return dialUnix(e, "@"+e.Abstract, unix.SOCK_STREAM)
		}},
		{ID: "N17.path", Group: "network", Title: "connect to a host's socket by path", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			return dialUnix(e, e.Socket, unix.SOCK_STREAM)
		}},
		{ID: "E22.datagram", Group: "network", Title: "send a datagram to a host's socket, without connect", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			return sendUnix(e, func(fd int) error { return unix.Sendto(fd, e.payload(), 0, &unix.SockaddrUnix{Name: e.Datagram}) })
		}},
		{ID: "E22.sendmsg", Group: "network", Title: "the same by sendmsg", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			return sendUnix(e, func(fd int) error { return unix.Sendmsg(fd, e.payload(), nil, &unix.SockaddrUnix{Name: e.Datagram}, 0) })
		}},
		{ID: "E23.socketpair", Group: "network", Title: "reconnect one end of a socketpair to a host's socket", Guarantee: netDeny, Control: Outside, Attack: func(e *Env) Outcome {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return held("%v", err)
			}
			if err := unix.Connect(pair[0], &unix.SockaddrUnix{Name: e.Datagram}); err != nil {
				return held("connect: %v", err)
			}
			_, err = unix.Write(pair[0], e.payload())
			return unless(err, "writing")
		}},
		{ID: "N17.known", Group: "network", Title: "see the sockets of docker, containerd, D-Bus, systemd, agents, X11, Wayland, tmux", Guarantee: netDeny, Control: None,
			NoControl: "which of them run is up to the machine; N17.path shows the same with a socket of the test's own", Attack: knownSockets},
		{ID: "L14.wsl", Group: "lifecycle", Title: "see the doors of WSL2: interop socket, /init, /mnt/c", Guarantee: netDeny, Control: None, NoControl: "only WSL2 has them", Attack: func(*Env) Outcome {
			for _, path := range []string{"/run/WSL", "/mnt/c", "/mnt/wsl", "/init", "/proc/sys/fs/binfmt_misc/WSLInterop", "/usr/lib/wsl"} {
				if _, err := os.Lstat(path); err == nil {
					return open("%s exists", path)
				}
			}
			if _, set := os.LookupEnv("WSL_INTEROP"); set {
				return open("WSL_INTEROP is set")
			}
			return held("none")
		}},
		{ID: "N22.link-down", Group: "network", Title: "reconfigure the network: lo down", Guarantee: netDeny, Control: Scratch, Attack: func(*Env) Outcome {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return held("%v", err)
			}
			req := page()
			copy(req, "lo")
			_, errno := sys(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, addr(req)).do()
			if errno != 0 {
				return held("SIOCSIFFLAGS: %v", errno)
			}
			return open("lo was taken down")
		}},
		{ID: "N22.link-add", Group: "network", Title: "make an interface", Guarantee: netDeny, Control: Scratch, Optional: "CONFIG_DUMMY or CONFIG_VETH", Attack: addLink},
		{ID: "N22.port", Group: "network", Title: "change a setting of the network namespace", Guarantee: surface, Control: None, NoControl: "the namespace is the sandbox's own; this watches that the setting stays read-only", Attack: func(e *Env) Outcome {
			if link, err := os.Readlink("/proc/self/ns/net"); err == nil && link == e.HostNS["net"] {
				return notRun("the network namespace is the host's")
			}
			return unless(canOpen("/proc/sys/net/ipv4/ip_forward", unix.O_WRONLY), "opening ip_forward for writing")
		}},
		{ID: "K15.race", Group: "kernel", Title: "race the address of a connect in flight", Guarantee: netDeny, Control: Outside, Attack: raceConnect},
	}
	return cases
}

func asRoot(c Case) Case {
	c.Control = AsRoot
	return c
}

// payload names the case, so that a listener that hears it can tell who it was.
func (e *Env) payload() []byte { return []byte("casemate " + e.id + "\n") }

func sockaddr(to netip.AddrPort) (int, unix.Sockaddr) {
	if to.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

// dial connects, sends the payload, and is open only when an answer came back: a connection to something inside proves nothing.
func dial(e *Env, to netip.AddrPort, kind, proto int) Outcome {
	family, sa := sockaddr(to)
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return held("socket: %v", err)
	}
	defer unix.Close(fd)
	limit := unix.Timeval{Sec: 3}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	if err := unix.Connect(fd, sa); err != nil {
		return held("connect to %v: %v", to, err)
	}
	return e.talk(fd, to.String())
}

// talk sends the payload and waits for the fixtures' answer.
func (e *Env) talk(fd int, who string) Outcome {
	if _, err := unix.Write(fd, e.payload()); err != nil {
		return held("%s: write: %v", who, err)
	}
	buf := make([]byte, 64)
	n, err := unix.Read(fd, buf)
	if err == nil && bytes.HasPrefix(buf[:n], []byte(answer)) {
		return open("%s answered", who)
	}
	return asks("%s: connected, no answer of the host's (%v)", who, err)
}

// answer is what the fixtures' listeners say to whoever speaks to them.
const answer = "casemate-host"

// fastOpen sends data with the SYN: Landlock's connect hook is not called (landlock-lsm/linux issue 41).
func fastOpen(e *Env) Outcome {
	if e.TCPPort == 0 {
		return notRun("no host service is known")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return held("socket: %v", err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	to := &unix.SockaddrInet4{Port: e.TCPPort, Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Sendto(fd, e.payload(), unix.MSG_FASTOPEN, to); err != nil {
		return held("sendto: %v", err)
	}
	return e.talk(fd, "the host")
}

// udpQuery sends a DNS question whose name carries the data.
func udpQuery(e *Env) Outcome {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return held("socket: %v", err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	question := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, e.payload()...)
	if err := unix.Sendto(fd, question, 0, &unix.SockaddrInet4{Port: e.UDPPort, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return held("sendto: %v", err)
	}
	buf := make([]byte, 64)
	n, err := unix.Read(fd, buf)
	if err == nil && n > 0 {
		return open("the host answered")
	}
	return asks("sent, no answer (%v)", err)
}

// wayOut looks for an interface other than lo, or a route that is not local. It sends nothing.
func wayOut(*Env) Outcome {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return held("whatever there is, no socket can be opened for it: %v", err)
	}
	unix.Close(fd)
	dev, err := readSome("/proc/self/net/dev")
	if err != nil {
		return held("%v", err)
	}
	for line := range strings.Lines(string(dev)) {
		name, _, isDevice := strings.Cut(strings.TrimSpace(line), ":")
		if isDevice && name != "lo" {
			return open("interface %s", name)
		}
	}
	route, _ := readSome("/proc/self/net/route")
	if n := bytes.Count(route, []byte("\n")); n > 1 {
		return open("%d routes", n-1)
	}
	return held("only lo, and no route")
}

func unixAddr(name string) (*unix.SockaddrUnix, bool) {
	return &unix.SockaddrUnix{Name: name}, name != "" && name != "@"
}

func dialUnix(e *Env, name string, kind int) Outcome {
	sa, known := unixAddr(name)
	if !known {
		return notRun("no host socket is known")
	}
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return held("socket: %v", err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	if err := unix.Connect(fd, sa); err != nil {
		return held("%v", err)
	}
	return e.talk(fd, name)
}

func sendUnix(e *Env, send func(fd int) error) Outcome {
	if e.Datagram == "" {
		return notRun("no host socket is known")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return held("socket: %v", err)
	}
	defer unix.Close(fd)
	return unless(send(fd), "sending")
}

// knownSockets looks for the host's sockets; it connects to none.
func knownSockets(*Env) Outcome {
	patterns := []string{
		"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/crio/crio.sock", "/run/user/*/bus", "/run/user/*/systemd/private",
		"/run/user/*/podman/podman.sock", "/run/user/*/gnupg/*", "/run/user/*/wayland-*", "/run/user/*/keyring/*", "/run/dbus/system_bus_socket", "/run/systemd/private",
		"/run/systemd/notify", "/run/snapd.socket", "/run/libvirt/*", "/var/run/libvirt/*", "/tmp/.X11-unix/*", "/tmp/tmux-*/*", "/tmp/ssh-*/*", "/tmp/screen*/*", "/run/nscd/socket", "/run/cups/cups.sock",
		"/run/systemd/resolve/io.systemd.Resolve", "/run/avahi-daemon/socket", "/run/user/*/pipewire-0", "/run/user/*/pulse/native", "/run/screen/*/*", "/var/run/nscd/socket",
	}
	for _, name := range []string{"SSH_AUTH_SOCK", "GPG_AGENT_INFO", "DOCKER_HOST", "DBUS_SESSION_BUS_ADDRESS", "TMUX"} {
		if v := os.Getenv(name); v != "" {
			path, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(v, "unix://"), "unix:path="), ",")
			if path == ownAgent {
				if signsAnything(path) {
					return open("the agent %s signs anything", path)
				}
				continue
			}
			patterns = append(patterns, path)
		}
	}
	for _, p := range patterns {
		found, _ := filepath.Glob(p)
		for _, path := range found {
			if st, err := os.Stat(path); err == nil && st.Mode()&os.ModeSocket != 0 {
				return open("%s", path)
			}
		}
	}
	return held("none")
}

// addLink asks rtnetlink for a veth pair.
func addLink(*Env) Outcome {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return held("socket: %v", err)
	}
	defer unix.Close(fd)
	attr := func(kind uint16, value []byte) []byte {
		b := make([]byte, 4, 4+len(value)+3)
		*(*uint16)(unsafe.Pointer(&b[0])) = uint16(4 + len(value))
		*(*uint16)(unsafe.Pointer(&b[2])) = kind
		b = append(b, value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	body := make([]byte, unix.SizeofIfInfomsg)
	body = append(body, attr(unix.IFLA_LINKINFO, attr(unix.IFLA_INFO_KIND, []byte("veth\x00")))...)
	msg := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	*(*unix.NlMsghdr)(unsafe.Pointer(&msg[0])) = unix.NlMsghdr{
		Len: uint32(len(msg) + len(body)), Type: unix.RTM_NEWLINK, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL, Seq: 1,
	}
	msg = append(msg, body...)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return held("%v", err)
	}
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil || n < unix.SizeofNlMsghdr+4 {
		return held("%v", err)
	}
	if code := *(*int32)(unsafe.Pointer(&buf[unix.SizeofNlMsghdr])); code != 0 {
		return held("%v", syscall.Errno(-code))
	}
	return open("a veth pair was made")
}

// raceConnect flips the port in memory while connect reads it, from one that is closed to the host's.
func raceConnect(e *Env) Outcome {
	if e.TCPPort == 0 {
		return notRun("no host service is known")
	}
	sa := page()
	raw := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa[0]))
	raw.Family = unix.AF_INET
	raw.Addr = [4]byte{127, 0, 0, 1}
	port := (*uint32)(unsafe.Pointer(&sa[0])) // family and port share the first word, so that it can be stored atomically
	word := func(p int) uint32 {
		return uint32(unix.AF_INET) | uint32(p>>8&0xff)<<16 | uint32(p&0xff)<<24
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			atomic.StoreUint32(port, word(1))
			atomic.StoreUint32(port, word(e.TCPPort))
		}
	}()
	defer func() { stop.Store(true); <-done }()
	var last error = errors.New("never tried")
	for range 2000 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return held("socket: %v", err)
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
		_, _, errno := syscall.Syscall(unix.SYS_CONNECT, uintptr(fd), addr(sa), unix.SizeofSockaddrInet4)
		if errno == 0 {
			o := e.talk(fd, "the host")
			unix.Close(fd)
			return o
		}
		last = errno
		unix.Close(fd)
	}
	return held("2000 attempts: %v", last)
}
