package session

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/secret/ask"
	"golang.org/x/sys/unix"
)

// storekeeper is the process that reads the secret store, as its supervisor sees it. It is the person's own process, outside; the values go from it to the
// gate and never through here.
type storekeeper struct {
	process *os.Process
	fd      int // our end of the socket, until the gate has it; -1
	words   *os.File
}

// opensWithin is how long the store may take: a person may have to type a passphrase.
const opensWithin = 3 * time.Minute

// endsWithin is how long it may take to end.
const endsWithin = 2 * time.Second

// startSecrets has the store opened where the plan has secrets and a gate, and makes their placeholders. Nothing runs without it.
func (s *supervision) startSecrets() error {
	r := s.run
	if len(r.Plan.Secrets) == 0 {
		return nil
	}
	if r.Plan.Network.Kind != plan.Gate { // nothing asks for a value: the store stays shut
		return r.placehold(func(p plan.Secret) (ask.Shape, bool) { return plainShape(p), true })
	}
	k, err := r.execSecret("secrets", "serve")
	if err != nil {
		return err
	}
	s.secrets = k
	ready, err := k.begin(r.storeBegin())
	if err != nil {
		s.endSecrets()
		return err
	}
	r.Plan.Secrets = slices.DeleteFunc(r.Plan.Secrets, func(p plan.Secret) bool {
		return p.Optional && ready.Shapes[p.Name].Length == 0 || p.Unless != "" && ready.Shapes[p.Unless].Length > 0
	})
	if err := r.settleLogins(); err != nil {
		return err
	}
	if s.gate != nil {
		s.gate.force = r.Plan.Network.Reachable()
	}
	return r.placehold(func(p plan.Secret) (ask.Shape, bool) {
		shape, ok := ready.Shapes[p.Name]
		return shape, ok
	})
}

// plainShape is that of a placeholder that nothing is ever put in place of.
func plainShape(p plan.Secret) ask.Shape {
	s := ask.Shape{Prefix: "casemate-placeholder-", Length: 53, Alphabet: "0123456789abcdefghijklmnopqrstuvwxyz"}
	if p.Place == policy.PlaceSigV4 {
		s.Parts = []ask.Shape{s, s}
	}
	return s
}

// storeBegin is what the store is told of the run.
func (r *Run) storeBegin() ask.Begin {
	b := ask.Begin{Sandbox: r.Box.Record.ID, Project: r.Project, Presets: values(r.Policy.Presets)}
	for _, a := range r.agents { // an agent's command takes its preset by itself
		if !slices.Contains(b.Presets, a.Preset.Name) {
			b.Presets = append(b.Presets, a.Preset.Name)
		}
	}
	for _, p := range r.Plan.Secrets {
		b.Entries = append(b.Entries, ask.Entry{Name: p.Name, Env: p.Env, Hosts: p.Hosts, Optional: p.Optional})
	}
	return b
}

// execSecret starts casemate-secret as the person, with their environment: a store may be a command of theirs, and it may ask them on their terminal.
func (r *Run) execSecret(about, verb string, more ...*os.File) (*storekeeper, error) {
	program, err := sibling("casemate-secret")
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", about, err)
	}
	theirs := os.NewFile(uintptr(pair[1]), about)
	defer theirs.Close()
	k := &storekeeper{fd: pair[0]}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err == nil {
		defer null.Close()
		k.words, err = lastPage()
	}
	if err == nil {
		attr := &os.ProcAttr{Dir: "/", Env: r.Person.Environ, Files: append([]*os.File{null, null, k.words, theirs}, more...), Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}}
		k.process, err = os.StartProcess(program, []string{program, verb}, attr)
	}
	if err != nil {
		k.close()
		return nil, &Refusal{fmt.Errorf("%s: %w", about, err), "casemate-secret must lie beside casemate: make install puts it there"}
	}
	return k, nil
}

// begin tells the store what it is for, and waits until it is open. What it refuses is said in its own words.
func (k *storekeeper) begin(b ask.Begin) (ask.Ready, error) {
	text, err := ask.EncodeBegin(b)
	if err != nil {
		return ask.Ready{}, fmt.Errorf("secrets: %w", err)
	}
	answer, err := k.converse(text, "secrets: the store", opensWithin)
	if err != nil {
		return ask.Ready{}, err
	}
	ready, err := ask.DecodeReady(answer)
	switch {
	case err != nil:
		return ready, &Refusal{fmt.Errorf("secrets: %w", err), "casemate-secret must be of the same build as casemate: make install installs both"}
	case ready.Error != "":
		return ready, &Refusal{fmt.Errorf("secrets: %s", ready.Error), ready.Hint}
	}
	return ready, nil
}

// converse sends the first packet, and waits for the answer.
func (k *storekeeper) converse(text []byte, who string, within time.Duration) ([]byte, error) {
	wait := unix.NsecToTimeval(int64(within))
	unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	if err := unix.Sendto(k.fd, text, unix.MSG_NOSIGNAL, nil); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	buf := make([]byte, ask.MaxMessage)
	n, err := hear(k.fd, buf, 0)
	if err != nil || n == 0 {
		return nil, &Refusal{fmt.Errorf("%s did not open%s", who, k.said()), "casemate-secret must be of the same build as casemate: make install installs both"}
	}
	return buf[:n], nil
}

// said returns what it wrote to its standard error, as the end of a sentence.
func (k *storekeeper) said() string {
	b := make([]byte, page)
	n, _ := k.words.ReadAt(b, 0)
	text, _, _ := strings.Cut(strings.TrimRight(string(b[:n]), "\x00"), "\n")
	if text == "" {
		return ""
	}
	return ": " + text
}

// placehold makes a placeholder for each secret, in the shape of its value.
func (r *Run) placehold(shape func(plan.Secret) (ask.Shape, bool)) error {
	r.placeholders = map[string]string{}
	env := slices.Clone(r.Plan.Command.Env)
	for _, p := range r.Plan.Secrets {
		s, ok := shape(p)
		if !ok {
			return fmt.Errorf("secrets.%s: the store did not say what its value looks like", p.Name)
		}
		texts, err := placeholders(p, s)
		if err != nil {
			return fmt.Errorf("secrets.%s (%s): %w", p.Name, p.Origin, err)
		}
		r.placeholders[p.Name] = strings.Join(texts, ":")
		for i, text := range texts {
			env = append(env, p.Variables()[i]+"="+text)
		}
	}
	r.Plan.Command.Env = env
	return nil
}

// placeholders are those of a secret: one, or one for each part of an AWS credential.
func placeholders(p plan.Secret, s ask.Shape) (list []string, err error) {
	parts := s.Parts
	switch signs := p.Place == policy.PlaceSigV4; {
	case signs && len(parts) == 0:
		return nil, &Refusal{errors.New("its value is not an AWS credential, and its place is sigv4"), "casemate secret rm " + p.Name + "; casemate secret set " + p.Name + " --kind aws"}
	case !signs && len(parts) > 0:
		return nil, &Refusal{errors.New("its value is an AWS credential, which no field of a request holds"), "write place: sigv4 in the policy"}
	case !signs:
		parts = []ask.Shape{s}
	}
	for _, part := range parts {
		text, err := placeholder(part)
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, nil
}

// Placeholders need so many random characters, or they could not be told from other text; the whole is at least as long as what a gate looks for.
const randomCharacters = 8

// placeholder is a stand-in of the shape, made of random characters: of this sandbox only.
func placeholder(s ask.Shape) (string, error) {
	if err := s.Check(); err != nil {
		return "", err
	}
	if s.Length-len(s.Prefix) < randomCharacters {
		return "", &Refusal{fmt.Errorf("its value is too short for a placeholder: of its %d characters, %d are the same in all values", s.Length, len(s.Prefix)), "use a longer one"}
	}
	text := []byte(s.Prefix)
	for even := 256 - 256%len(s.Alphabet); len(text) < s.Length; {
		var random [64]byte
		if n, err := unix.Getrandom(random[:], 0); err != nil || n != len(random) { // package crypto/rand would cost every start its inits
			return "", fmt.Errorf("getrandom: %d bytes: %w", n, err)
		}
		for _, b := range random {
			if int(b) < even && len(text) < s.Length {
				text = append(text, s.Alphabet[int(b)%len(s.Alphabet)])
			}
		}
	}
	return string(text), nil
}

// hand gives our end of the store's socket to whoever sends it to the gate; -1 without any.
func (k *storekeeper) hand() int {
	if k == nil {
		return -1
	}
	fd := k.fd
	k.fd = -1
	return fd
}

// secretRules are what the gate is told of them.
func (g *gateway) secretRules() (list []wire.Secret) {
	for _, p := range g.run.Plan.Secrets {
		list = append(list, wire.Secret{
			Name: p.Name, Placeholder: g.run.placeholders[p.Name], Hosts: p.Hosts, Ports: p.Ports, Place: p.Place, Methods: p.Methods, Paths: p.Paths,
			Withdrawn: g.withdrawn[p.Name], Origin: p.Origin,
		})
	}
	return list
}

// withdraw notes which secrets the policy names no more, or otherwise than at the start, and says whether anything changed. Those that come back are used
// again, unless the policy cannot be believed; new ones are for the next run.
func (g *gateway) withdraw(sources []policy.Source, believed bool) (changed bool) {
	merged, err := policy.Permitted(sources)
	for _, v := range g.run.Policy.Secrets {
		gone := !slices.ContainsFunc(merged.Secrets, func(now policy.Value[policy.Secret]) bool { return now.V.String() == v.V.String() })
		if was := g.withdrawn[v.V.Name]; gone == was || was && (!believed || err != nil) {
			continue
		}
		if g.withdrawn == nil {
			g.withdrawn = map[string]bool{}
		}
		g.withdrawn[v.V.Name], changed = gone, true
	}
	return changed
}

// endSecrets ends the store's process.
func (s *supervision) endSecrets() {
	if s.secrets != nil {
		s.secrets.close()
		s.secrets = nil
	}
}

// end is not by force at once: it may be asking for a passphrase, and has to switch the terminal's echo on again.
func (k *storekeeper) end(within time.Duration) {
	k.process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(within, func() { k.process.Kill() })
	k.process.Wait()
	late.Stop()
}

func (k *storekeeper) close() {
	if k.fd >= 0 {
		unix.Close(k.fd)
		k.fd = -1
	}
	if k.process != nil {
		k.end(endsWithin)
	}
	if k.words != nil {
		k.words.Close()
	}
}
