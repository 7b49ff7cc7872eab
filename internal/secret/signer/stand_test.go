package signer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/secret/ask"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/unix"
)

// stand is a person with an agent and a known_hosts, and a supervisor beside the signer.
type stand struct {
	t     *testing.T
	home  string
	ring  *counting // of the person's agent
	sock  string    // where that listens
	known string    // the person's known_hosts

	inside string // where the signer listens
	ready  ask.SSHReady
	deny   string // what the supervisor says to everything

	mu    sync.Mutex // of deny
	heard chan ask.Signing
}

// counting is an agent that knows how often it signed, and what it was bound to.
type counting struct {
	agent.ExtendedAgent
	mu    sync.Mutex
	signs int
	bound [][]byte
}

func (c *counting) SignWithFlags(k ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	c.mu.Lock()
	c.signs++
	c.mu.Unlock()
	return c.ExtendedAgent.SignWithFlags(k, data, flags)
}

func (c *counting) Extension(kind string, contents []byte) ([]byte, error) {
	if kind != sessionBind {
		return nil, agent.ErrExtensionUnsupported
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = append(c.bound, slices.Clone(contents))
	return []byte{msgSuccess}, nil
}

func (c *counting) signed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signs
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, private)
}

func signerOf(t testing.TB, private any) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var rsaOnce = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func newStand(t *testing.T) *stand {
	t.Helper()
	p := &stand{t: t, home: t.TempDir(), ring: &counting{ExtendedAgent: agent.NewKeyring().(agent.ExtendedAgent)}}
	p.heard = make(chan ask.Signing, 1000)
	p.sock, p.known, p.inside = filepath.Join(p.home, "agent"), filepath.Join(p.home, "known_hosts"), filepath.Join(p.home, "inside")
	l, err := net.Listen("unix", p.sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _ = agent.ServeAgent(p.ring, c) }()
		}
	}()
	return p
}

// add puts a new key into the person's agent.
func (p *stand) add(private any, comment string) ssh.PublicKey {
	p.t.Helper()
	if private == nil {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			p.t.Fatal(err)
		}
		private = &k
	}
	if err := p.ring.Add(agent.AddedKey{PrivateKey: private, Comment: comment}); err != nil {
		p.t.Fatal(err)
	}
	keys, err := p.ring.List()
	if err != nil {
		p.t.Fatal(err)
	}
	k, err := ssh.ParsePublicKey(keys[len(keys)-1].Blob)
	if err != nil {
		p.t.Fatal(err)
	}
	return k
}

// knows writes a line of known_hosts.
func (p *stand) knows(hosts string, key ssh.PublicKey) {
	p.t.Helper()
	f, err := os.OpenFile(p.known, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(hosts + " " + string(ssh.MarshalAuthorizedKey(key))); err != nil {
		p.t.Fatal(err)
	}
}

// start runs the signer with rules.
func (p *stand) start(rules ...ask.Login) {
	p.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.inside, Net: "unix"})
	if err != nil {
		p.t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		p.t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	fd, err := unix.Dup(int(f.Fd())) // the signer's own
	if err != nil {
		p.t.Fatal(err)
	}
	f.Close()
	over := make(chan error, 1)
	go func() {
		over <- Run(pair[1], fd, Options{Home: p.home, Agent: p.sock, Known: []string{p.known}, Confined: func() error { return nil }})
	}()
	packet, err := ask.EncodeSSHBegin(ask.SSHBegin{Logins: rules})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := unix.Sendto(pair[0], packet, 0, nil); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, ask.MaxMessage)
	n, _, err := unix.Recvfrom(pair[0], buf, 0)
	if err == nil {
		p.ready, err = ask.DecodeSSHReady(buf[:n])
	}
	if err != nil {
		p.t.Fatal(err)
	}
	supervised := make(chan struct{})
	go func() {
		defer close(supervised)
		p.supervise(pair[0])
	}()
	p.t.Cleanup(func() {
		unix.Shutdown(pair[0], unix.SHUT_RDWR)
		if err := <-over; err != nil {
			p.t.Error(err)
		}
		<-supervised
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
}

// supervise permits what is asked for, with a connection to the person's agent.
func (p *stand) supervise(fd int) {
	buf := make([]byte, ask.MaxMessage)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || n == 0 {
			return
		}
		s, err := ask.DecodeSigning(buf[:n])
		if err != nil {
			p.t.Error(err)
			return
		}
		p.heard <- s
		p.mu.Lock()
		deny := p.deny
		p.mu.Unlock()
		if s.ID == 0 {
			continue
		}
		var rights []byte
		if s.Agent && deny == "" {
			c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Connect(c, &unix.SockaddrUnix{Name: p.sock})
			}
			if err != nil {
				p.t.Error(err)
			}
			rights = unix.UnixRights(c)
			defer unix.Close(c)
		}
		packet, err := ask.EncodePermit(ask.Permit{ID: s.ID, Refused: deny})
		if err == nil {
			err = unix.Sendmsg(fd, packet, rights, nil, unix.MSG_NOSIGNAL)
		}
		if err != nil {
			return
		}
	}
}

// told is what the supervisor is told next. The client may have its answer before the supervisor has read that.
func (p *stand) told() ask.Signing {
	p.t.Helper()
	select {
	case s := <-p.heard:
		return s
	case <-time.After(time.Minute):
		p.t.Fatal("the supervisor is told nothing")
	}
	return ask.Signing{}
}

// client connects from inside.
func (p *stand) client() agent.ExtendedAgent {
	p.t.Helper()
	c, err := net.Dial("unix", p.inside)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return agent.NewClient(c)
}

// bindingTo is what ssh says of a session with a host.
func bindingTo(t testing.TB, host ssh.Signer, session string, forwarded bool) []byte {
	t.Helper()
	sig, err := host.Sign(rand.Reader, []byte(session))
	if err != nil {
		t.Fatal(err)
	}
	return bindingOf(host.PublicKey(), session, sig, forwarded)
}

func bindingOf(key ssh.PublicKey, session string, sig *ssh.Signature, forwarded bool) []byte {
	return ssh.Marshal(struct {
		HostKey   []byte
		Session   string
		Signature []byte
		Forwarded bool
	}{key.Marshal(), session, ssh.Marshal(sig), forwarded})
}

// auth is a request to log in, as it is signed.
type auth struct {
	session, user, service, method string
	unsigned                       bool
	algorithm                      string
	key                            ssh.PublicKey
	host                           ssh.PublicKey // nil: the older method
	more                           string
}

func (a auth) data() []byte {
	if a.user == "" {
		a.user = "git"
	}
	if a.service == "" {
		a.service = "ssh-connection"
	}
	if a.algorithm == "" {
		a.algorithm = a.key.Type()
	}
	if a.method == "" {
		if a.method = "publickey"; a.host != nil {
			a.method = hostBound
		}
	}
	b := ssh.Marshal(struct {
		Session               string
		Kind                  byte
		User, Service, Method string
		Signed                bool
		Algorithm             string
		Key                   []byte
	}{a.session, 50, a.user, a.service, a.method, !a.unsigned, a.algorithm, a.key.Marshal()})
	if a.host != nil {
		b = append(b, framed(a.host.Marshal())...)
	}
	return append(b, a.more...)
}
