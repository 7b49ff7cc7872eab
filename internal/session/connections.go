package session

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/relay"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Connection is one line of the record of connections.
type Connection struct {
	Sandbox string `json:"sandbox"`
	wire.Record
}

// Target is HOST:PORT, or HOST where only its name was looked up.
func (c Connection) Target() string {
	if c.Port == 0 {
		return c.Name
	}
	if strings.Contains(c.Name, ":") {
		return "[" + c.Name + "]:" + strconv.Itoa(c.Port)
	}
	return c.Name + ":" + strconv.Itoa(c.Port)
}

// Allowable reports whether the name is one that a rule can have, and not an address to which no rule leads. What a program inside looks up is any bytes, and
// must not come into a command line that a person copies.
func (c Connection) Allowable() bool {
	if a, err := netip.ParseAddr(c.Name); err == nil {
		stands := func(prefix string) bool { return netip.MustParsePrefix(prefix).Contains(a) } // for a name, or for nothing
		if a.IsLoopback() || stands(wire.SyntheticV4) || stands(wire.SyntheticV6) {
			return false
		}
	}
	return c.Name != "" && !strings.ContainsFunc(c.Name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:", r))
	})
}

// AllowCommand is how to allow what was denied, in the sandbox while it runs; "" if no rule can.
func (c Connection) AllowCommand() string {
	if !c.Allowable() || c.Secret != "" {
		return ""
	}
	return "casemate allow " + c.Sandbox + " net:" + c.Target()
}

// Connections reads the record of connections, oldest first: of one sandbox, or of all. It goes on from an offset and returns the next one.
func Connections(st *store.Store, sandbox string, from int64) (list []Connection, next int64, err error) {
	return connections(st.ConnectionsPath(), sandbox, from)
}

// OldConnections reads the record that was put aside as too long.
func OldConnections(st *store.Store, sandbox string) ([]Connection, error) {
	list, _, err := connections(st.OldConnectionsPath(), sandbox, 0)
	return list, err
}

func connections(path, sandbox string, from int64) (list []Connection, next int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() < from {
		from = 0 // a new file was begun
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, 0, err
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return list, from, nil
		}
		from += int64(len(line))
		var c Connection
		if json.Unmarshal(line, &c) == nil && (sandbox == "" || c.Sandbox == sandbox) {
			list = append(list, c)
		}
	}
}

// grantsFile holds what was allowed while the sandbox ran. It lies beside the layer, where nothing inside reaches it.
const grantsFile = "allow.json"

// watchGrants hears of what casemate allow writes.
func (g *gateway) watchGrants(loop *relay.Loop) (err error) {
	if g.grants, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return fmt.Errorf("watch for casemate allow: %w (see fs.inotify.max_user_instances)", err)
	}
	if _, err := unix.InotifyAddWatch(g.grants, g.run.Box.Dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		return fmt.Errorf("watch for casemate allow: %w", err)
	}
	loop.Watch(g.grants, unix.POLLIN, func(int16) { g.heard() })
	return nil
}

// readGrants returns what holds still. A file that cannot be read allows nothing.
func readGrants(dir string) []wire.Allow {
	text, err := os.ReadFile(filepath.Join(dir, grantsFile))
	if err != nil {
		return nil
	}
	var list []wire.Allow
	if json.Unmarshal(text, &list) != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(a wire.Allow) bool { return !a.Until.IsZero() && !time.Now().Before(a.Until) })
}

// Allow opens a running sandbox to one host. The person's tiers decide whether it may: what the organisation denies stays denied. by is what they used.
func Allow(p Person, id, text string, until time.Time, by string) (wire.Allow, error) {
	var none wire.Allow
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return none, err
	}
	box, err := st.Find(id)
	if err != nil {
		return none, err
	}
	if !box.Running {
		return none, &Refusal{fmt.Errorf("sandbox %s does not run", id), "casemate run --allow " + text + " allows it from the start; a rule in the policy always"}
	}
	if box.Record.Network != string(plan.Gate) {
		return none, &Refusal{fmt.Errorf("sandbox %s was started without a network, and none can be added while it runs", id), "casemate run --allow " + text + " starts one with a gate"}
	}
	rule, err := p.mayAllow(box.Record.Project, text)
	if err != nil {
		return none, err
	}
	lock, err := os.OpenFile(filepath.Join(box.Dir, grantsFile+".lock"), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return none, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // another casemate allow, or its watch, may be adding one
		return none, fmt.Errorf("%s: %w", lock.Name(), err)
	}
	a := wire.Allow{Host: rule.Host, Ports: rule.Ports, Networks: rule.Networks, Until: until, Origin: by + ", " + time.Now().Format(time.DateTime)}
	list := append(readGrants(box.Dir), a)
	b, err := json.Marshal(list)
	if err != nil {
		return none, err
	}
	return a, store.WriteFile(filepath.Join(box.Dir, grantsFile), b, 0o600)
}

// mayAllow reads a rule as --allow does, and merges it into the project's policy to see whether it would hold there.
func (p Person) mayAllow(project, text string) (policy.NetRule, error) {
	tiers, err := p.Load(project, policy.Flags{Allow: []string{text}})
	if err != nil {
		return policy.NetRule{}, err
	}
	flags := tiers.Sources[len(tiers.Sources)-1]
	rule := flags.Doc.Network.Allow[0].V
	merged, err := policy.Merge(tiers.Sources)
	if err != nil {
		return rule, err
	}
	if !slices.ContainsFunc(merged.Network.Allow, func(v policy.Value[policy.NetRule]) bool { return v.V.String() == rule.String() }) {
		return rule, &Refusal{fmt.Errorf("%s cannot be allowed here: a policy above yours keeps network.allow as it is", text), "casemate policy show says which"}
	}
	for _, d := range merged.Network.Deny {
		if denied, err := policy.MatchHost(d.V, rule.Host); err == nil && denied {
			return rule, &Refusal{fmt.Errorf("%s is denied by %s, and deny wins", text, d.Origin), "take it out of there first"}
		}
	}
	return rule, nil
}

// SaveRule writes an opening of the network into the person's own policy, and returns the file's path.
func (p Person) SaveRule(text string) (string, error) {
	flags, err := policy.Flags{Allow: []string{text}}.Source()
	if err != nil {
		return "", err
	}
	return p.savePolicy(func(doc []byte) ([]byte, error) { return policy.AddAllow(doc, flags.Doc.Network.Allow[0].V) })
}

// SavePreset writes a preset into the person's own policy, and returns the file's path.
func (p Person) SavePreset(name string) (string, error) {
	return p.savePolicy(func(doc []byte) ([]byte, error) { return policy.AddPreset(doc, name) })
}

func (p Person) savePolicy(add func(doc []byte) ([]byte, error)) (string, error) {
	if err := os.MkdirAll(p.Config, 0o700); err != nil {
		return "", err
	}
	lock, err := os.Open(p.Config)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // another casemate allow, or an answer in its watch, may be saving one
		return "", fmt.Errorf("%s: %w", p.Config, err)
	}
	path := p.policyFile()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link to where the person keeps such files stays one
	}
	doc, err := readPolicy(path, false)
	if err != nil {
		return "", err
	}
	if doc, err = add(doc); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return path, store.WriteFile(path, doc, 0o600)
}
