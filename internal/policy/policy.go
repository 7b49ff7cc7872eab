// Package policy says what may happen in a sandbox: documents with positions, merged from tiers, and the matchers that read them.
//
// It does no I/O: bytes come in, values and errors with places go out.
package policy

import (
	"cmp"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Level is a built-in starting policy.
type Level string

const (
	Minimal    Level = "minimal"    // a snippet of unknown origin: no project, no network, an empty home
	Restricted Level = "restricted" // the default: the project is seen and its changes are held
	Full       Level = "full"       // a tool trusted to write in place
)

// Workspace is how the sandbox sees the project.
type Workspace string

const (
	Scratch  Workspace = "none"     // an empty directory
	ReadOnly Workspace = "readonly" // the project, which cannot be changed
	Held     Workspace = "held"     // the project; changes wait in a layer until they are applied
	Live     Workspace = "live"     // the project itself
)

// Home is whose home directory the sandbox has. It is never the host's.
type Home string

const (
	HomeNone    Home = "none"    // empty, thrown away
	HomeProject Home = "project" // kept for this project
	HomeAgent   Home = "agent"   // kept for this agent, in all projects
)

// Identity is what git inside knows of the person.
type Identity string

const (
	IdentityNone   Identity = "none"
	IdentityImport Identity = "import" // name and e-mail; never keys or credentials
)

// Native is the engine of Linux namespaces, and the only one in this version.
const Native = "native"

// Defaults of limits that do not depend on the machine.
const (
	DefaultPids = 4096
	DefaultDisk = 20 * GiB // or half of what is free, whichever is less
)

// Unlimited is the time of `time: none`.
const Unlimited = time.Duration(math.MaxInt64)

// Settings is everything that one document, or the merged policy, says.
type Settings struct {
	Level         Value[Level]    `json:"level,omitzero"`
	Agent         Value[string]   `json:"agent,omitzero"`
	Presets       []Value[string] `json:"presets,omitempty"`
	Files         Files           `json:"files,omitzero"`
	Network       Network         `json:"network,omitzero"`
	Secrets       []Value[Secret] `json:"secrets,omitempty"`
	SSH           []Value[SSH]    `json:"ssh,omitempty"`
	Git           Git             `json:"git,omitzero"`
	Home          Value[Home]     `json:"home,omitzero"`
	Cache         []Value[string] `json:"cache,omitempty"`
	Devices       []Value[string] `json:"devices,omitempty"`
	Env           Env             `json:"env,omitzero"`
	Limits        Limits          `json:"limits,omitzero"`
	Engine        Value[string]   `json:"engine,omitzero"`
	AllowFallback []Value[string] `json:"allow_fallback,omitempty"`
	Require       []Value[string] `json:"require,omitempty"`
	Locked        []Value[string] `json:"locked,omitempty"`
}

// Files is what the sandbox sees of the host's files.
type Files struct {
	Workspace Value[Workspace] `json:"workspace,omitzero"`
	Read      []Value[string]  `json:"read,omitempty"`     // host paths, absolute or below "~/", clean
	Readonly  []Value[string]  `json:"readonly,omitempty"` // paths in the project, relative, clean
	Write     []Value[string]  `json:"write,omitempty"`    // paths in the project, relative, clean; none lies in a readonly one
	Hide      []Value[string]  `json:"hide,omitempty"`     // gitignore patterns in order, the built-in list first; use HideSets to match
	Protect   []Value[string]  `json:"protect,omitempty"`  // gitignore patterns, without the built-in list of what a host executes
}

// HideSets are the lists to match hidden paths with: a path is hidden when any of them says so, and within one the last pattern that matches decides.
// The organisation's patterns form a set of their own, so that no later exception reaches them.
func (f Files) HideSets() [][]string {
	var all, org []string
	for _, v := range f.Hide {
		all = append(all, v.V)
		if v.Origin.Tier == Organisation {
			org = append(org, v.V)
		}
	}
	if org == nil {
		return [][]string{all}
	}
	return [][]string{all, org}
}

// Network is what the sandbox may reach. Deny wins over Allow, and an empty Allow is no network at all.
type Network struct {
	Allow     []Value[NetRule] `json:"allow,omitempty"`
	Deny      []Value[string]  `json:"deny,omitempty"` // host patterns
	Publish   []Value[Publish] `json:"publish,omitempty"`
	HostPorts []Value[int]     `json:"host_ports,omitempty"`
	Internal  []Value[string]  `json:"internal,omitempty"`
	Ask       Value[bool]      `json:"ask,omitzero"` // what no rule allows or denies waits for a person's answer
}

// Opens says whether anything is opened.
func (n Network) Opens() bool {
	return len(n.Allow)+len(n.Publish)+len(n.HostPorts)+len(n.Internal) > 0 || n.Ask.V
}

// NetRule is one opening of the network.
type NetRule struct {
	Host     string         `json:"host"`               // a pattern as MatchHost takes it, normalised
	Ports    []int          `json:"ports"`              // 443 when the document names none
	Methods  []string       `json:"methods,omitempty"`  // all when empty
	Paths    []string       `json:"paths,omitempty"`    // all when empty
	Networks []netip.Prefix `json:"networks,omitempty"` // private ranges that the name may resolve to
	Until    time.Time      `json:"until,omitzero"`     // the last day, UTC midnight
	Reason   string         `json:"reason,omitempty"`
}

// Expired says whether the rule's last day is over, in UTC. A rule without one never expires.
func (r NetRule) Expired(now time.Time) bool {
	return !r.Until.IsZero() && !now.Before(r.Until.AddDate(0, 0, 1))
}

// String is the rule as one line. Equal rules give equal lines, and rules that differ in what they allow give different ones.
func (r NetRule) String() string {
	var b strings.Builder
	b.WriteString(r.Host)
	for i, p := range r.Ports {
		b.WriteString([]string{":", ","}[min(i, 1)] + strconv.Itoa(p))
	}
	for _, l := range [][]string{r.Methods, r.Paths, prefixes(r.Networks)} {
		if len(l) > 0 {
			b.WriteString(" [" + strings.Join(l, " ") + "]")
		}
	}
	if !r.Until.IsZero() {
		b.WriteString(" until " + r.Until.Format(time.DateOnly))
	}
	if r.Reason != "" {
		b.WriteString(" (" + r.Reason + ")")
	}
	return b.String()
}

func prefixes(nets []netip.Prefix) []string {
	var out []string
	for _, n := range nets {
		out = append(out, n.String())
	}
	return out
}

// Publish is a port inside offered on the host's loopback. Auto offers each port as it opens.
type Publish struct {
	Host   int  `json:"host,omitempty"`
	Inside int  `json:"inside,omitempty"`
	Auto   bool `json:"auto,omitempty"`
}

// String is the form a document may use.
func (p Publish) String() string {
	switch {
	case p.Auto:
		return "auto"
	case p.Host == p.Inside:
		return strconv.Itoa(p.Host)
	}
	return strconv.Itoa(p.Host) + ":" + strconv.Itoa(p.Inside)
}

// Secret is a credential that stays outside: inside, the variable holds a placeholder. It holds names only, no value.
type Secret struct {
	Name    string   `json:"name"`
	Env     string   `json:"env"`               // the variable inside that holds the placeholder
	Hosts   []string `json:"hosts"`             // host patterns it may be sent to
	Ports   []int    `json:"ports"`             // 443 when the document names none
	Place   string   `json:"place,omitempty"`   // where in a request it stands; empty: the usual fields of a header
	Methods []string `json:"methods,omitempty"` // all when empty
	Paths   []string `json:"paths,omitempty"`   // all when empty

	Optional bool   `json:"optional,omitempty"` // a preset's: where the store has no such entry, there is no such secret
	Unless   string `json:"unless,omitempty"`   // a preset's: where the store has the secret of that name, there is not this one
}

// String is the secret as one line. Different secrets give different lines.
func (s Secret) String() string {
	var b strings.Builder
	b.WriteString(s.Name + ": " + s.Env + " for " + strings.Join(s.Hosts, ", "))
	if len(s.Ports) != 1 || s.Ports[0] != 443 {
		for i, p := range s.Ports {
			b.WriteString([]string{" port ", ","}[min(i, 1)] + strconv.Itoa(p))
		}
	}
	if s.Place != "" {
		b.WriteString(" as " + s.Place)
	}
	for _, l := range [][]string{s.Methods, s.Paths} {
		if len(l) > 0 {
			b.WriteString(" [" + strings.Join(l, " ") + "]")
		}
	}
	return b.String()
}

// Git is what git inside gets from the person.
type Git struct {
	Identity Value[Identity] `json:"identity,omitzero"`
	Push     []Value[string] `json:"push,omitempty"`
}

// Env is the environment of the command. Nothing of the host's is passed but what Pass names.
type Env struct {
	Pass []Value[string]   `json:"pass,omitempty"`
	Set  []Value[Variable] `json:"set,omitempty"` // in the order of the documents; one entry for each name
}

// Variable is one variable of the command's environment.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// String is NAME=VALUE, with the value in quotes where it could not be read otherwise. Different variables give different text.
func (v Variable) String() string {
	if v.Value == "" || v.Value[0] == '"' || !utf8.ValidString(v.Value) || strings.ContainsFunc(v.Value, isDeceptive) {
		return v.Name + "=" + strconv.Quote(v.Value)
	}
	return v.Name + "=" + v.Value
}

// Limits is what the sandbox may use. A limit of zero is the default.
type Limits struct {
	Memory Limit[Size]          `json:"memory,omitzero"`
	Pids   Limit[int]           `json:"pids,omitzero"` // threads count
	CPUs   Limit[float64]       `json:"cpus,omitzero"`
	Disk   Limit[Size]          `json:"disk,omitzero"`
	Time   Limit[time.Duration] `json:"time,omitzero"` // may be Unlimited
	Idle   Limit[time.Duration] `json:"idle,omitzero"` // may be Unlimited
}

// Limit is a limit, and whether it may only lower the default.
type Limit[T cmp.Ordered] struct {
	Value[T]
	// AtMost: the value comes from a project that nobody trusts and nobody else named one, so the default holds where it is lower.
	AtMost bool `json:"at_most,omitempty"`
}

// Or is the limit that holds where def is the default. Use it instead of V, which does not know AtMost.
func (l Limit[T]) Or(def T) T {
	var zero T
	switch {
	case l.V == zero:
		return def
	case l.AtMost && def != zero:
		return min(l.V, def)
	}
	return l.V
}

// Policy is what may happen: all tiers merged.
type Policy struct {
	Settings
	Ignored   []Widened `json:"ignored,omitempty"`   // lines of an untrusted project that would widen and have no effect
	Overruled []Widened `json:"overruled,omitempty"` // lines that lost against a narrower one: a level chosen later, a readonly path
	levelOnly bool      // no document said anything, so nobody needs the table
}

// Document is what one source says. Its origins know no tier yet: Merge gives it to them.
type Document struct {
	Name string
	Settings
	entries []entry
	present map[string]Origin // keys that stand in the document, even with an empty list
}

// Source is a document and the tier it speaks for.
type Source struct {
	Tier    Tier
	Name    string // what origins call it; the document's own name when empty
	Doc     *Document
	Trusted bool // for a project: a person approved exactly these bytes
	Chosen  Tier // for a preset: the tier that asked for it
}
