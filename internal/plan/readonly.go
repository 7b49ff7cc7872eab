package plan

import (
	"fmt"
	"path"
	"slices"

	"casemate.dev/internal/policy"
)

// readonly lays a mount over each part of the project that may not change, and one over every directory above it: a mount cannot be renamed or
// removed, but what lies above it could be, and with it out of the way another file would take the name.
func (p *Plan) readonly(r Request) {
	var targets []string
	for _, v := range r.Policy.Files.Readonly {
		if slices.Contains(r.Absent, v.V) {
			p.Notes = append(p.Notes, fmt.Sprintf("files.readonly (%s): there is no %s to be seen inside; %s", v.Origin, v.V, p.whatAppears()))
			continue
		}
		target := path.Join(r.Project, v.V)
		if i := slices.IndexFunc(p.Mounts, func(m Mount) bool { return m.Target == target && m.Self && !m.Writable }); i >= 0 {
			p.Mounts[i].Origin = v.Origin.String()
		} else {
			p.mount(Mount{Kind: Bind, Source: target, Target: target, Origin: v.Origin.String(), Self: true})
		}
		targets = append(targets, target)
	}
	for _, target := range targets { // once all are known: one may lie in another
		p.pin(r.Project, path.Dir(target))
	}
}

// whatAppears says what becomes of something that is made at a read-only path where nothing was.
func (p *Plan) whatAppears() string {
	switch p.Workspace.Kind {
	case string(policy.Live):
		return "what appears there is taken back a moment later"
	case string(policy.Held):
		return "what is made there stays inside unless you consent to it at apply"
	}
	return "nothing can be made there"
}

// pin makes mounts of a directory and of those above it, up to the project, each as writable as it was.
func (p *Plan) pin(project, dir string) {
	for ; dir != project; dir = path.Dir(dir) {
		if slices.ContainsFunc(p.Mounts, func(m Mount) bool { return m.Target == dir }) {
			continue
		}
		p.mount(Mount{Kind: Bind, Source: dir, Target: dir, Self: true, Writable: p.writable(dir)})
	}
}

// writable says whether what is seen at a path of the project can be changed: the innermost mount above it decides.
func (p *Plan) writable(target string) bool {
	var over Mount
	for _, m := range p.Mounts {
		if m.Target != target && within(target, m.Target) && len(m.Target) > len(over.Target) {
			over = m
		}
	}
	return over.Writable
}
