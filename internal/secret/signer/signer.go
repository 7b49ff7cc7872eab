// Package signer is the ssh-agent of one sandbox: it signs logins at the hosts that the policy names, with the keys that it names, and nothing else.
package signer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
)

// Options say where the person's keys and known hosts are.
type Options struct {
	Home     string
	Agent    string       // the socket of their agent; may be empty
	Known    []string     // files of known hosts; KnownHosts has the usual ones
	Confined func() error // is called before anything from inside is read
}

// KnownHosts are the files that ssh looks in by itself.
func KnownHosts(home string) []string {
	return []string{
		filepath.Join(home, ".ssh", "known_hosts"), filepath.Join(home, ".ssh", "known_hosts2"), "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2",
	}
}

const (
	patience   = 2 * time.Minute // for whoever has to say or do something
	maxClients = 32
)

type server struct {
	link                 *link
	logins               []login
	places               []*place // of all of them
	signatures, refusals quota
}

// login is one rule.
type login struct {
	hosts  string // for the person inside, who sees it beside the key
	places []*place
	keys   []key
}

// at is the first of the rule's places that is among some; nil: none.
func (l *login) at(places []*place) *place {
	for _, p := range l.places {
		if slices.Contains(places, p) {
			return p
		}
	}
	return nil
}

// Run serves what connects to a listening socket, until the supervisor's end of the other is closed.
func Run(supervisor, listening int, o Options) error {
	s := &server{link: &link{fd: supervisor, waiting: map[uint64]chan permit{}}}
	packet, _, err := s.link.receive()
	if err != nil || len(packet) == 0 {
		return err
	}
	begin, err := ask.DecodeSSHBegin(packet)
	if err != nil {
		return err
	}
	l, err := listener(listening)
	if err != nil {
		return err
	}
	ready := ask.SSHReady{Ready: true}
	if err := s.prepare(begin, o); err != nil {
		var p *secret.Problem
		if ready = (ask.SSHReady{Error: err.Error()}); errors.As(err, &p) {
			ready.Hint = p.Help
		}
	} else if err := o.Confined(); err != nil {
		return err
	}
	for _, p := range s.places {
		ready.KnownHosts += p.lines()
	}
	if err := s.link.send(ask.EncodeSSHReady(ready)); err != nil || !ready.Ready {
		return err
	}
	go s.accept(l)
	return s.link.listen()
}

func listener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "agent of the sandbox")
	defer f.Close()
	return net.FileListener(f)
}

func (s *server) accept(l net.Listener) {
	slots := make(chan struct{}, maxClients)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{} // the next ones wait in the socket
		go func() {
			(&client{server: s, conn: c}).serve()
			<-slots
		}()
	}
}

// prepare finds the keys and the hosts' keys. One that is not there is a mistake, which is better said now than at the first login.
func (s *server) prepare(begin ask.SSHBegin, o Options) error {
	var w wallet
	w.home = o.Home
	w.held, w.agent = listAgent(o.Agent)
	lines, err := readKnown(o.Known)
	if err != nil {
		return err
	}
	for _, rule := range begin.Logins {
		l := login{hosts: strings.Join(rule.Hosts, ", ")}
		if len(rule.Keys) == 0 {
			rule.Keys = []string{""}
		}
		for _, name := range rule.Keys {
			keys, err := w.find(name)
			if err != nil {
				return err
			}
			l.keys = append(l.keys, keys...)
		}
		for _, host := range rule.Hosts {
			for _, port := range rule.Ports {
				p, err := s.place(host, port, lines)
				if err != nil {
					return err
				}
				l.places = append(l.places, p)
			}
		}
		s.logins = append(s.logins, l)
	}
	return nil
}

// place finds what is known of a host and port, once.
func (s *server) place(host string, port int, lines []knownLine) (*place, error) {
	for _, p := range s.places {
		if p.host == host && p.port == port {
			return p, nil
		}
	}
	p := &place{host: host, port: port}
	p.known(lines)
	if len(p.keys)+len(p.authorities) == 0 {
		at := host
		if port != 22 {
			at = fmt.Sprintf("-p %d %s", port, host)
		}
		return nil, problem("connect to it once outside of the sandbox, and compare the fingerprint: ssh "+at, "ssh: your known_hosts have no key of %s, so nobody could tell whether it is that host", p.name())
	}
	s.places = append(s.places, p)
	return p, nil
}

// readKnown reads all files that are there.
func readKnown(files []string) (list []knownLine, err error) {
	const most = 8 << 20
	for _, path := range files {
		st, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || !st.Mode().IsRegular() || st.Size() > most {
			return nil, problem("", "ssh: %s cannot be read as known hosts", path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, problem("", "ssh: %w", err)
		}
		list = append(list, parseKnown(text)...)
	}
	return list, nil
}
