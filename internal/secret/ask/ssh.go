package ask

import (
	"errors"
	"fmt"
)

// SSHFD is the number of the listening socket of `casemate-secret ssh-agent`, whose clients are inside. Its end of the pair, with the supervisor, is FD.
const SSHFD = 4

// SSHBegin is the supervisor's first packet to it: the logins that will ever be signed.
type SSHBegin struct {
	Logins []Login `json:"logins"`
}

// Login is one rule of the policy: with these keys at these hosts.
type Login struct {
	Keys   []string `json:"keys,omitempty"` // as the policy names them; none: the only one that the person's agent has
	Hosts  []string `json:"hosts"`
	Ports  []int    `json:"ports"`
	Origin string   `json:"origin"`
}

// SSHReady answers it: Ready with what the ssh inside is to know of the hosts, or Error with a sentence and a hint, and then nothing runs.
type SSHReady struct {
	Ready      bool   `json:"ready,omitempty"`
	KnownHosts string `json:"known_hosts,omitempty"`
	Error      string `json:"error,omitempty"`
	Hint       string `json:"hint,omitempty"`
}

// Signing is what somebody inside asked to have signed. With an ID it may be, and waits for the supervisor's Permit: nothing is signed that was not written
// down before. Without one it was refused already.
type Signing struct {
	ID      uint64 `json:"id,omitempty"`
	Login   int    `json:"login"`          // the number of the rule in SSHBegin
	Host    string `json:"host,omitempty"` // whose key made the signature that the client was bound to; empty: none that is named
	Port    int    `json:"port,omitempty"`
	User    string `json:"user,omitempty"`  // whom the client says to be there
	Key     string `json:"key,omitempty"`   // fingerprint
	Agent   bool   `json:"agent,omitempty"` // the key is the agent's: a connection to that is wanted
	Refused string `json:"refused,omitempty"`
}

// Permit answers one, with the connection to the person's agent where one was wanted (SCM_RIGHTS).
type Permit struct {
	ID      uint64 `json:"id"`
	Refused string `json:"refused,omitempty"` // why not after all
}

// The bounds of these messages.
const (
	MaxLogins     = 32
	MaxUser       = 64
	maxKnownHosts = 40 << 10
)

// EncodeSSHBegin and its like make packets, and the others read them, as those for the gate.
func EncodeSSHBegin(m SSHBegin) ([]byte, error) { return encode(m, m.check()) }
func EncodeSSHReady(m SSHReady) ([]byte, error) { return encode(m, m.check()) }
func EncodeSigning(m Signing) ([]byte, error)   { return encode(m, m.check()) }
func EncodePermit(m Permit) ([]byte, error)     { return encode(m, m.check()) }

func DecodeSSHBegin(packet []byte) (SSHBegin, error) {
	var m SSHBegin
	err := decode(packet, &m, m.check)
	return m, err
}

func DecodeSSHReady(packet []byte) (SSHReady, error) {
	var m SSHReady
	err := decode(packet, &m, m.check)
	return m, err
}

func DecodeSigning(packet []byte) (Signing, error) {
	var m Signing
	err := decode(packet, &m, m.check)
	return m, err
}

func DecodePermit(packet []byte) (Permit, error) {
	var m Permit
	err := decode(packet, &m, m.check)
	return m, err
}

func (b *SSHBegin) check() error {
	if len(b.Logins) == 0 || len(b.Logins) > MaxLogins {
		return fmt.Errorf("ssh: %d rules, and a sandbox can have %d", len(b.Logins), MaxLogins)
	}
	for _, l := range b.Logins {
		if len(l.Hosts) == 0 || len(l.Hosts) > MaxHosts || len(l.Keys) > MaxHosts || len(l.Ports) == 0 || len(l.Ports) > MaxHosts {
			return fmt.Errorf("ssh (%s): hosts, keys and ports are at most %d each", l.Origin, MaxHosts)
		}
	}
	return nil
}

func (r *SSHReady) check() error {
	switch {
	case r.Ready == (r.Error != ""):
		return errors.New("an answer is either ready or an error")
	case len(r.Error) > MaxSentence || len(r.Hint) > MaxSentence:
		return fmt.Errorf("a sentence is longer than %d bytes", MaxSentence)
	case len(r.KnownHosts) > maxKnownHosts:
		return fmt.Errorf("the named hosts have more than %d bytes of keys in known_hosts", maxKnownHosts)
	}
	return nil
}

func (s *Signing) check() error {
	switch {
	case (s.ID == 0) != (s.Refused != ""):
		return errors.New("a signature is either asked for or refused")
	case s.Login < 0 || s.Login >= MaxLogins:
		return fmt.Errorf("no rule can be number %d", s.Login)
	case !text(s.Host, MaxHost):
		return wrong("a host", s.Host)
	case s.Port < 0 || s.Port > 65535:
		return fmt.Errorf("a port cannot be %d", s.Port)
	case !text(s.User, MaxUser):
		return wrong("a user", s.User)
	case !text(s.Key, MaxHost):
		return wrong("a key", s.Key)
	case !text(s.Refused, MaxSentence):
		return wrong("a refusal", s.Refused)
	}
	return nil
}

func (p *Permit) check() error {
	switch {
	case p.ID == 0:
		return errors.New("a permit has no id")
	case len(p.Refused) > MaxSentence:
		return fmt.Errorf("a sentence is longer than %d bytes", MaxSentence)
	}
	return nil
}
