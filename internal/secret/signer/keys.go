package signer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"casemate.dev/internal/secret"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sys/unix"
)

// key is one that may be used, of which the public half is here.
type key struct {
	public      ssh.PublicKey       // with a certificate, that
	fingerprint string              // of the key itself, as ssh-add -l shows it
	own         agent.ExtendedAgent // holds it, where it was read from a file; nil: it is the person's agent's
}

// held is what the person's agent lists.
type held struct {
	key
	comment string
}

const (
	maxKeyFile = 64 << 10
	few        = 8 // keys that are named where one of many is meant
)

func problem(help, format string, args ...any) error {
	return &secret.Problem{Err: fmt.Errorf(format, args...), Help: help}
}

// fingerprintOf is that of the key, also for a certificate of it.
func fingerprintOf(k ssh.PublicKey) string {
	if cert, ok := k.(*ssh.Certificate); ok {
		k = cert.Key
	}
	return ssh.FingerprintSHA256(k)
}

// listAgent asks the person's agent what it holds. Without one it is nothing, and why.
func listAgent(socket string) ([]held, error) {
	if socket == "" {
		return nil, errors.New("no agent of yours runs (SSH_AUTH_SOCK is not set)")
	}
	c, err := net.DialTimeout("unix", socket, 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("your agent cannot be reached: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	list, err := agent.NewClient(c).List()
	if err != nil {
		return nil, fmt.Errorf("your agent (%s) does not say what it holds: %w", socket, err)
	}
	var keys []held
	for _, k := range list {
		public, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			continue // of a kind that nobody here can check
		}
		keys = append(keys, held{key{public: public, fingerprint: fingerprintOf(public)}, k.Comment})
	}
	return keys, nil
}

// wallet is where keys are looked for.
type wallet struct {
	home  string
	held  []held
	agent error // why it holds nothing
}

// find returns the key that a policy names, and its certificates if the agent has some.
func (w *wallet) find(name string) ([]key, error) {
	switch {
	case name == "":
		return w.only()
	case strings.HasPrefix(name, "SHA256:"):
		return w.one(name, func(h held) bool { return h.fingerprint == name })
	case strings.HasPrefix(name, "/") || strings.HasPrefix(name, "~/"):
		return w.file(name)
	}
	return w.one(name, func(h held) bool { return h.comment == name })
}

// only is the key of an agent that has no other.
func (w *wallet) only() ([]key, error) {
	list := w.pick(func(held) bool { return true })
	switch n := distinct(list); {
	case w.agent != nil:
		return nil, problem("start one and ssh-add your key, or name the key's file: --ssh HOST=~/.ssh/id_ed25519.pub", "ssh: %w", w.agent)
	case n == 0:
		return nil, problem("ssh-add it, or name its file: --ssh HOST=~/.ssh/id_ed25519.pub", "ssh: your agent has no key")
	case n > 1:
		var names []string
		for _, h := range w.held {
			if _, certified := h.public.(*ssh.Certificate); !certified {
				names = append(names, fmt.Sprintf("%s (%s)", h.fingerprint, word(h.comment, 80)))
			}
		}
		if len(names) > few { // a sentence has an end (ask.MaxSentence)
			names = append(names[:few], "and others")
		}
		return nil, problem("name the one that is meant: --ssh HOST=FINGERPRINT, or keys: [FINGERPRINT]", "ssh: your agent has %d keys: %s", n, strings.Join(names, ", "))
	}
	return list, nil
}

func (w *wallet) one(name string, is func(held) bool) ([]key, error) {
	list := w.pick(is)
	switch n := distinct(list); {
	case n == 1:
		return list, nil
	case n > 1:
		return nil, problem("name it by its fingerprint: ssh-add -l shows that", "ssh: %q is the comment of %d keys of your agent", name, n)
	case w.agent != nil:
		return nil, problem("start one and ssh-add the key, or name the key's file", "ssh: the key %q: %w", name, w.agent)
	}
	return nil, problem("ssh-add it; ssh-add -l lists what there is", "ssh: your agent has no key %q", name)
}

func (w *wallet) pick(is func(held) bool) (list []key) {
	for _, h := range w.held {
		if is(h) {
			list = append(list, h.key)
		}
	}
	return list
}

func distinct(list []key) int {
	seen := map[string]bool{}
	for _, k := range list {
		seen[k.fingerprint] = true
	}
	return len(seen)
}

// file finds the key of a file: the agent's, or else the one in the private file.
func (w *wallet) file(name string) ([]key, error) {
	path := name
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		path = filepath.Join(w.home, rest)
	}
	private := strings.TrimSuffix(path, ".pub")
	text, err := readSmall(private+".pub", false)
	if errors.Is(err, os.ErrNotExist) && private == path {
		return w.private(name, private)
	}
	if err != nil {
		return nil, problem("", "ssh: the key %s: %w", name, err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, problem("", "ssh: %s.pub is no public key", strings.TrimSuffix(name, ".pub"))
	}
	if list := w.pick(func(h held) bool { return h.fingerprint == fingerprintOf(public) }); len(list) > 0 {
		return list, nil
	}
	list, err := w.private(name, private)
	if err == nil && list[0].fingerprint != fingerprintOf(public) {
		return nil, problem("", "ssh: %s and the file without .pub are not of one key", name)
	}
	return list, err
}

// private reads a key's private file.
func (w *wallet) private(name, path string) ([]key, error) {
	text, err := readSmall(path, true)
	defer clear(text)
	if err != nil {
		return nil, problem("ssh-add the key", "ssh: your agent does not have the key %s, and its private file cannot be used: %w", name, err)
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		return nil, problem("ssh-add "+strings.TrimSuffix(name, ".pub"), "ssh: your agent does not have the key %s, and its file has a passphrase", name)
	}
	if err != nil {
		return nil, problem("", "ssh: %s is no private key that can be read", path)
	}
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	if err := ring.Add(agent.AddedKey{PrivateKey: raw}); err != nil {
		return nil, problem("ssh-add it", "ssh: the key %s is of a kind that only an agent can use", name)
	}
	signers, err := ring.Signers()
	if err != nil || len(signers) != 1 {
		return nil, problem("ssh-add it", "ssh: the key %s is of a kind that only an agent can use", name)
	}
	public, err := ssh.ParsePublicKey(signers[0].PublicKey().Marshal())
	if err != nil {
		return nil, err
	}
	return []key{{public: public, fingerprint: fingerprintOf(public), own: ring}}, nil
}

// readSmall reads a file, of the person's alone if it is private.
func readSmall(path string, private bool) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxKeyFile:
		return nil, fmt.Errorf("%s is not the file of a key", path)
	case private && (int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0):
		return nil, fmt.Errorf("%s can be read by others (chmod 600)", path)
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}
