package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// The tests run in namespaces of their own, as root and as an ordinary user: this binary, started again. "Outside" is where the gate runs; "servers" is
// a network namespace at the other end of a cable; each test makes an "inside" with nothing but loopback.
const roleVariable = "CASEMATE_GATE_TEST"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "gate":
		main()
	case "world":
		err := makeWorld()
		if errors.Is(err, os.ErrPermission) {
			fmt.Fprintln(os.Stderr, "user namespaces have no capabilities here (AppArmor?), so the gate's tests are skipped:", err)
			os.Exit(0)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "the tests' namespaces:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	default:
		os.Exit(again())
	}
}

// again starts this binary in new namespaces.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), roleVariable+"=world")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "user and network namespaces are missing here, so the gate's tests are skipped:", err)
	}
	return 0
}

// space is a network namespace, held by a thread.
type space struct{ work chan func() }

func newSpace() (*space, error) {
	s := &space{make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range s.work {
			f()
		}
	}()
	return s, <-made
}

// do runs f in the namespace. The sockets that it makes stay there.
func (s *space) do(f func()) {
	done := make(chan struct{})
	s.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (s *space) close() { close(s.work) }

// world is what all tests share.
type world struct {
	servers *space
	mu      sync.Mutex
	names   map[string][]netip.Addr // what the host's resolver knows
	asked   []string                // what it was asked
	slow    map[string]time.Duration
}

var outside = &world{names: map[string][]netip.Addr{}}

// The servers' addresses. Documentation ranges stand for public ones.
var serverAddresses = []string{"203.0.113.5/24", "203.0.113.53/24", "203.0.113.6/24", "203.0.113.99/24", "2001:db8::5/64", "10.0.0.5/24", "169.254.169.254/16", "fd00:ec2::254/64"}

const resolvConf = "nameserver 203.0.113.53\noptions timeout:1 attempts:5\n"

func makeWorld() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	authority, err := makeAuthority()
	if err != nil {
		return err
	}
	for file, text := range map[string]string{
		"/etc/ssl/certs/ca-certificates.crt": authority,
		"/etc/resolv.conf":                   resolvConf,
		"/etc/hosts":                         "127.0.0.1 localhost\n203.0.113.6 inhosts.example.com\n",
	} {
		if err := cover(file, text); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if outside.servers, err = newSpace(); err != nil {
		return err
	}
	if err := cable(); err != nil {
		return err
	}
	return outside.resolve()
}

// cover puts a file over another one, for this process and its children.
func cover(file, text string) error {
	f, err := os.CreateTemp("", "gate")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return unix.Mount(f.Name(), file, "", unix.MS_BIND, "")
}

// cable joins outside and servers.
func cable() error {
	var other int
	outside.servers.do(func() { other, _ = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	defer unix.Close(other)
	if err := veth("out", "srv", other); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	near := []string{"203.0.113.1/24", "2001:db8::1/64", "10.0.0.1/24", "169.254.0.1/16", "fd00:ec2::1/64"}
	if err := up("out", near); err != nil {
		return err
	}
	if err := up("lo", nil); err != nil {
		return err
	}
	var err error
	outside.servers.do(func() {
		if err = up("lo", nil); err == nil {
			err = up("srv", serverAddresses)
		}
	})
	return err
}

// resolve serves the host's DNS.
func (w *world) resolve() error {
	c, err := w.packets("203.0.113.53:53")
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			b, err := w.reply(m).Pack()
			if err == nil {
				time.AfterFunc(w.patience(m.Questions[0].Name.String()), func() { c.WriteToUDPAddrPort(b, from) })
			}
		}
	}()
	return nil
}

func (w *world) packets(at string) (c *net.UDPConn, err error) {
	w.servers.do(func() { c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at))) })
	return c, err
}

func (w *world) reply(m dnsmessage.Message) *dnsmessage.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := m.Questions[0]
	name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	w.asked = append(w.asked, name)
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	addrs, known := w.names[name]
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 0}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return &m
}

// name makes the host's resolver know a name.
func (w *world) name(name string, addrs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name] = nil
	for _, a := range addrs {
		w.names[name] = append(w.names[name], netip.MustParseAddr(a))
	}
}

// delay makes the host's resolver slow for a name.
func (w *world) delay(name string, by time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.slow == nil {
		w.slow = map[string]time.Duration{}
	}
	w.slow[name] = by
}

func (w *world) patience(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slow[strings.TrimSuffix(strings.ToLower(name), ".")]
}

// forget what the host's resolver was asked.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = nil
}

func (w *world) wasAsked(part string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.asked {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// serve listens among the servers and gives each connection to f.
func (w *world) serve(t testing.TB, at string, f func(*net.TCPConn)) {
	t.Helper()
	var l *net.TCPListener
	var err error
	w.servers.do(func() { l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at))) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveEach(l, f)
}

// silence is what an address has to say: who connects gets no answer at all, for the one place in the queue is taken.
func (w *world) silence(t testing.TB, at netip.AddrPort) {
	t.Helper()
	to := &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	var listener, client int
	var err error
	w.servers.do(func() {
		listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Bind(listener, to), unix.Listen(listener, 0))
		}
		if err == nil {
			client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		}
		if err == nil {
			err = unix.Connect(client, to)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(client); unix.Close(listener) })
}

// serveEach gives each connection to f, and closes it afterwards.
func serveEach(l net.Listener, f func(*net.TCPConn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			f(c.(*net.TCPConn))
		}()
	}
}

// Netlink, as far as the tests need it (rtnetlink(7)).

func attribute(kind uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(body)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), body...)
	return append(b, make([]byte, -len(b)&3)...)
}

func name0(s string) []byte { return append([]byte(s), 0) }

func number32(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }

func request(kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b = append(append(b, make([]byte, 8)...), body...)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return err
	}
	if n < 20 {
		return errors.New("a short answer")
	}
	if code := int32(binary.NativeEndian.Uint32(answer[16:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func link(index int, flags, change uint32) []byte {
	b := make([]byte, 4, 16)
	b = append(b, number32(index)...)
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

func veth(here, there string, ns int) error {
	peer := append(link(0, 0, 0), attribute(unix.IFLA_IFNAME, name0(there))...)
	peer = append(peer, attribute(unix.IFLA_NET_NS_FD, number32(ns))...)
	info := append(attribute(unix.IFLA_INFO_KIND, name0("veth")), attribute(unix.IFLA_INFO_DATA, attribute(1, peer))...)
	body := append(link(0, 0, 0), attribute(unix.IFLA_IFNAME, name0(here))...)
	return request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(body, attribute(unix.IFLA_LINKINFO, info)...))
}

// index asks by ioctl: the standard library would answer for the namespace of another thread.
func index(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

func up(name string, addrs []string) error {
	i, err := index(name)
	if err != nil {
		return err
	}
	for _, text := range addrs {
		p := netip.MustParsePrefix(text)
		family, raw := byte(unix.AF_INET), p.Addr().AsSlice()
		if p.Addr().Is6() {
			family = unix.AF_INET6
		}
		body := append([]byte{family, byte(p.Bits()), unix.IFA_F_NODAD, 0}, number32(i)...)
		body = append(append(body, attribute(unix.IFA_LOCAL, raw)...), attribute(unix.IFA_ADDRESS, raw)...)
		if err := request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body); err != nil {
			return fmt.Errorf("address %s: %w", text, err)
		}
	}
	return request(unix.RTM_NEWLINK, 0, link(i, unix.IFF_UP, unix.IFF_UP))
}

// everywhere makes all addresses local, as inside a sandbox.
func everywhere() error {
	if err := up("lo", nil); err != nil {
		return err
	}
	i, err := index("lo")
	if err != nil {
		return err
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		body := []byte{family, 0, 0, 0, unix.RT_TABLE_LOCAL, unix.RTPROT_BOOT, unix.RT_SCOPE_HOST, unix.RTN_LOCAL, 0, 0, 0, 0}
		body = append(body, attribute(unix.RTA_OIF, number32(i))...)
		if err := request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, body); err != nil {
			return fmt.Errorf("route of family %d: %w", family, err)
		}
	}
	return nil
}
