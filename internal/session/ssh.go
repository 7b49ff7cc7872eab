package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/guest"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/relay"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/uses"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// signer is the sandbox's ssh-agent, as its supervisor sees it: a process of the person's own, outside, that listens on a socket which is seen inside. It asks
// before each signature, and has no file and no way to the person's agent but what it is given for one.
type signer struct {
	*storekeeper
	watch *relay.Watch
	log   uses.Log
	given []uses.Tally    // of each rule: what proves a session once has as many logins signed as its programs ask for
	noted uses.Tally      // refusals
	told  map[string]bool // refusals that there was an event for
	count int             // events of signatures
}

const (
	maxRefusals = 1000 // of one run, one by one in the log that is everybody's
	maxSigned   = 1000 // the same, of each rule, and events of all
	readyWithin = time.Minute
)

// agentDir prepares the directory that is seen inside, as the plan pins what it mounts. A run before may have left one.
func (r *Run) agentDir(req *plan.Request) error {
	if !plan.SignsLogins(r.Policy, *req) {
		return nil
	}
	req.Agent = plan.Agent{Dir: filepath.Join(r.Store.Root, "sandboxes", "new", "ssh"), Target: guest.AgentDir, Socket: guest.AgentSocket}
	if r.Options.DryRun {
		return nil
	}
	req.Agent.Dir = r.sshDir()
	err := errors.Join(os.RemoveAll(req.Agent.Dir), store.MakeDir(req.Agent.Dir), os.Chmod(req.Agent.Dir, 0o755)) // nobody else comes past the directories above
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	return nil
}

func (r *Run) sshDir() string { return filepath.Join(r.Box.Dir, "ssh") }

// keyFiles are those by which the policy names keys. One that is a link into the project would have what runs inside say which of the person's keys is meant next time.
func (r *Run) keyFiles() (list []string) {
	for _, v := range r.Policy.SSH {
		for _, k := range v.V.Keys {
			if path := strings.TrimSuffix(plan.Expand(k, r.Person.Home), ".pub"); filepath.IsAbs(path) {
				list = append(list, path, path+".pub")
			}
		}
	}
	return list
}

// startSigner starts the agent where the plan names keys. Nothing runs without it.
func (s *supervision) startSigner() error {
	r := s.run
	if len(r.Plan.SSH) == 0 {
		return nil
	}
	listening, err := listenAgent(r.sshDir())
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	defer listening.Close()
	g := newSigner(len(r.Plan.SSH))
	if g.log, err = uses.Find(r.Person.getenv); err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	if g.storekeeper, err = r.execSecret("ssh", "ssh-agent", listening); err != nil {
		return err
	}
	s.signer = g
	ready, err := g.beginLogins(r.Plan.SSH)
	if err == nil {
		err = store.WriteFile(filepath.Join(r.sshDir(), guest.AgentKnownHosts), []byte(ready.KnownHosts), 0o644)
	}
	if err != nil {
		s.endSigner()
		return err
	}
	g.watch = s.loop.Watch(g.fd, unix.POLLIN, func(int16) { s.signings() })
	return nil
}

func newSigner(rules int) *signer {
	g := &signer{told: map[string]bool{}, noted: uses.Tally{Each: maxRefusals}, given: make([]uses.Tally, rules)}
	for i := range g.given {
		g.given[i].Each = maxSigned
	}
	return g
}

// listenAgent makes the socket. Whoever is inside may connect; outside nobody comes to it. The way is by descriptor because paths of sockets are short (unix(7)).
func listenAgent(dir string) (*os.File, error) {
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	defer unix.Close(at)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	name := "/proc/self/fd/" + strconv.Itoa(at) + "/" + guest.AgentSocket
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err == nil {
		err = os.Chmod(name, 0o666)
	}
	if err == nil {
		err = unix.Listen(fd, 64)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "agent"), nil
}

// beginLogins tells it the rules, and waits until it has the keys and is confined.
func (g *signer) beginLogins(list []plan.Login) (ready ask.SSHReady, err error) {
	var b ask.SSHBegin
	for _, l := range list {
		b.Logins = append(b.Logins, ask.Login(l))
	}
	text, err := ask.EncodeSSHBegin(b)
	if err != nil {
		return ready, err
	}
	answer, err := g.converse(text, "ssh: the agent of the sandbox", readyWithin)
	if err != nil {
		return ready, err
	}
	switch ready, err = ask.DecodeSSHReady(answer); {
	case err != nil:
		return ready, &Refusal{fmt.Errorf("ssh: %w", err), "casemate-secret must be of the same build as casemate: make install installs both"}
	case ready.Error != "":
		return ready, &Refusal{errors.New(ready.Error), ready.Hint}
	}
	return ready, nil
}

// signings takes what the agent asks for and tells.
func (s *supervision) signings() {
	g, buf := s.signer, make([]byte, ask.MaxMessage)
	for range 64 {
		n, err := hear(g.fd, buf, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return
		}
		var asked ask.Signing
		if err == nil && n > 0 {
			asked, err = ask.DecodeSigning(buf[:n])
		}
		if err != nil || n == 0 || asked.Login >= len(s.run.Plan.SSH) {
			s.run.emit(event.Event{Kind: event.Warned, Subject: "ssh", Detail: "the agent of the sandbox ended, and no login is signed any more" + g.said()})
			s.run.notice("the ssh-agent of the sandbox ended%s; the command went on without", g.said())
			s.endSigner()
			return
		}
		s.signing(asked)
	}
}

// signing decides about one, writes it down, and only then lets it be made.
func (s *supervision) signing(asked ask.Signing) {
	if asked.Refused != "" {
		s.refusedLogin(asked)
		return
	}
	permit := ask.Permit{ID: asked.ID}
	agent := -1
	err := s.run.stillNamed(asked.Login)
	if err == nil && asked.Agent {
		agent, err = connectAgent(s.run.Person.getenv("SSH_AUTH_SOCK"))
	}
	if err == nil {
		err = s.signer.given[asked.Login].Note(s.signer.log, s.use(asked))
	}
	if err != nil {
		permit.Refused, asked.Refused = err.Error(), err.Error()
		s.refusedLogin(asked)
	} else {
		s.signedLogin(asked)
	}
	var rights []byte
	if agent >= 0 {
		if err == nil {
			rights = unix.UnixRights(agent)
		}
		defer unix.Close(agent)
	}
	if text, err := ask.EncodePermit(permit); err == nil {
		unix.Sendmsg(s.signer.fd, text, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) // one that takes nothing waits in vain
	}
}

// connectAgent connects to the person's agent, for one signature.
func connectAgent(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("your agent cannot be reached: %w", err)
	}
	return fd, nil
}

func (s *supervision) use(asked ask.Signing) uses.Use {
	return uses.Use{
		Time: time.Now().UTC(), Entry: "ssh", Sandbox: s.run.Box.Record.ID, Project: s.run.Project, Host: asked.Host, Port: asked.Port, Key: asked.Key, User: asked.User,
		Refused: asked.Refused,
	}
}

func (s *supervision) signedLogin(asked ask.Signing) {
	rule := s.run.Plan.SSH[asked.Login].Origin
	c := s.listed(asked, wire.Signed, fmt.Sprintf("a login as %s, with the key %s", asked.User, asked.Key), rule)
	if s.signer.count++; s.signer.count <= maxSigned {
		s.run.emit(event.Event{Kind: event.Signed, Subject: "ssh:" + c.Target(), Rule: rule, Detail: c.Why})
	}
}

func (s *supervision) refusedLogin(asked ask.Signing) {
	g, r := s.signer, s.run
	c := s.listed(asked, wire.Unsigned, asked.Refused, "")
	_ = g.noted.Note(g.log, s.use(asked)) // nothing is given
	if key := c.Target() + " " + asked.Refused; !g.told[key] && len(g.told) < maxDenials {
		g.told[key] = true
		r.emit(event.Event{Kind: event.Denied, Subject: strings.TrimSuffix("ssh:"+c.Target(), ":"), Detail: asked.Refused})
		const most = 3
		switch n := len(g.told); {
		case n <= most:
			r.notice("the ssh-agent did not sign%s: %s", at(c), asked.Refused)
		case n == most+1:
			r.notice("there is more that the ssh-agent did not sign: casemate net %s", r.Box.Record.ID)
		}
	}
}

// at is for which host, as a part of a sentence.
func at(c Connection) string {
	if c.Name == "" {
		return ""
	}
	return " for " + c.Target()
}

// listed adds it to the record of connections.
func (s *supervision) listed(asked ask.Signing, v wire.Verdict, why, rule string) Connection {
	c := Connection{Sandbox: s.run.Box.Record.ID, Record: wire.Record{Time: time.Now().UTC(), Verdict: v, Name: asked.Host, Port: asked.Port, Why: why, Rule: rule}}
	if s.gate != nil {
		s.gate.write(c)
		s.gate.written()
	}
	return c
}

// stillNamed says whether the policy files name a login as they did at the start.
func (r *Run) stillNamed(login int) error {
	if r.withdrawn[login] {
		return errors.New("the policy names this login no more")
	}
	return nil
}

// withdrawLogins notes which logins the policy names no more. They come back as secrets do.
func (r *Run) withdrawLogins(sources []policy.Source, believed bool) {
	merged, err := policy.Permitted(sources)
	for i, v := range r.Policy.SSH {
		gone := !slices.ContainsFunc(merged.SSH, func(now policy.Value[policy.SSH]) bool { return now.V.String() == v.V.String() })
		if gone != r.withdrawn[i] && (gone || believed && err == nil) {
			if r.withdrawn == nil {
				r.withdrawn = map[int]bool{}
			}
			r.withdrawn[i] = gone
		}
	}
}

// endSigner ends the agent, and takes its socket away.
func (s *supervision) endSigner() {
	if s.signer == nil {
		return
	}
	if s.signer.watch != nil {
		s.signer.watch.Close()
	}
	s.signer.close()
	for i := range s.signer.given {
		_ = s.signer.given[i].Rest(s.signer.log) // they were given
	}
	_ = s.signer.noted.Rest(s.signer.log)
	s.signer = nil
	os.RemoveAll(s.run.sshDir())
}
