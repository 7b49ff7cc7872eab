package signer

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"casemate.dev/internal/secret/ask"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// client is one connection from inside. It is bound to at most one session with a named host, for good; whatever it says that is wrong makes it useless.
type client struct {
	*server
	conn  net.Conn
	bound *bound
	spent string // why nothing more is signed here
	asked int
}

// bound is a session whose host is known.
type bound struct {
	session []byte
	hostKey []byte
	places  []*place // whose key that is
	raw     []byte   // for the person's agent, whose keys may have bounds of their own (ssh-add -h)
}

// most is how many signatures one connection is given: ssh asks for one of each key.
const most = 32

func (c *client) serve() {
	defer c.conn.Close()
	for {
		c.conn.SetDeadline(time.Now().Add(patience))
		m, err := readMessage(c.conn)
		if err != nil {
			return
		}
		reply := c.answer(m)
		c.conn.SetDeadline(time.Now().Add(patience))
		if _, err := c.conn.Write(framed(reply)); err != nil {
			return
		}
	}
}

func (c *client) answer(m []byte) []byte {
	switch m[0] {
	case msgRequestKeys:
		return c.list()
	case msgExtension:
		f := fields{rest: m[1:]}
		if kind := string(f.text()); f.err != nil || kind != sessionBind {
			return []byte{msgFailure} // clients ask what there is
		}
		if err := c.bind(f.rest); err != nil {
			c.spent = err.Error()
			c.refuse(ask.Signing{}, err.Error())
			return []byte{msgExtensionFailure}
		}
		return []byte{msgSuccess}
	case msgSign:
		signature, err := c.sign(m[1:])
		if err != nil {
			return []byte{msgFailure}
		}
		return ssh.Marshal(struct {
			Signature []byte `sshtype:"14"`
		}{signature})
	}
	c.refuse(ask.Signing{}, "the agent inside signs logins; it takes no keys, gives none away and is not locked")
	return []byte{msgFailure}
}

// list shows the keys for the host that the client is bound to, or all of them.
func (c *client) list() []byte {
	var names []byte
	n := 0
	if c.spent == "" {
		seen := map[string]bool{}
		for _, l := range c.logins {
			if c.bound != nil && l.at(c.bound.places) == nil {
				continue
			}
			for _, k := range l.keys {
				blob := k.public.Marshal()
				if !seen[string(blob)] {
					seen[string(blob)] = true
					names = append(append(names, framed(blob)...), framed([]byte(l.hosts))...) // the agent's comment tells who and where the person is
					n++
				}
			}
		}
	}
	return append(ssh.Marshal(struct {
		N uint32 `sshtype:"12"`
	}{uint32(n)}), names...)
}

// bind takes the session that the client is about to log in by. Only the client's own: one that is forwarded is another machine's, which could log in with
// the key wherever it goes.
func (c *client) bind(contents []byte) error {
	if c.spent != "" {
		return errors.New(c.spent)
	}
	b, err := parseBinding(contents)
	if err != nil {
		return fmt.Errorf("its session-bind is not one: %w", err)
	}
	if b.forwarded {
		return errors.New("the agent inside is not forwarded to other hosts")
	}
	if c.bound != nil {
		if bytes.Equal(c.bound.session, b.session) && bytes.Equal(c.bound.hostKey, b.hostKey) {
			return nil
		}
		return errors.New("it was bound to two sessions")
	}
	key, err := b.verified()
	if err != nil {
		return fmt.Errorf("its session-bind does not hold: %w", err)
	}
	var places []*place
	for _, p := range c.places {
		if p.isKeyOf(key) {
			places = append(places, p)
		}
	}
	if len(places) == 0 {
		return fmt.Errorf("the server's key %s is that of no host that the policy names under ssh", fingerprintOf(key))
	}
	c.bound = &bound{bytes.Clone(b.session), bytes.Clone(b.hostKey), places, bytes.Clone(contents)}
	return nil
}

// sign decides, has it written down, and signs. A refusal is told the supervisor; the client hears that it failed, as agents say no more.
func (c *client) sign(contents []byte) ([]byte, error) {
	what := ask.Signing{}
	r, k, err := c.decide(contents, &what)
	if err == nil && !c.signatures.left() {
		err = fmt.Errorf("more than %d signatures in a minute", aMinute)
	}
	if err != nil {
		c.refuse(what, err.Error())
		return nil, err
	}
	p, err := c.link.ask(what)
	if err != nil || p.refused != "" {
		return nil, errors.New("it is not written down") // the supervisor knows
	}
	if p.agent != nil {
		defer p.agent.Close()
	}
	signature, err := c.signature(r, k, p.agent)
	if err != nil {
		what.ID = 0
		c.refuse(what, "your agent did not sign: "+err.Error())
	}
	return signature, err
}

// decide says whether a request is one to log in at a named host, by the session that the client is bound to, with a key that is named for that host.
func (c *client) decide(contents []byte, what *ask.Signing) (r request, k *key, err error) {
	if r, err = parseRequest(contents); err != nil {
		return r, nil, errors.New("a request for a signature cannot be read")
	}
	if c.asked++; c.asked > most {
		return r, nil, fmt.Errorf("one connection asked for more than %d signatures", most)
	}
	public, err := ssh.ParsePublicKey(r.key)
	if err != nil {
		return r, nil, errors.New("it asked for a signature with what is no key")
	}
	what.Key = fingerprintOf(public)
	switch {
	case bytes.HasPrefix(r.data, []byte(sshsig)):
		return r, nil, errors.New("it is not a login but a signature of data, as of a commit")
	case c.spent != "":
		return r, nil, errors.New(c.spent)
	case c.bound == nil:
		return r, nil, errors.New("the client did not say for which host it is (session-bind@openssh.com): ssh of OpenSSH 8.9 and newer does, and other programs do not")
	}
	what.Host, what.Port = c.bound.places[0].host, c.bound.places[0].port
	u, err := parseUserauth(r.data)
	if err != nil {
		return r, nil, fmt.Errorf("what was to be signed is no login: %w", err)
	}
	what.User = word(u.user, ask.MaxUser)
	switch {
	case !bytes.Equal(u.session, c.bound.session):
		return r, nil, errors.New("the login is for another session than the client is bound to")
	case u.hostKey != nil && !bytes.Equal(u.hostKey, c.bound.hostKey):
		return r, nil, errors.New("the login names another host's key than that of its session")
	case !bytes.Equal(u.key, r.key):
		return r, nil, errors.New("the login names another key than the one that was to sign it")
	case u.algorithm == ssh.KeyAlgoRSA || u.algorithm == ssh.CertAlgoRSAv01 || isRSA(public) && r.flags&uint32(agent.SignatureFlagRsaSha256|agent.SignatureFlagRsaSha512) == 0:
		return r, nil, errors.New("it asked for a signature with SHA-1")
	}
	for i, l := range c.logins {
		p := l.at(c.bound.places)
		if p == nil {
			continue
		}
		for _, k := range l.keys {
			if bytes.Equal(k.public.Marshal(), r.key) {
				what.Login, what.Host, what.Port, what.Agent = i, p.host, p.port, k.own == nil
				return r, &k, nil
			}
		}
	}
	return r, nil, fmt.Errorf("the policy does not name the key for %s", c.bound.places[0].name())
}

// isRSA is for such a key, also with a certificate.
func isRSA(k ssh.PublicKey) bool {
	if cert, ok := k.(*ssh.Certificate); ok {
		k = cert.Key
	}
	return k.Type() == ssh.KeyAlgoRSA
}

// signature is the person's agent's, or that of the key which was read from a file.
func (c *client) signature(r request, k *key, conn net.Conn) ([]byte, error) {
	signing := k.own
	if signing == nil {
		if conn == nil {
			return nil, errors.New("it cannot be reached")
		}
		conn.SetDeadline(time.Now().Add(patience)) // a person may have to touch something
		signing = agent.NewClient(conn)
		_, _ = signing.Extension(sessionBind, c.bound.raw) // an older agent knows none
	}
	s, err := signing.SignWithFlags(k.public, r.data, agent.SignatureFlags(r.flags))
	if err != nil {
		return nil, err
	}
	return ssh.Marshal(s), nil
}

// refuse tells the supervisor.
func (c *client) refuse(what ask.Signing, why string) {
	what.Refused = why
	if c.refusals.left() {
		_ = c.link.send(ask.EncodeSigning(what))
	}
}

// quota bounds how often in a minute something is done: a sandbox asks, and has itself refused, as often as it likes.
type quota struct {
	mu    sync.Mutex
	since time.Time
	n     int
}

const aMinute = 100

func (q *quota) left() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now(); now.Sub(q.since) > time.Minute {
		q.since, q.n = now, 0
	}
	q.n++
	return q.n <= aMinute
}
