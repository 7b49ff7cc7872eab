package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Widened is a line of a document that would allow more than holds without it.
type Widened struct {
	Key    string `json:"key"`
	Text   string `json:"text"`
	Origin Origin `json:"origin"`
	Why    string `json:"why,omitempty"` // why it has no effect, or whether it is certain
}

// NotTrusted is why a line that surely widens has no effect.
const NotTrusted = "the project's policy is not trusted"

// Merge is the policy of all sources, whatever order they come in. Its rules:
//   - Lists add. A scalar is the latest tier's.
//   - The organisation is a ceiling: a later value beyond its own, or any change of a key it locked, is an error that names both places.
//   - A project that nobody trusts only narrows: its lines that widen are left out and listed in Ignored.
//   - A level takes back what earlier tiers than the one that chose it opened beyond it; these are listed in Overruled.
//
// The error is of type Errors.
func Merge(sources []Source) (*Policy, error) {
	p, err := Permitted(sources)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Permitted is Merge for a sandbox that runs already: what Merge refuses is left out, and the error says what that is.
func Permitted(sources []Source) (*Policy, error) {
	m := newMerge(sources)
	m.chooseLevel()
	for _, src := range m.sources {
		m.apply(src)
	}
	m.readonlyWins()
	m.levelOnly = !slices.ContainsFunc(m.sources, func(s Source) bool { return len(s.Doc.entries) > 0 })
	return &m.Policy, m.errs.orNil()
}

type merge struct {
	Policy
	sources []Source
	org     Settings // what the organisation alone says
	orgSays map[string]Origin
	unsure  []Widened // what an untrusted project says about limits whose default only the host knows
	errs    Errors
}

func newMerge(sources []Source) *merge {
	m := &merge{sources: slices.DeleteFunc(slices.Clone(sources), func(s Source) bool { return s.Doc == nil })}
	slices.SortStableFunc(m.sources, func(a, b Source) int { return int(a.Tier) - int(b.Tier) })
	for _, src := range m.sources {
		if src.Tier == Organisation {
			m.addOrganisation(src)
		}
	}
	return m
}

func (m *merge) addOrganisation(src Source) {
	if m.orgSays == nil {
		m.orgSays = map[string]Origin{}
	}
	for k, o := range src.Doc.present {
		m.orgSays[k] = src.place(o)
	}
	for _, e := range src.Doc.entries {
		e.put(&m.org, src.place(e.origin))
	}
}

// place is an origin in the document, seen from outside it.
func (src Source) place(o Origin) Origin {
	o.Tier = src.Tier
	if src.Name != "" {
		o.File = src.Name
	}
	return o
}

// believed is false for a project that nobody approved.
func (src Source) believed() bool { return src.Tier != Project || src.Trusted }

// chooseLevel comes first: the level is what everything else is measured against.
func (m *merge) chooseLevel() {
	m.Level.V = Restricted
	for _, src := range m.sources {
		for _, e := range src.Doc.entries {
			if e.key == "level" && m.permitted(src, e) {
				e.put(&m.Settings, src.place(e.origin))
			}
		}
	}
	level := m.Level
	m.Settings = levelSettings(level.V)
	m.Level = level
}

func (m *merge) apply(src Source) {
	m.checkLocked(src)
	for _, e := range src.Doc.entries {
		switch o := src.place(e.origin); {
		case e.key == "level" || !m.permitted(src, e):
		case m.overruled(src, e):
			m.Overruled = append(m.Overruled, Widened{e.key, e.text, o, fmt.Sprintf("level %s (%s) allows less", m.Level.V, m.Level.Origin)})
		case !src.believed() && e.lower != nil:
			e.lower(&m.Settings, o)
		default:
			e.put(&m.Settings, o)
		}
	}
}

// permitted decides whether an entry takes effect, and says why where it does not.
func (m *merge) permitted(src Source, e entry) bool {
	o := src.place(e.origin)
	row, _ := find(e.key)
	if lock, locked := m.lock(e.key); locked && src.speaker() > Organisation {
		if !e.same(&m.Settings) && !e.same(&m.org) {
			m.refuse(o, "leave it to the organisation", "%s is locked by %s", e.key, lock.Origin)
		}
		return false
	}
	if !src.believed() {
		switch e.effect(&m.Settings) {
		case widens:
			m.Ignored = append(m.Ignored, Widened{e.key, e.text, o, NotTrusted})
			return false
		case mayWiden:
			m.unsure = append(m.unsure, Widened{e.key, e.text, o, "may be more than this machine's default"})
		}
	}
	if top, over := m.overCeiling(row, e); over && src.speaker() > Organisation {
		m.refuse(o, "ask for less, or have the organisation's policy changed", "%s: %s goes beyond what %s allows", e.key, e.text, top)
		return false
	}
	return true
}

// overCeiling says whether an entry allows more than the organisation did, and where that stands. A level that the organisation chose bounds what
// levels are about, unless it said more itself: else each of a wider level's openings could be had by its own key.
func (m *merge) overCeiling(row *key, e entry) (Origin, bool) {
	if top, said := m.orgSays[e.key]; said {
		return top, row.ceiling && e.effect(&m.org) == widens
	}
	level := m.org.Level
	if !level.IsSet() {
		return Origin{}, false
	}
	return level.Origin, row.beyond(level.V, e)
}

// beyond says whether an entry opens more than a level does, for the keys that levels are about. Only minimal bounds lists.
func (k *key) beyond(l Level, e entry) bool {
	if !k.byLevel || k.kind != aWord && l != Minimal {
		return false
	}
	s := levelSettings(l)
	return e.effect(&s) == widens
}

// lock is the organisation's word that a key, or its section, cannot be changed.
func (m *merge) lock(key string) (Value[string], bool) {
	for _, l := range m.org.Locked {
		if key == l.V || strings.HasPrefix(key, l.V+".") {
			return l, true
		}
	}
	return Value[string]{}, false
}

func (m *merge) checkLocked(src Source) {
	if o, says := src.Doc.present["locked"]; says && src.Tier != Organisation {
		m.refuse(src.place(o), "remove it", "locked is for the organisation's policy only")
	}
}

// overruled is true for what an earlier tier than the level's opened beyond the level.
func (m *merge) overruled(src Source, e entry) bool {
	row, _ := find(e.key)
	return src.speaker() < m.Level.Origin.Tier && row.beyond(m.Level.V, e)
}

// readonlyWins takes out the written paths that lie in readonly ones.
func (m *merge) readonlyWins() {
	m.Files.Write = slices.DeleteFunc(m.Files.Write, func(w Value[string]) bool {
		i := slices.IndexFunc(m.Files.Readonly, func(r Value[string]) bool { return w.V == r.V || strings.HasPrefix(w.V, r.V+"/") })
		if i >= 0 {
			r := m.Files.Readonly[i]
			m.Overruled = append(m.Overruled, Widened{"files.write", w.V, w.Origin, fmt.Sprintf("%s is readonly (%s)", r.V, r.Origin)})
		}
		return i >= 0
	})
}

func (m *merge) refuse(o Origin, hint, format string, args ...any) {
	m.errs = append(m.errs, bad(hint, format, args...).at(o))
}
