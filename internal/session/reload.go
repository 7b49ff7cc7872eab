package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/relay"
)

// ruling is the policy of a sandbox that runs, as far as it can change: the network's rules, as the policy files say them now.
//
// What narrows always holds at once. What widens does only where everything could be read and nothing else stands against it.
type ruling struct {
	run     *Run
	say     func(line string) bool // on the person's terminal, if that can be now
	files   *follower
	said    string // what of the files does not hold, as it was last said
	told    int    // events of changes
	missing bool   // a file is not there that was: an editor may be about to replace it
	first   bool   // nothing was looked at yet

	docs   map[policy.Tier]*policy.Document // of a file that cannot be read: what it said before
	own    *ProjectPolicy                   // the same of the project's; nil: it has none
	before []*ProjectPolicy                 // what it said before without a person's word for what it says now: see project
	unsure time.Time                        // since when it is unapproved
}

const (
	vanishing = 250 * time.Millisecond // until a file that is gone is believed to be
	maxRuled  = 1000                   // events of changes in one run: where an agent can write a policy file, it could change it for ever
	maxBefore = 16                     // states of the project's policy that go on narrowing
	oftenNow  = 50                     // events after which it is looked at less often
	seldom    = 2 * time.Second
	asItWas   = PolicyFile + ", as it was"
)

// followPolicies has the network take up what the policy files say while the sandbox runs. It begins a moment after the start: most commands are over by then.
func (s *supervision) followPolicies() {
	g, r, loop := s.gate, s.run, &s.loop
	p := &ruling{run: r, say: s.say, docs: map[policy.Tier]*policy.Document{}, own: r.tiers.Project, first: true}
	for _, s := range r.tiers.Sources {
		if s.Tier == policy.Organisation || s.Tier == policy.User {
			p.docs[s.Tier] = s.Doc
		}
	}
	if p.own == nil || !p.own.Trusted {
		p.unsure = time.Now()
	}
	g.ruling = p
	loop.At(time.Now().Add(startRehiding), func(time.Time) time.Time {
		if g.ended {
			return time.Time{}
		}
		var err error
		if p.files, err = follow(loop, p.paths(), func() { g.rule(loop) }); err != nil {
			r.warnNetwork("changes of the policy files hold in the next run only: they cannot be watched: %v", err)
			return time.Time{}
		}
		g.rule(loop) // what changed since they were read
		return time.Time{}
	})
}

func (p *ruling) paths() (list []string) {
	for _, f := range p.run.Person.policyFiles() {
		list = append(list, f.path)
	}
	if p.run.ruledBy != "" {
		list = append(list, filepath.Join(p.run.ruledBy, PolicyFile), p.run.Person.trustFile())
	}
	return list
}

// rule puts in force what the policy files say now.
func (g *gateway) rule(loop *relay.Loop) {
	p := g.ruling
	if g.ended {
		return
	}
	unwatched := p.files.renew() // first, so that what changes from here on is heard of
	troubles := p.read()
	if p.missing {
		p.files.again(vanishing)
		return
	}
	if unwatched != nil {
		troubles = append(troubles, fmt.Sprintf("they cannot be watched any more: %v", unwatched))
	}
	sources := p.sources()
	next, waits := p.decide(g.force, sources, troubles, time.Now())
	if err := g.askFrom(next.Ask, loop); err != nil {
		next.Ask, waits = false, append(waits, err.Error())
	}
	changes, shut := next.Since(g.force), !opensMore(sources)
	withdrawn := g.withdraw(sources, len(troubles) == 0)
	g.run.withdrawLogins(sources, len(troubles) == 0)
	if unheard := p.first && len(changes) == 0 && !shut && !withdrawn; !unheard {
		g.force, g.shut = next, shut
		g.reload()
	}
	p.tell(g, changes, waits)
}

// read reads the files, and says what keeps it from believing all of them.
func (p *ruling) read() (troubles []string) {
	gone := false
	for _, f := range p.run.Person.policyFiles() {
		doc, err := p.run.Person.readTier(f)
		switch {
		case err != nil:
			troubles = append(troubles, sentenceOf(err))
		case doc == nil && p.docs[f.tier] != nil && !p.missing:
			gone = true
		default:
			p.docs[f.tier] = doc
		}
		if at, inside := p.writable(f.path); inside {
			troubles = append(troubles, fmt.Sprintf("%s is reached through %s, which the sandbox can write", f.path, at))
		}
	}
	if p.run.ruledBy != "" {
		trouble, vanished := p.project()
		troubles, gone = append(troubles, trouble...), gone || vanished
	}
	p.missing = gone
	return troubles
}

// project reads the project's policy. One that nobody approved only narrows, so it takes nothing back: what any state of it has narrowed since the last that
// was approved stays narrow in this run. Else whoever can write it, such as an agent in a live workspace where an editor has replaced the file that was
// covered, could widen by taking lines out; or by bringing an old one back, which is why approval counts there only if it is newer than the change.
func (p *ruling) project() (troubles []string, gone bool) {
	own, err := readProject(p.run.ruledBy)
	switch {
	case err != nil:
		troubles, own = append(troubles, sentenceOf(err)), p.own
	case own == nil && p.own != nil && !p.missing:
		return nil, true
	}
	trust, err := p.run.Person.Trust()
	switch {
	case err != nil:
		troubles = append(troubles, sentenceOf(err))
		if own != nil {
			own.Trusted = p.own != nil && p.own.Trusted && p.own.Digest == own.Digest
		}
	case own != nil:
		if at, inside := p.writable(p.run.Person.trustFile()); inside {
			troubles = append(troubles, fmt.Sprintf("what you approved is kept in %s, which the sandbox can write", at))
		}
		live := p.run.Plan.Workspace.Kind == string(policy.Live)
		renewed := !trust.Since(own.Path).Before(p.unsure.Truncate(time.Second))
		own.Trusted = trust.Approved(own.Path, own.Digest) && (renewed || !live)
	}
	if own != nil && own.Trusted {
		p.before = nil
	} else {
		if p.own == nil || own == nil || own.Digest != p.own.Digest || p.own.Trusted {
			p.unsure = time.Now()
		}
		if p.own != nil && (own == nil || own.Digest != p.own.Digest) && !slices.ContainsFunc(p.before, func(b *ProjectPolicy) bool { return b.Digest == p.own.Digest }) {
			if len(p.before) < maxBefore {
				p.before = append(p.before, p.own)
			}
		}
		if len(p.before) == maxBefore {
			troubles = append(troubles, PolicyFile+" changed too often without anybody's approval")
		}
	}
	p.own = own
	return troubles, false
}

// writable says whether the way to a file of the person's leads through what the sandbox writes at once, and where.
func (p *ruling) writable(file string) (at string, inside bool) {
	for _, step := range placesOf(file) {
		if step.name == "" {
			continue
		}
		at = path.Join(step.dir, step.name)
		if slices.ContainsFunc(p.run.Plan.Mounts, func(m plan.Mount) bool { return m.Kind == plan.Bind && m.Writable && !m.Self && within(at, m.Source) }) {
			return at, true
		}
	}
	return "", false
}

// sentenceOf is the first line of an error, which may have many.
func sentenceOf(err error) string {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) > 1 {
		return fmt.Sprintf("%s (and %d more)", lines[0], len(lines)-1)
	}
	return lines[0]
}

// sources are those of a merge: the files as they are now, and what the start knew and still holds. Of the presets that are those that are still chosen.
func (p *ruling) sources() []policy.Source {
	var files, presets []policy.Source
	for _, f := range p.run.Person.policyFiles() {
		if doc := p.docs[f.tier]; doc != nil {
			files = append(files, policy.Source{Tier: f.tier, Name: f.path, Doc: doc})
		}
	}
	for _, b := range p.before {
		files = append(files, policy.Source{Tier: policy.Project, Name: asItWas, Doc: b.Doc})
	}
	if p.own != nil {
		files = append(files, policy.Source{Tier: policy.Project, Name: PolicyFile, Doc: p.own.Doc, Trusted: p.own.Trusted})
	}
	for _, s := range p.run.tiers.Sources {
		switch {
		case s.Tier == policy.Preset:
			presets = append(presets, s)
		case s.Tier == policy.CommandLine, s.Name == yourAnswer:
			files = append(files, s)
		}
	}
	merged, _ := policy.Permitted(files)
	presets = slices.DeleteFunc(presets, func(s policy.Source) bool {
		holds := func(name string) bool {
			return slices.ContainsFunc(merged.Presets, func(v policy.Value[string]) bool { return v.V == name })
		}
		return !holds(s.Doc.Name) && (s.Chosen != policy.Preset || holds(NoPreset)) // nobody chose that of an agent's command
	})
	return append(presets, files...)
}

// decide says what is reachable from now on, and what of the policy does not hold in this run.
func (p *ruling) decide(force plan.Reachable, sources []policy.Source, troubles []string, now time.Time) (next plan.Reachable, waits []string) {
	start := p.run.Policy
	merged, err := policy.Permitted(sources)
	if err == nil {
		err = errors.Join(policy.NotInThisVersion(merged)...)
	}
	if err != nil {
		troubles = append(troubles, sentenceOf(err))
	}
	if merged.Level.V != start.Level.V {
		troubles = append(troubles, fmt.Sprintf("level %s (%s) in place of %s", merged.Level.V, merged.Level.Origin, start.Level.V))
	}
	next, _ = plan.Resolve(merged.Network, now)
	for _, a := range next.Openable(p.run.Plan.Network.TLS) {
		waits = append(waits, fmt.Sprintf("network.allow (%s): TLS to %s can be opened from the next run on, and is not reached by this rule until then", a.Origin, a))
	}
	if len(troubles) > 0 {
		wanted := next
		if next = force.Narrowed(next); len(wanted.Since(next)) > 0 {
			troubles = append(troubles, "while that is so, nothing is allowed that was not")
		}
	}
	waits = append(troubles, waits...)
	if keys := changedKeys(start, merged); len(keys) > 0 {
		waits = append(waits, "in the next run: "+strings.Join(keys, ", "))
	}
	for _, w := range merged.Ignored {
		if w.Origin.File != asItWas && !slices.ContainsFunc(start.Ignored, func(s policy.Widened) bool { return s.Key == w.Key && s.Text == w.Text }) {
			waits = append(waits, fmt.Sprintf("%s: %s %s, which nobody has approved (casemate trust)", w.Origin, w.Key, w.Text))
		}
	}
	const most = 8
	if len(waits) > most {
		waits = append(waits[:most:most], fmt.Sprintf("and %d more", len(waits)-most))
	}
	return next, waits
}

// opensMore says whether anybody but the organisation may open hosts: else what casemate allow opened before is closed again.
func opensMore(sources []policy.Source) bool {
	const any = "any.example"
	probe, err := policy.Flags{Allow: []string{any}}.Source()
	if err != nil {
		return false
	}
	merged, _ := policy.Permitted(append(slices.Clone(sources), probe))
	return slices.ContainsFunc(merged.Network.Allow, func(v policy.Value[policy.NetRule]) bool { return v.V.Host == any })
}

// changedKeys are those that differ and cannot change while a sandbox runs.
func changedKeys(start, now *policy.Policy) (keys []string) {
	count := map[[2]string]int{}
	for _, v := range start.Explain() {
		count[[2]string{v.Key, v.Value}]++
	}
	values := now.Explain()
	for _, v := range values {
		count[[2]string{v.Key, v.Value}]--
	}
	for v, n := range count {
		if key := v[0]; n != 0 && key != "network.allow" && key != "network.deny" && key != "network.ask" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// askFrom begins or ends to ask.
func (g *gateway) askFrom(ask bool, loop *relay.Loop) error {
	a := &g.asking
	switch {
	case ask == a.on:
		return nil
	case !ask:
		g.stopAsking()
		a.on = false
		return nil
	case a.again == nil:
		return g.watchWatchers(loop)
	}
	a.on, a.told, a.there = true, false, g.run.Store.Watched()
	return nil
}

// tell says what has changed: in an event, in the record of connections, for casemate ps, and on the terminal what could not be done.
func (p *ruling) tell(g *gateway, changes, waits []string) {
	said := strings.ToValidUTF8(strings.Join(waits, "; "), "?") // paths can be any bytes
	if p.first {
		if p.first = false; len(changes) == 0 && len(waits) == 0 {
			return
		}
	}
	if len(changes) == 0 && said == p.said {
		return
	}
	if said != p.said {
		p.said, p.run.Box.Record.Policy = said, said
		p.run.Box.Save(false)
		if said != "" && p.told < oftenNow {
			p.say("the policy changed, and not all of it holds in this run: " + said)
		}
	}
	if p.told++; p.told > oftenNow {
		p.files.pace = seldom
	}
	if p.told > maxRuled {
		return
	}
	parts := slices.Concat(changes, waits)
	if len(parts) == 0 {
		parts = []string{"all of the policy files holds again"}
	}
	text := strings.Join(parts, "; ")
	p.run.emit(event.Event{Kind: event.Ruled, Subject: "network", Detail: text})
	g.tellRuled(text)
}

// tellRuled lists it among the connections.
func (g *gateway) tellRuled(text string) {
	if line, err := json.Marshal(Connection{Sandbox: g.run.Box.Record.ID, Record: wire.Record{Time: time.Now().UTC(), Verdict: wire.Ruled, Why: text}}); err == nil {
		g.append(line)
		g.written()
	}
}
