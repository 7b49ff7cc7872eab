package main

import (
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/sys/unix"
)

// program runs a program inside, which has the resolver that a sandbox has.
func (b *box) program(argv ...string) string {
	b.t.Helper()
	var out []byte
	var err error
	b.inside.do(func() {
		// The thread's own view of files; it is never used for anything else.
		if err = unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err == nil {
			unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) // the host's
			if err = cover("/etc/resolv.conf", "nameserver "+wire.Resolver+"\nsearch corp.example.org\noptions edns0 timeout:30\n"); err == nil {
				out, err = exec.Command(argv[0], argv[1:]...).CombinedOutput()
			}
		}
	})
	if err != nil {
		b.t.Logf("%v: %v", argv, err)
	}
	return strings.TrimSpace(string(out))
}

// TestClients: the resolvers that programs bring find an allowed name without delay, reach it, and take a denied one as not existing. Nothing tells them of
// a proxy.
func TestClients(t *testing.T) {
	outside.name("a.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:8080", func(c *net.TCPConn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine")
	})
	for _, c := range []struct {
		name, want string
		argv       []string
	}{
		{"glibc", "a.example.com", []string{"sh", "-c", "getent ahosts a.example.com | awk 'NR==1 {print $3}'; getent hosts evil.example.com"}},
		{"Python", "fine", []string{"python3", "-c", "import urllib.request as u; print(u.urlopen('http://a.example.com:8080/').read().decode())"}},
		{"Python, denied", "Name or service not known", []string{"python3", "-c", "import socket; socket.getaddrinfo('evil.example.com', 443)"}},
		{"Node", "fine", []string{"node", "-e", "fetch('http://a.example.com:8080/').then(r => r.text()).then(console.log)"}},
		{"Node, denied", "ENOTFOUND", []string{"node", "-e", "fetch('http://evil.example.com/').catch(e => console.log(e.cause.code))"}},
		{"c-ares", `["198.18.0.16"] ENODATA ENOTFOUND`, []string{"node", "-e", `const d = require('dns').promises; (async () => { const code = p => p.then(() => 'found', e => e.code);
			console.log(JSON.stringify(await d.resolve4('a.example.com')), await code(d.resolveMx('a.example.com')), await code(d.resolve4('evil.example.com'))) })()`}},
		{"Java", "fine", []string{"java", "testdata/Get.java", "http://a.example.com:8080/"}},
		{"Java, denied", "UnknownHostException", []string{"java", "testdata/Get.java", "http://evil.example.com:8080/"}},
		{"curl", "fine", []string{"curl", "-sS", "--max-time", "20", "http://a.example.com:8080/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			needed := c.argv[0]
			if needed == "java" {
				needed = "javac" // it compiles what it runs
			}
			if _, err := exec.LookPath(needed); err != nil && (needed == "node" || needed == "javac") {
				t.Skipf("%s is not installed, and too large to be installed for tests: how %s looks names up and connects is not shown here", needed, strings.TrimSuffix(c.name, ", denied"))
			}
			b := open(t, rulesOf(allow("a.example.com", 8080)))
			began := time.Now()
			if got := b.program(c.argv...); !strings.Contains(got, c.want) {
				t.Errorf("%s", got)
			}
			if d := time.Since(began); c.name == "glibc" && d > 20*time.Second {
				t.Errorf("it took %v, which is a resolver that waits", d)
			}
		})
	}
}
