package session

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// protectPatterns are the policy's own patterns of what is not applied without consent. What is read-only is among them: a mount keeps it from being
// changed inside, and should it be made anew all the same, or not have been there to be mounted over, it does not cross by itself.
func protectPatterns(f policy.Files) []string {
	list := values(f.Protect)
	escape := strings.NewReplacer(`\`, `\\`, `[`, `\[`, ` `, `\ `)
	for _, v := range f.Readonly {
		if !inGit(v.V) { // git's own files never cross, with consent or without
			list = append(list, "/"+escape.Replace(v.V))
		}
	}
	return list
}

// WhyTaken says what is the matter with something that appeared in a live project and was taken out of it.
func (r *Run) WhyTaken(name string) string {
	for _, v := range r.Policy.Files.Readonly {
		if within(name, v.V) {
			return fmt.Sprintf("is read-only (%s)", v.Origin)
		}
	}
	return "would run on your machine"
}

func inGit(rel string) bool { return slices.Contains(strings.Split(rel, "/"), ".git") }

// readonly looks for what files.readonly names as the sandbox will see it: what is not there cannot be mounted over, and a link must not be.
func (r *Run) readonly(req *plan.Request) error {
	if req.Mode == plan.Landlock || req.Project == "" {
		return nil
	}
	for _, v := range r.Policy.Files.Readonly {
		switch err := r.seen(req, v.V); err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR:
			if inGit(v.V) && r.Policy.Files.Workspace.V == policy.Live {
				return &Refusal{fmt.Errorf("files.readonly (%s): there is no %s, and what appears in a repository of a live workspace is not taken back", v.Origin, workspace.Quote(v.V)), "make it first, take the line out, or hold the changes instead: --workspace held"}
			}
			req.Absent = append(req.Absent, v.V)
		case unix.ELOOP:
			return &Refusal{fmt.Errorf("files.readonly (%s): %s is or lies behind a symbolic link, which would not stay where it leads", v.Origin, workspace.Quote(v.V)), r.behindLink(v.V)}
		default:
			return fmt.Errorf("files.readonly (%s): %s: %w", v.Origin, workspace.Quote(v.V), err)
		}
	}
	return nil
}

// behindLink says what to write in place of a path with a link in it.
func (r *Run) behindLink(rel string) string {
	project, err := filepath.EvalSymlinks(r.Project)
	if err != nil {
		return "take the line out"
	}
	place, err := filepath.EvalSymlinks(filepath.Join(project, rel))
	switch {
	case err != nil:
		return "take the line out, or put a directory or file in the place of the link"
	case place == project:
		return "it leads to the project itself: write files: {workspace: readonly}"
	case !within(place, project):
		return "take the line out: it leads out of the project, to " + workspace.Visible(place) + ", which cannot be changed from inside anyway"
	case place == filepath.Join(project, rel):
		return "the link is among the changes that are held: look at them with casemate diff, or start anew with --fresh"
	}
	return "name the place that it leads to: " + workspace.Visible(strings.TrimPrefix(place, project+"/"))
}

// seen looks at a path of the project as the sandbox will see it, and returns nil if it is there: in its layer, or below it in the project if it is not hidden.
func (r *Run) seen(req *plan.Request, rel string) error {
	var st unix.Stat_t
	if r.Options.DryRun {
		return statBeneath(r.Project, filepath.Join(r.Project, rel), &st)
	}
	if req.Copy != "" {
		return statBeneath(req.Copy, filepath.Join(req.Copy, rel), &st)
	}
	if req.Layer != "" && r.Policy.Files.Workspace.V != policy.Live {
		if decided, err := inUpper(filepath.Join(req.Layer, "upper"), rel); decided {
			return err
		}
	}
	err := statBeneath(r.Project, filepath.Join(r.Project, rel), &st)
	if err == nil && r.hides(rel, st.Mode&unix.S_IFMT == unix.S_IFDIR) {
		return unix.ENOENT
	}
	return err
}

func (r *Run) hides(rel string, dir bool) bool {
	hide := r.hide
	if hide == nil && r.guarded != nil {
		hide = r.guarded.hide
	}
	if hide == nil || r.surveyed == nil {
		return false
	}
	also := make([]string, len(r.surveyed.Hidden))
	for i, h := range r.surveyed.Hidden {
		also[i] = h.Path
	}
	return workspace.HiddenBy(hide, also)(rel, dir)
}

// inUpper looks for a path in the layer of an overlay. It is not decided there if the layer has nothing of it, or only directories that let the project's
// show through.
func inUpper(upper, rel string) (decided bool, err error) {
	parts := strings.Split(rel, "/")
	opaque := false
	for i := range parts {
		name := filepath.Join(upper, filepath.Join(parts[:i+1]...))
		var st unix.Stat_t
		err := statBeneath(upper, name, &st)
		switch {
		case err == unix.ENOENT:
			return opaque, err
		case err != nil:
			return true, err
		case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0: // a whiteout
			return true, unix.ENOENT
		}
		var value [4]byte
		if n, err := unix.Lgetxattr(name, "user.overlay.opaque", value[:]); err == nil && n == 1 && value[0] == 'y' {
			opaque = true
		}
	}
	return true, nil
}
