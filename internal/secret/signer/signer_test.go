package signer

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/secret/ask"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// hosts is a stand with two hosts, three keys in the person's agent, of which two are named, and a third host that is known and not named.
type hosts struct {
	*stand
	git, other, third ssh.Signer
	key, second, own  ssh.PublicKey // named for git; for the other host; not at all
	rsa               ssh.PublicKey // for git
}

func newHosts(t *testing.T) *hosts {
	p := &hosts{stand: newStand(t), git: newKey(t), other: newKey(t), third: newKey(t)}
	p.key, p.second, p.own = p.add(nil, "work"), p.add(nil, "second"), p.add(nil, "own")
	p.rsa = p.add(rsaOnce(), "rsa")
	p.knows("git.example", p.git.PublicKey())
	p.knows("[other.example]:2222", p.other.PublicKey())
	p.knows("third.example", p.third.PublicKey())
	p.start(
		ask.Login{Keys: []string{"work", fingerprintOf(p.rsa)}, Hosts: []string{"git.example"}, Ports: []int{22}, Origin: "one"},
		ask.Login{Keys: []string{"second"}, Hosts: []string{"other.example"}, Ports: []int{2222}, Origin: "two"},
	)
	if !p.ready.Ready {
		t.Fatal(p.ready)
	}
	return p
}

// bind binds a client, and says whether that was taken.
func bind(c agent.ExtendedAgent, contents []byte) bool {
	_, err := c.Extension(sessionBind, contents)
	return err == nil
}

// TestSigns is the control of all that is refused: the same requests, right.
func TestSigns(t *testing.T) {
	p := newHosts(t)
	for name, a := range map[string]auth{
		"publickey": {key: p.key}, "hostbound": {key: p.key, host: p.git.PublicKey()}, "RSA with SHA-512": {key: p.rsa, algorithm: ssh.KeyAlgoRSASHA512},
	} {
		t.Run(name, func(t *testing.T) {
			session := "session of " + name
			a.session = session
			c := p.client()
			contents := bindingTo(t, p.git, session, false)
			if !bind(c, contents) {
				t.Fatal("a right binding is not taken")
			}
			flags := agent.SignatureFlags(0)
			if a.key == p.rsa {
				flags = agent.SignatureFlagRsaSha512
			}
			sig, err := c.SignWithFlags(a.key, a.data(), flags)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.key.Verify(a.data(), sig); err != nil {
				t.Error(err)
			}
			got := p.told()
			want := ask.Signing{ID: got.ID, Login: 0, Host: "git.example", Port: 22, User: "git", Key: fingerprintOf(a.key), Agent: true}
			if got != want {
				t.Errorf("the supervisor was asked %+v", got)
			}
			if bound := p.ring.bound; len(bound) == 0 || !bytes.Equal(bound[len(bound)-1], contents) {
				t.Error("the person's agent was not told of the session")
			}
		})
	}
}

// TestRefuses: each is answered with a failure, told with its reason, and never comes to the person's agent.
func TestRefuses(t *testing.T) {
	p := newHosts(t)
	const session = "the session"
	right := bindingTo(t, p.git, session, false)
	good := auth{session: session, key: p.key}
	forged := bytes.Clone(right)
	forged[len(forged)-3] ^= 1
	otherSig, err := p.other.Sign(rand.Reader, []byte(session))
	if err != nil {
		t.Fatal(err)
	}
	sha1Host := signerOf(t, rsaOnce()).(ssh.AlgorithmSigner)
	answer := good.data()
	answer[4+len(session)]++ // SSH_MSG_USERAUTH_FAILURE
	weak, err := sha1Host.SignWithAlgorithm(rand.Reader, []byte(session), ssh.KeyAlgoRSA)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		binds [][]byte
		key   ssh.PublicKey
		data  []byte
		flags agent.SignatureFlags
		why   string
	}{
		{"without a binding", nil, p.key, good.data(), 0, "the client did not say for which host it is (session-bind@openssh.com)"},
		{"a forged binding", [][]byte{forged}, p.key, good.data(), 0, "the host key did not sign that session"},
		{"another's signature under the host's key", [][]byte{bindingOf(p.git.PublicKey(), session, otherSig, false)}, p.key, good.data(), 0, "the host key did not sign that session"},
		{"a host that is not named", [][]byte{bindingTo(t, p.third, session, false)}, p.key, good.data(), 0, "is that of no host that the policy names under ssh"},
		{"a signature with SHA-1 of a host", [][]byte{bindingOf(sha1Host.PublicKey(), session, weak, false)}, p.key, good.data(), 0, "its signature is of no kind that counts"},
		{"a forwarded session", [][]byte{bindingTo(t, p.git, session, true)}, p.key, good.data(), 0, "not forwarded to other hosts"},
		{"a forwarded one and then a right one", [][]byte{bindingTo(t, p.git, "x", true), right}, p.key, good.data(), 0, "not forwarded to other hosts"},
		{"a wrong one and then a right one", [][]byte{forged, right}, p.key, good.data(), 0, "did not sign that session"},
		{"two sessions", [][]byte{right, bindingTo(t, p.git, "another", false)}, p.key, good.data(), 0, "it was bound to two sessions"},
		{"a right one and then a forwarded one", [][]byte{right, bindingTo(t, p.git, session, true)}, p.key, good.data(), 0, "not forwarded to other hosts"},
		{"a binding with something behind it", [][]byte{append(bytes.Clone(right), 0)}, p.key, good.data(), 0, "its session-bind is not one: something follows it"},
		{"an empty binding", [][]byte{{}}, p.key, good.data(), 0, "its session-bind is not one: it ends too early"},
		{"another session", [][]byte{right}, p.key, auth{session: "another", key: p.key}.data(), 0, "for another session than the client is bound to"},
		{"another host's key in the login", [][]byte{right}, p.key, auth{session: session, key: p.key, host: p.other.PublicKey()}.data(), 0, "names another host's key"},
		{"another key in the login", [][]byte{right}, p.key, auth{session: session, key: p.own}.data(), 0, "names another key"},
		{"a key that is not named", [][]byte{right}, p.own, auth{session: session, key: p.own}.data(), 0, "the policy does not name the key for git.example"},
		{"a key of another host", [][]byte{right}, p.second, auth{session: session, key: p.second}.data(), 0, "the policy does not name the key for git.example"},
		{"a commit's signature", [][]byte{right}, p.key, []byte(sshsig + "\x00\x00\x00\x03git and so on"), 0, "not a login but a signature of data"},
		{"anything", [][]byte{right}, p.key, []byte("anything at all"), 0, "no login"},
		{"nothing", [][]byte{right}, p.key, nil, 0, "no login"},
		{"a login with something behind it", [][]byte{right}, p.key, auth{session: session, key: p.key, more: "x"}.data(), 0, "no login: something follows it"},
		{"a login by password", [][]byte{right}, p.key, auth{session: session, key: p.key, method: "password"}.data(), 0, "no request to log in with a key"},
		{"a question whether the key would do", [][]byte{right}, p.key, auth{session: session, key: p.key, unsigned: true}.data(), 0, "no request to log in with a key"},
		{"another message", [][]byte{right}, p.key, answer, 0, "no request to log in with a key"},
		{"another service", [][]byte{right}, p.key, auth{session: session, key: p.key, service: "ssh-userauth"}.data(), 0, "no request for a connection"},
		{"SHA-1 by the flags", [][]byte{right}, p.rsa, auth{session: session, key: p.rsa, algorithm: ssh.KeyAlgoRSASHA512}.data(), 0, "SHA-1"},
		{"SHA-1 by the login", [][]byte{right}, p.rsa, auth{session: session, key: p.rsa, algorithm: ssh.KeyAlgoRSA}.data(), agent.SignatureFlagRsaSha256, "SHA-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := p.client()
			for _, b := range c.binds {
				bind(client, b)
			}
			if sig, err := client.SignWithFlags(c.key, c.data, c.flags); err == nil {
				t.Fatalf("it signed: %v", sig)
			}
			for {
				why := p.told()
				if why.ID != 0 || !strings.Contains(why.Refused, c.why) {
					t.Errorf("the supervisor was told %+v", why)
				}
				if why.Key != "" { // of the signature, after those of the bindings
					break
				}
			}
		})
	}
	if n := p.ring.signed(); n != 0 {
		t.Errorf("the person's agent signed %d times", n)
	}
}

// TestNoSHA1WithCertificates: an RSA key that has a certificate is held to the same.
func TestNoSHA1WithCertificates(t *testing.T) {
	p := newStand(t)
	host, key := newKey(t), signerOf(t, rsaOnce())
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"git"}, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, newKey(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.ring.Add(agent.AddedKey{PrivateKey: rsaOnce(), Certificate: cert}); err != nil {
		t.Fatal(err)
	}
	p.knows("git.example", host.PublicKey())
	p.start(ask.Login{Keys: []string{fingerprintOf(cert)}, Hosts: []string{"git.example"}, Ports: []int{22}})
	for _, c := range []struct {
		algorithm string
		flags     agent.SignatureFlags
		want      bool
	}{
		{ssh.CertAlgoRSASHA512v01, agent.SignatureFlagRsaSha512, true}, {ssh.CertAlgoRSASHA512v01, 0, false}, {ssh.CertAlgoRSAv01, agent.SignatureFlagRsaSha512, false}, {ssh.CertAlgoRSAv01, 0, false},
	} {
		client := p.client()
		if !bind(client, bindingTo(t, host, "s", false)) {
			t.Fatal("a right binding is not taken")
		}
		sig, err := client.SignWithFlags(cert, auth{session: "s", key: cert, algorithm: c.algorithm}.data(), c.flags)
		if (err == nil) != c.want {
			t.Errorf("%s with the flags %d: %v, %v", c.algorithm, c.flags, sig, err)
		}
		if told := p.told(); c.want != (told.ID != 0) || !c.want && !strings.Contains(told.Refused, "SHA-1") {
			t.Errorf("%s with the flags %d: %+v", c.algorithm, c.flags, told)
		}
	}
}

// TestNothingElse: an agent has more verbs, and this one does not.
func TestNothingElse(t *testing.T) {
	p := newHosts(t)
	before, err := p.ring.List()
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func(agent.ExtendedAgent) error{
		"add":        func(a agent.ExtendedAgent) error { return a.Add(agent.AddedKey{PrivateKey: rsaOnce()}) },
		"remove":     func(a agent.ExtendedAgent) error { return a.Remove(p.key) },
		"remove all": func(a agent.ExtendedAgent) error { return a.RemoveAll() },
		"lock":       func(a agent.ExtendedAgent) error { return a.Lock([]byte("x")) },
		"unlock":     func(a agent.ExtendedAgent) error { return a.Unlock([]byte("x")) },
		"extension":  func(a agent.ExtendedAgent) error { _, err := a.Extension("query", nil); return err },
	} {
		if try(p.client()) == nil {
			t.Errorf("%s was done", name)
		}
	}
	after, err := p.ring.List()
	if err != nil || len(after) != len(before) {
		t.Errorf("the person's agent has %d keys and had %d: %v", len(after), len(before), err)
	}
}

// TestLists: all named keys before a client says where it goes, then those for that host, and none once it has said something wrong. The person's
// comments, which tell who and where they are, stay outside.
func TestLists(t *testing.T) {
	p := newHosts(t)
	names := func(c agent.ExtendedAgent) (list []string) {
		keys, err := c.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			list = append(list, k.Comment)
		}
		return list
	}
	c := p.client()
	if got := strings.Join(names(c), " "); got != "git.example git.example other.example" {
		t.Errorf("at first: %s", got)
	}
	bind(c, bindingTo(t, p.other, "s", false))
	if got := strings.Join(names(c), " "); got != "other.example" {
		t.Errorf("for one host: %s", got)
	}
	bind(c, bindingTo(t, p.third, "s", false))
	if got := names(c); len(got) > 0 {
		t.Errorf("after a host that is not named: %v", got)
	}
}

// TestSupervisorDecides: what it refuses, because it could not write it down or the policy has changed, is not signed: with the agent's key, and with one that was
// read from a file.
func TestSupervisorDecides(t *testing.T) {
	p := newStand(t)
	host := newKey(t)
	held := p.add(nil, "held")
	block, err := ssh.MarshalPrivateKey(rsaOnce(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.home, "id"), pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	own := signerOf(t, rsaOnce()).PublicKey()
	p.knows("git.example", host.PublicKey())
	p.start(ask.Login{Keys: []string{"held", "~/id"}, Hosts: []string{"git.example"}, Ports: []int{22}})
	for _, deny := range []string{"", "the disk is full"} {
		p.mu.Lock()
		p.deny = deny
		p.mu.Unlock()
		for _, key := range []ssh.PublicKey{held, own} {
			a, flags := auth{session: "s", key: key}, agent.SignatureFlags(0)
			if key == own {
				a.algorithm, flags = ssh.KeyAlgoRSASHA256, agent.SignatureFlagRsaSha256
			}
			c := p.client()
			bind(c, bindingTo(t, host, "s", false))
			sig, err := c.SignWithFlags(key, a.data(), flags)
			if (err == nil) != (deny == "") {
				t.Errorf("%s, refused %q: %v", key.Type(), deny, err)
			}
			if err == nil && key.Verify(a.data(), sig) != nil {
				t.Errorf("%s: the signature is wrong", key.Type())
			}
		}
	}
	if n := p.ring.signed(); n != 1 {
		t.Errorf("the person's agent signed %d times", n)
	}
}

// TestBounds: neither one connection nor all of them have signatures without end.
func TestBounds(t *testing.T) {
	p := newHosts(t)
	signed := 0
	one := func() (n int) {
		c := p.client()
		bind(c, bindingTo(t, p.git, "s", false))
		for range most + 3 {
			if _, err := c.Sign(p.key, auth{session: "s", key: p.key}.data()); err == nil {
				n++
			}
		}
		return n
	}
	began := time.Now()
	if n := one(); n != most {
		t.Errorf("one connection was given %d signatures", n)
	} else {
		signed = n
	}
	for range 5 {
		signed += one()
	}
	if signed != aMinute && time.Since(began) < time.Minute {
		t.Errorf("%d signatures in %v", signed, time.Since(began))
	}
}

// TestLongMessages end the connection, before anything of their length is kept.
func TestLongMessages(t *testing.T) {
	p := newHosts(t)
	for _, head := range []string{"\xff\xff\xff\xff", "\x00\x04\x00\x01", "\x00\x00\x00\x00"} {
		c, err := net.Dial("unix", p.inside)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(head))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q is answered with %d bytes", head, n)
		}
		c.Close()
	}
	if _, err := p.client().List(); err != nil {
		t.Errorf("the control: %v", err)
	}
}

// TestCertificates: a host with a certificate is the host, if its authority is one of the person's for that name.
func TestCertificates(t *testing.T) {
	authority, stranger := newKey(t), newKey(t)
	certified := func(by ssh.Signer, kind uint32, name string, until time.Time) ssh.Signer {
		key := newKey(t)
		cert := &ssh.Certificate{Key: key.PublicKey(), CertType: kind, ValidPrincipals: []string{name}, ValidBefore: uint64(until.Unix())}
		if err := cert.SignCert(rand.Reader, by); err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewCertSigner(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	later, revoked := time.Now().Add(time.Hour), newKey(t)
	p := newStand(t)
	key := p.add(nil, "")
	p.knows("@cert-authority *.example,!evil.example", authority.PublicKey())
	p.knows("@revoked *", revoked.PublicKey())
	p.knows("git.example", revoked.PublicKey())
	p.start(ask.Login{Hosts: []string{"git.example"}, Ports: []int{22}})
	if !strings.Contains(p.ready.KnownHosts, "@cert-authority git.example ssh-ed25519 ") || !strings.Contains(p.ready.KnownHosts, "@revoked git.example ssh-ed25519 ") {
		t.Errorf("known inside:\n%s", p.ready.KnownHosts)
	}
	for _, c := range []struct {
		name string
		host ssh.Signer
		want bool
	}{
		{"its own", certified(authority, ssh.HostCert, "git.example", later), true},
		{"another host's", certified(authority, ssh.HostCert, "other.example", later), false},
		{"a person's", certified(authority, ssh.UserCert, "git.example", later), false},
		{"one that has ended", certified(authority, ssh.HostCert, "git.example", time.Now().Add(-time.Hour)), false},
		{"a stranger's", certified(stranger, ssh.HostCert, "git.example", later), false},
		{"the authority itself", authority, false},
		{"a revoked key", revoked, false},
	} {
		client := p.client()
		taken := bind(client, bindingTo(t, c.host, "s", false))
		_, err := client.Sign(key, auth{session: "s", key: key}.data())
		if taken != c.want || (err == nil) != c.want {
			t.Errorf("%s: taken %v, signed %v", c.name, taken, err)
		}
	}
}

// TestKnownHosts: lines are read as ssh reads them, and only those of the named hosts come inside, without other names that they have.
func TestKnownHosts(t *testing.T) {
	key, other := newKey(t).PublicKey(), newKey(t).PublicKey()
	line := func(hosts string, k ssh.PublicKey) string { return hosts + " " + string(ssh.MarshalAuthorizedKey(k)) }
	hashed := func(name string) string {
		mac := hmac.New(sha1.New, []byte("12345678901234567890"))
		mac.Write([]byte(name))
		return "|1|" + base64.StdEncoding.EncodeToString([]byte("12345678901234567890")) + "|" + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	for _, c := range []struct {
		name, text string
		port       int
		want       bool
	}{
		{"plain", line("git.example", key), 22, true},
		{"one of several", line("a.example,git.example,192.0.2.1", key), 22, true},
		{"letters", line("GIT.Example", key), 22, true},
		{"hashed", line(hashed("git.example"), key), 22, true},
		{"hashed, another", line(hashed("git2.example"), key), 22, false},
		{"hashed with a port", line(hashed("[git.example]:2222"), key), 2222, true},
		{"with a port", line("[git.example]:2222", key), 2222, true},
		{"with another port", line("[git.example]:2222", key), 22, false},
		{"without the port", line("git.example", key), 2222, true},
		{"without the port, where one names it", line("git.example", key) + line("[git.example]:2222", other), 2222, false},
		{"a pattern", line("*.example", key), 22, true},
		{"a pattern less the name", line("*.example,!git.example", key), 22, false},
		{"a pattern with a question mark", line("gi?.example", key), 22, true},
		{"a comment", "#" + line("git.example", key), 22, false},
		{"a comment of words", strings.TrimSpace(line("git.example", key)) + " added by me on a Monday\n", 22, true},
		{"strange lines before", "git.example 1024 35 12345\n@new git.example x y\n\x00\ngit.example ssh-ed25519 AAAA\n" + line("git.example", key), 22, true},
		{"another type than the key's", strings.Replace(line("git.example", key), "ssh-ed25519", "ssh-rsa", 1), 22, false},
		{"revoked", line("git.example", key) + line("@revoked git.example", key), 22, false},
		{"an authority is no key", line("@cert-authority git.example", key), 22, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &place{host: "git.example", port: c.port}
			p.known(parseKnown([]byte(c.text)))
			if got := p.isKeyOf(key); got != c.want {
				t.Errorf("%v", got)
			}
			inside := &place{host: "git.example", port: c.port}
			inside.known(parseKnown([]byte(p.lines())))
			if inside.isKeyOf(key) != c.want || strings.Contains(p.lines(), "192.0.2.1") || strings.Contains(p.lines(), "*") {
				t.Errorf("known inside:\n%s", p.lines())
			}
		})
	}
}

// TestFindsKeys: what a policy names is found or said to be missing, with a way out.
func TestFindsKeys(t *testing.T) {
	p := newStand(t)
	p.add(nil, "one")
	p.add(nil, "twice")
	p.add(nil, "twice")
	p.knows("git.example", newKey(t).PublicKey())
	write := func(name string, text []byte, perm os.FileMode) {
		if err := os.WriteFile(filepath.Join(p.home, name), text, perm); err != nil {
			t.Fatal(err)
		}
	}
	block, err := ssh.MarshalPrivateKey(rsaOnce(), "")
	if err != nil {
		t.Fatal(err)
	}
	write("id", pem.EncodeToMemory(block), 0o600)
	write("open", pem.EncodeToMemory(block), 0o604)
	if block, err = ssh.MarshalPrivateKeyWithPassphrase(rsaOnce(), "", []byte("x")); err != nil {
		t.Fatal(err)
	}
	write("locked", pem.EncodeToMemory(block), 0o600)
	keys, err := p.ring.List()
	if err != nil {
		t.Fatal(err)
	}
	write("held.pub", []byte(keys[0].String()), 0o644)
	write("lost.pub", ssh.MarshalAuthorizedKey(newKey(t).PublicKey()), 0o644)
	write("id2", pem.EncodeToMemory(block), 0o600)
	write("id2.pub", ssh.MarshalAuthorizedKey(newKey(t).PublicKey()), 0o644)
	w := wallet{home: p.home}
	w.held, w.agent = listAgent(p.sock)
	for _, c := range []struct {
		name, why string
		own       bool
	}{
		{"one", "", false}, {ssh.FingerprintSHA256(keys[0]), "", false}, {"~/held.pub", "", false}, {"~/held", "", false}, {"~/id", "", true}, {"~/id.pub", "no such file", true},
		{"twice", "is the comment of 2 keys", false}, {"nobody", "has no key", false}, {"SHA256:x", "has no key", false}, {"", "has 3 keys", false},
		{"~/open", "can be read by others", false}, {"~/locked", "has a passphrase", false}, {"~/lost.pub", "no such file", false}, {"~/none", "no such file", false},
		{"/dev/zero", "not the file of a key", false}, {"~/id2", "has a passphrase", false},
	} {
		list, err := w.find(c.name)
		switch {
		case c.why != "":
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%q: %v, %v", c.name, list, err)
			}
		case err != nil || len(list) != 1 || (list[0].own != nil) != c.own:
			t.Errorf("%q: %v, %v", c.name, list, err)
		}
	}
	none := wallet{home: p.home}
	none.held, none.agent = listAgent("")
	if _, err := none.find(""); err == nil || !strings.Contains(err.Error(), "no agent of yours runs") {
		t.Error(err)
	}
	many := wallet{held: slices.Repeat(w.held, 100)}
	for i := range many.held {
		many.held[i].fingerprint = fmt.Sprintf("SHA256:%043d", i)
	}
	if _, err := many.find(""); err == nil || !strings.Contains(err.Error(), "has 300 keys") || len(err.Error()) > ask.MaxSentence {
		t.Error(err)
	}
	p.start(ask.Login{Keys: []string{"~/id"}, Hosts: []string{"nowhere.example"}, Ports: []int{2222}})
	if want := "your known_hosts have no key of [nowhere.example]:2222"; p.ready.Ready || !strings.Contains(p.ready.Error, want) || !strings.Contains(p.ready.Hint, "ssh -p 2222 nowhere.example") {
		t.Errorf("%+v", p.ready)
	}
}

// FuzzAnswer: whatever is said, what is signed is a login by the session that the client was bound to.
func FuzzAnswer(f *testing.F) {
	host, mine := newKey(f), newKey(f)
	stranger := newKey(f)
	p := &place{host: "git.example", port: 22, keys: []ssh.PublicKey{host.PublicKey()}}
	extension := func(contents []byte) []byte {
		return append(append([]byte{msgExtension}, framed([]byte(sessionBind))...), contents...)
	}
	request := func(k ssh.PublicKey, data []byte) []byte {
		return append(append(append([]byte{msgSign}, framed(k.Marshal())...), framed(data)...), 0, 0, 0, 0)
	}
	const session = "the session"
	good := auth{session: session, key: mine.PublicKey()}
	f.Add(extension(bindingTo(f, host, session, false)), request(mine.PublicKey(), good.data()))
	f.Add(extension(bindingTo(f, stranger, session, false)), request(mine.PublicKey(), good.data()))
	f.Add(extension(bindingTo(f, host, session, true)), request(mine.PublicKey(), good.data()))
	f.Add([]byte{msgRequestKeys}, request(mine.PublicKey(), auth{session: session, key: mine.PublicKey(), host: host.PublicKey()}.data()))
	f.Add([]byte{17, 0, 0, 0, 1}, request(stranger.PublicKey(), []byte(sshsig)))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first) == 0 || len(second) == 0 {
			return // readMessage takes none of these
		}
		s := &server{link: &link{fd: -1, waiting: map[uint64]chan permit{}}, places: []*place{p}}
		s.logins = []login{{hosts: "git.example", places: s.places, keys: []key{{public: mine.PublicKey(), fingerprint: fingerprintOf(mine.PublicKey())}}}}
		c := &client{server: s}
		for _, m := range [][]byte{first, second} {
			if reply := c.answer(m); len(reply) == 0 || reply[0] == msgSigned {
				t.Fatalf("%x is answered with %x, and nobody wrote it down", m, reply)
			}
		}
		r, k, err := c.decide(second[1:], &ask.Signing{})
		if err != nil {
			return
		}
		u, err := parseUserauth(r.data)
		if err != nil || c.bound == nil || c.spent != "" || !bytes.Equal(u.session, c.bound.session) || !bytes.Equal(u.key, k.public.Marshal()) || k.fingerprint != fingerprintOf(mine.PublicKey()) {
			t.Fatalf("%x after %x would be signed", second, first)
		}
	})
}

// TestLatePermit: the connection to the person's agent that comes with an answer too late is closed.
func TestLatePermit(t *testing.T) {
	here, there := net.Pipe()
	l, c := &link{waiting: map[uint64]chan permit{}}, make(chan permit, 1)
	l.waiting[1] = c
	l.leave(1, c) // nobody has answered
	if len(l.waiting) != 0 {
		t.Error("it waits still")
	}
	c <- permit{agent: here} // listen has taken it out, and answers now
	l.leave(1, c)
	there.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := there.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
}
