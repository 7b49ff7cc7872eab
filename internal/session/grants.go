package session

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/engine/native"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/relay"
	"golang.org/x/sys/unix"
)

// pinRules fits the rules of the mode without namespaces to what there is: rules for what exists, and in place of one with exceptions, rules
// for everything beside these.
func pinRules(p *plan.Plan) {
	var rules []plan.Rule
	for _, r := range p.Landlock.Allow {
		st, err := os.Stat(r.Path)
		switch {
		case err != nil:
		case !st.IsDir():
			r.File = true
			rules = append(rules, r)
		case len(r.Except) == 0:
			rules = append(rules, r)
		default:
			rules = append(rules, around(r)...)
		}
	}
	p.Landlock.Allow = rules
}

// around opens a directory but for its exceptions. The directories on the way to one can be listed, and what comes to lie in them later cannot
// be read. No link is opened, as that would open where it leads.
func around(r plan.Rule) []plan.Rule {
	shut := slices.Clone(r.Except)
	for _, e := range r.Except {
		if real, err := filepath.EvalSymlinks(e); err == nil && real != e {
			shut = append(shut, real)
		}
	}
	list := plan.Rule{Path: r.Path, List: true}
	if slices.ContainsFunc(shut, func(e string) bool { st, err := os.Stat(e); return err == nil && st.IsDir() }) {
		list = plan.Rule{} // the names in it are shut, too
	}
	rules := beside(r.Path, shut)
	if list.Path != "" {
		rules = append(rules, list)
	}
	return rules
}

func beside(dir string, shut []string) (rules []plan.Rule) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		p := filepath.Join(dir, e.Name())
		switch {
		case slices.Contains(shut, p) || e.Type()&fs.ModeSymlink != 0:
		case e.IsDir() && slices.ContainsFunc(shut, func(s string) bool { return strings.HasPrefix(s, p+"/") }):
			rules = append(rules, beside(p, shut)...)
		case e.IsDir() || e.Type().IsRegular():
			rules = append(rules, plan.Rule{Path: p, File: !e.IsDir()})
		}
	}
	return rules
}

// ownTrees lists the directories that the command of the mode without namespaces may write in.
func ownTrees(p *plan.Plan) (dirs []string) {
	for _, r := range p.Landlock.Allow {
		if r.Write && !r.File && !within(r.Path, "/dev") {
			dirs = append(dirs, r.Path)
		}
	}
	return dirs
}

// answerMetadata makes the changes of modes and times that the filter announces, where the command may write.
func (s *supervision) answerMetadata(calls int) {
	if calls < 0 {
		return
	}
	m, err := native.NewMetadata(calls, ownTrees(s.run.Plan))
	if err != nil {
		s.failure = err
		s.stop("")
		return
	}
	s.metadata = m
	var watch *relay.Watch
	watch = s.loop.Watch(calls, unix.POLLIN, func(revents int16) {
		if revents&unix.POLLIN != 0 {
			m.Answer()
		} else {
			watch.Mute() // nobody is left who could ask
		}
	})
}
