package policy

import "strconv"

// Tier is one source of policy. Later tiers are more specific; what they may widen is Merge's business.
type Tier uint8

const (
	BuiltIn      Tier = iota // what holds when nobody says anything; also the built-in lists
	LevelTier                // minimal, restricted or full
	Preset                   // what a known agent or tool chain needs
	Organisation             // root-owned; a ceiling for everything after it
	User                     //
	Project                  // lies where the agent can write, so it is believed only when a person approved its digest
	CommandLine              //
)

// String is the tier as messages name it.
func (t Tier) String() string {
	switch t {
	case BuiltIn:
		return "built-in"
	case LevelTier:
		return "level"
	case Preset:
		return "preset"
	case Organisation:
		return "organisation"
	case User:
		return "user"
	case Project:
		return "project"
	case CommandLine:
		return "command line"
	}
	return "tier " + strconv.Itoa(int(t))
}

// MarshalText makes the tier readable in JSON.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Origin is the place that made a value what it is. The zero Origin is a default that nobody chose.
type Origin struct {
	Tier Tier   `json:"tier"`
	File string `json:"file,omitempty"` // a file, a level's or preset's name, or a flag such as "--memory"
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
}

// String is the origin as people read it: "project casemate.yaml:12", "level restricted", "command line --memory", "default".
func (o Origin) String() string {
	if o == (Origin{}) {
		return "default"
	}
	s := o.Tier.String()
	if o.File != "" {
		s += " " + o.File
	}
	if o.Line > 0 {
		s += ":" + strconv.Itoa(o.Line)
	}
	return s
}

// Value is something a policy says, and where it says it.
type Value[T any] struct {
	V      T      `json:"value"`
	Origin Origin `json:"origin,omitzero"`
}

// IsSet is false for a value that nobody gave.
func (v Value[T]) IsSet() bool { return v.Origin != Origin{} }
