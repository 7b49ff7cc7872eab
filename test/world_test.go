package test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// world is a network of the test's own with hosts, a name server and nothing else: a process of this test binary in a network namespace that has only
// loopback, whose addresses are the hosts'. What happens there is told line by line, so that a test sees what left the gate and what did not.
type world struct {
	cmd   *exec.Cmd
	dir   string
	user  bool          // it has a user namespace of its own: the tests are an ordinary user's
	over  chan struct{} // closed when it has ended
	state string        // how
	in    io.Writer     // what is written there it tells again
	mu    sync.Mutex
	more  *sync.Cond // a line came, or the world ended
	lines []string
	deaf  bool // nothing comes any more
	asked int  // how often it was to tell where it stands
}

const worldVariable = "CASEMATE_TEST_WORLD"

// The hosts of the world. Those ranges are for documentation (RFC 5737, RFC 3849): no real host has them.
const (
	allowedHost  = "203.0.113.10"
	allowedHost6 = "2001:db8::10"
	deniedHost   = "203.0.113.66"
	privateHost  = "10.1.2.3"
	metadataHost = "169.254.169.254"
	nameServer   = "203.0.113.53"
)

// newWorld starts it for the site, and has the site's commands run in it.
func (s *site) newWorld() *world {
	s.t.Helper()
	w, end := startWorld(s.t)
	s.t.Cleanup(end)
	s.world = w
	return w
}

// startWorld starts it, and returns what ends it.
func startWorld(t *testing.T, env ...string) (w *world, end func()) {
	t.Helper()
	needs(t, "ip")
	needs(t, "nsenter")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "casemate-world")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w = &world{dir: dir, user: os.Getuid() != 0}
	w.more = sync.NewCond(&w.mu)
	w.cmd = exec.Command(self)
	w.cmd.Env = append(append(os.Environ(), worldVariable+"="+dir), env...)
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL}
	if w.user {
		uid, gid := os.Getuid(), os.Getgid()
		w.cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		w.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		w.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		w.cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_NET_BIND_SERVICE}
	}
	in, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.in = in
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	w.over = make(chan struct{})
	go func() {
		runtime.LockOSThread() // it is killed when the thread that started it ends (Pdeathsig)
		started <- w.cmd.Start()
		w.listen(out)
		w.state = fmt.Sprint(w.cmd.Wait())
		close(w.over)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	end = func() {
		in.Close()
		<-w.over
		for range 100 { // its servers are ending, and may still write
			if os.RemoveAll(dir) == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	late := time.AfterFunc(2*time.Minute, func() { _ = w.cmd.Process.Kill() })
	defer late.Stop()
	w.mu.Lock()
	there := w.awaits("ready")
	w.mu.Unlock()
	if !there {
		<-w.over
		t.Fatal("the world ended: " + w.state)
	}
	return w, end
}

func (w *world) listen(out io.Reader) {
	for sc := bufio.NewScanner(out); sc.Scan(); {
		w.mu.Lock()
		w.lines = append(w.lines, sc.Text())
		w.mu.Unlock()
		w.more.Broadcast()
	}
	w.mu.Lock()
	w.deaf = true
	w.mu.Unlock()
	w.more.Broadcast()
}

// awaits waits for a line, and says whether it came before the world ended; mu is held.
func (w *world) awaits(line string) bool {
	read := 0
	for !slices.Contains(w.lines[read:], line) {
		if w.deaf {
			return false
		}
		read = len(w.lines)
		w.more.Wait()
	}
	return true
}

// all are the lines that were told by now: what a client has an answer to was told before. mu is held.
func (w *world) all() []string {
	w.asked++
	fmt.Fprintln(w.in, w.asked)
	w.awaits(fmt.Sprint("asked ", w.asked))
	return w.lines
}

// saw reports whether a line was told.
func (w *world) saw(line string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.all(), line)
}

// told returns the lines that begin with what is given.
func (w *world) told(begin string) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.all() {
		if strings.HasPrefix(l, begin) {
			list = append(list, l)
		}
	}
	return list
}

// enter has a command run in the world: as whoever it would be outside, with no more rights.
func (w *world) enter(cmd *exec.Cmd, argv ...string) {
	args := []string{"nsenter", "--target", strconv.Itoa(w.cmd.Process.Pid), "--net", "--mount"}
	if w.user {
		args = append(args, "--user", "--preserve-credentials")
	}
	path, err := exec.LookPath("nsenter")
	if err != nil {
		panic(err)
	}
	cmd.Path, cmd.Args = path, append(append(args, "--", "sh", "-c", `cd "$0" && exec "$@"`, cmd.Dir), argv...)
}

// outsideCommand is a line of shell in the world, outside of any sandbox.
func (s *site) outsideCommand(line string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Env = s.Work, s.environ()
	s.world.enter(cmd, "sh", "-c", line)
	return cmd
}

// outside runs it to its end: the control.
func (s *site) outside(line string) output {
	s.t.Helper()
	return s.finish(s.outsideCommand(line))
}

// beWorld is the process: it ends when its standard input does.
func beWorld() int {
	dir := os.Getenv(worldVariable)
	if err := makeWorld(dir); err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
		return 1
	}
	fmt.Println("ready")
	for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
		fmt.Println("asked", sc.Text())
	}
	for _, end := range ends {
		end()
	}
	return 0
}

// makeWorld makes two networks, joined by a cable: here, and there the hosts.
func makeWorld(dir string) error {
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // this thread is in the other network, and lasts as long as the process
		made <- makeHosts(dir)
		select {}
	}()
	if err := <-made; err != nil {
		return err
	}
	if err := ip("link set lo up", "addr add 192.0.2.1/24 dev here", "addr add 2001:db8:1::1/64 dev here nodad", "link set here up", "route add default via 192.0.2.2",
		"-6 route add default via 2001:db8:1::2"); err != nil {
		return err
	}
	if err := serveLoopback(); err != nil {
		return err
	}
	return hostFiles(dir)
}

func ip(lines ...string) error {
	for _, l := range lines {
		if out, err := exec.Command("ip", strings.Fields(l)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", l, err, out)
		}
	}
	return nil
}

// The main thread is the one whose network others enter, so that goroutine stays on it.
func init() {
	if os.Getenv(worldVariable) != "" {
		runtime.LockOSThread()
	}
}

// makeHosts leaves the thread in a network whose addresses are the hosts'.
func makeHosts(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := ip("link add there type veth peer name here", fmt.Sprintf("link set here netns %d", os.Getpid())); err != nil {
		return err
	}
	lines := []string{"link set lo up", "addr add 192.0.2.2/24 dev there", "addr add 2001:db8:1::2/64 dev there nodad", "link set there up"}
	for _, a := range []string{allowedHost, deniedHost, privateHost, metadataHost, nameServer} {
		lines = append(lines, "addr add "+a+"/32 dev lo")
	}
	lines = append(lines, "addr add "+allowedHost6+"/128 dev lo nodad")
	if err := ip(lines...); err != nil {
		return err
	}
	for _, serve := range []func(string) error{serveNames, serveHTTP, serveTLS, serveEcho, serveGreeting, serveProxy, serveReal, serveModels, privateGit} {
		if err := serve(dir); err != nil {
			return err
		}
	}
	return nil
}

// hostFiles lays the machine's own files for names and authorities over those of the real one, for this mount namespace.
func hostFiles(dir string) error {
	for name, text := range map[string]string{
		"/etc/resolv.conf": "nameserver " + nameServer + "\n", "/etc/hosts": "127.0.0.1 localhost\n" + allowedHost + " in-hosts.example\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
	} {
		file := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		real, err := filepath.EvalSymlinks(name)
		if err != nil {
			return err
		}
		if err := unix.Mount(file, real, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	const authorities = "/etc/ssl/certs/ca-certificates.crt"
	bundle, err := os.ReadFile(authorities)
	if err != nil {
		return err
	}
	own, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return err
	}
	trusted := filepath.Join(dir, "authorities")
	if err := os.WriteFile(trusted, append(bundle, own...), 0o644); err != nil {
		return err
	}
	if os.Getenv(serversVariable) != "" && isThere("/etc/apt") {
		if err := unix.Mount(filepath.Join(dir, "apt"), "/etc/apt", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("/etc/apt: %w", err)
		}
	}
	return unix.Mount(trusted, authorities, "", unix.MS_BIND, "")
}

// zone are the names. "turn." ones alternate, as a rebinding attack does.
func zone(name string, turn int) (list []netip.Addr) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	switch {
	case name == "denied.example" || name == "telemetry.example.com" || name == "evilallowed.example" || strings.HasSuffix(name, ".evil.example"):
		return []netip.Addr{netip.MustParseAddr(deniedHost)}
	case name == "private.allowed.example":
		return []netip.Addr{netip.MustParseAddr(privateHost)}
	case name == "metadata.allowed.example":
		return []netip.Addr{netip.MustParseAddr(metadataHost)}
	case name == "loop.allowed.example":
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	case name == "turn.allowed.example" && turn%2 == 1:
		return []netip.Addr{netip.MustParseAddr(privateHost)}
	case name == "six.allowed.example":
		return []netip.Addr{netip.MustParseAddr(allowedHost6)}
	case name == "allowed.example" || name == "api.example.com" || strings.HasSuffix(name, ".allowed.example"):
		return []netip.Addr{netip.MustParseAddr(allowedHost)}
	}
	return realAddress(name)
}

func serveNames(string) error {
	c, err := net.ListenPacket("udp", nameServer+":53")
	if err != nil {
		return err
	}
	turns := map[string]int{}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				fmt.Println("query malformed")
				continue
			}
			q := m.Questions[0]
			name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
			fmt.Println("query", name)
			m.Response, m.RecursionAvailable, m.Answers, m.Additionals = true, true, nil, nil
			addresses := zone(name, turns[name])
			if q.Type == dnsmessage.TypeA {
				turns[name]++
			}
			if addresses == nil {
				m.RCode = dnsmessage.RCodeNameError
			}
			for _, a := range addresses {
				h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0}
				if a.Is4() && q.Type == dnsmessage.TypeA {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
				} else if a.Is6() && q.Type == dnsmessage.TypeAAAA {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			if b, err := m.Pack(); err == nil {
				c.WriteTo(b, from)
			}
		}
	}()
	return nil
}

// told notes each connection and who was reached.
type toldListener struct{ net.Listener }

func (l toldListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		fmt.Println("accepted", c.LocalAddr())
	}
	return c, err
}

func listenAll(port int) (net.Listener, error) {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	return toldListener{l}, err
}

var page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/told") {
		tellBack(w, r)
		return
	}
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s %s %d\n", r.Method, r.Host, r.URL.Path, n)
})

// tellBack tells the test what it was given, and gives it back.
func tellBack(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	text := fmt.Sprintf("%s %s key=%s authorization=%s note=%s body=%q", r.Host, r.RequestURI, r.Header.Get("X-Api-Key"), r.Header.Get("Authorization"), r.Header.Get("X-Note"), body)
	fmt.Println("told", text)
	w.Header().Set("X-Echo", r.Header.Get("X-Api-Key"))
	fmt.Fprintln(w, text)
}

func serveHTTP(string) error {
	l, err := listenAll(80)
	if err == nil {
		go http.Serve(l, http.HandlerFunc(byName))
	}
	return err
}

// serveTLS answers for every name of allowed.example and for denied.example, with a certificate that it lays into the directory.
func serveTLS(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a certificate of Casemate's tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"allowed.example", "*.allowed.example", "denied.example", "api.example.com", "telemetry.example.com"},
	}
	template.DNSNames = slices.AppendSeq(template.DNSNames, maps.Keys(realHosts))
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o644); err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), text, 0o644); err != nil {
		return err
	}
	certificates := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	if os.Getenv(modelsVariable) != "" { // some clients take no authority for a server
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: template.NotBefore, NotAfter: template.NotAfter, DNSNames: slices.Collect(maps.Keys(modelHosts)), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		signed, err := x509.CreateCertificate(rand.Reader, leaf, template, key.Public(), key)
		if err != nil {
			return err
		}
		certificates = append(certificates, tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key})
	}
	l, err := listenAll(443)
	if err != nil {
		return err
	}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(byName), TLSConfig: &tls.Config{Certificates: certificates, NextProtos: []string{"h2", "http/1.1"}}}
	go server.ServeTLS(l, "", "")
	return nil
}

// serveEcho gives back what it is given, and closes when the other side does.
func serveEcho(string) error {
	return serveEach(7, func(c net.Conn) { io.Copy(c, c) })
}

// serveGreeting speaks first, as ssh and databases do, and then says how many bytes it was given.
func serveGreeting(string) error {
	return serveEach(22, func(c net.Conn) {
		io.WriteString(c, "greeting\n")
		n, _ := io.Copy(io.Discard, c)
		fmt.Fprintf(c, "%d bytes\n", n)
	})
}

// serveEach gives each connection to f, and closes it afterwards.
func serveEach(port int, f func(net.Conn)) error {
	l, err := listenAll(port)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	return nil
}

// serveProxy is a proxy that machines have to go through: it asks for a password, and knows a name that no name server does.
func serveProxy(string) error {
	l, err := listenAll(3128)
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("proxy", r.Method, r.Host, r.Header.Get("Proxy-Authorization"))
		host, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil || r.Header.Get("Proxy-Authorization") == "" {
			http.Error(w, "no", http.StatusProxyAuthRequired)
			return
		}
		if host == "only-the-proxy-knows.allowed.example" {
			host = allowedHost
		} else if a := zone(host, 0); len(a) > 0 {
			host = a[0].String()
		}
		up, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		c, rest, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		go func() { io.Copy(up, rest); up.(*net.TCPConn).CloseWrite() }()
		io.Copy(c, up)
		c.Close()
	})
	go (&http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: handler}).Serve(l)
	return nil
}

// certificate is the world's, as an argument for clients.
func (w *world) certificate(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}
