package cli

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
)

func homeCommand() command {
	return command{
		name: "home", args: "ls | diff [HOME] | reset [HOME]", summary: "look at the homes that sandboxes have, and empty one",
		example: "casemate home diff",
		help: `
A sandbox never has your home. Those of a project share one of their own, in
which agents and tools keep settings, logins made inside and what was said. It
is kept between runs, and nothing outside reads it.

ls     the homes, with sizes and when each was changed last
diff   what runs have left in the home of this project, or in HOME: an ID of
       ls, or the path of a project. Deep directories are one line each
reset  remove all that is in it: the next run begins with an empty one`,
		exits: "125  there is none, a sandbox runs with it, or it could not be removed",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON")
			all := fs.Bool("all", false, "diff: every file on a line of its own")
			return func(std *IO, args []string) error {
				if len(args) == 0 || len(args) > 2 || args[0] == "ls" && len(args) > 1 {
					return usageError(errors.New("home needs ls, or diff or reset and at most one home"), "casemate home ls")
				}
				st, err := openStore()
				if err != nil {
					return err
				}
				switch args[0] {
				case "ls":
					homes, err := session.Homes(st)
					if err != nil {
						return err
					}
					if *asJSON {
						return encode(std.Out, homes)
					}
					printHomes(std, homes)
					return nil
				case "diff", "reset":
					homes, err := chooseHomes(st, args[1:])
					if err != nil {
						return err
					}
					if args[0] == "reset" {
						return resetHomes(std, st, homes, *asJSON)
					}
					return diffHomes(std, st, homes, *all, *asJSON)
				}
				return usageError(fmt.Errorf("home has no verb %q", args[0]), "casemate home ls")
			}
		},
	}
}

// chooseHomes finds what is meant. Started as root a project may have one for each user, and all are meant then.
func chooseHomes(st *store.Store, args []string) ([]session.Home, error) {
	name, project := "", ""
	if len(args) > 0 {
		name = args[0]
	} else if person, err := session.Self(); err == nil {
		project = person.FindProject()
	} else {
		return nil, err
	}
	homes, err := session.FindHomes(st, name, project)
	if err == nil && len(homes) == 0 {
		what := "this project's sandboxes have"
		if name != "" {
			what = fmt.Sprintf("%q has", name)
		}
		err = &session.Refusal{Err: fmt.Errorf("%s no home yet", what), Remedy: "casemate home ls lists those there are"}
	}
	return homes, err
}

func printHomes(std *IO, homes []session.Home) {
	if len(homes) == 0 {
		fmt.Fprintln(std.Err, "casemate: no sandbox has a home yet: the first run in a project makes one")
		return
	}
	width := 9
	for _, h := range homes {
		width = max(width, len(h.ID))
	}
	fmt.Fprintf(std.Out, "%-*s %-7s %9s %7s  %s\n", width, "ID", "STATE", "SIZE", "CHANGED", "PROJECT")
	for _, h := range homes {
		state := "kept"
		if h.Running {
			state = "in use"
		}
		fmt.Fprintf(std.Out, "%-*s %-7s %9s %7s  %s\n", width, h.ID, state, size(h.Size), age(time.Since(h.Since)), tail(h.Project, 42))
	}
}

func resetHomes(std *IO, st *store.Store, homes []session.Home, asJSON bool) error {
	for _, h := range homes {
		if err := session.RemoveHome(st, h.Dir); err != nil {
			return err
		}
		if !asJSON {
			fmt.Fprintf(std.Err, "casemate: removed the home %s (%s)\n", h.ID, size(h.Size))
		}
	}
	if asJSON {
		return encode(std.Out, homes)
	}
	return nil
}

// homeDiff is what is in one home.
type homeDiff struct {
	session.Home
	Files []session.HomeFile `json:"files"`
}

func diffHomes(std *IO, st *store.Store, homes []session.Home, all, asJSON bool) error {
	list := []homeDiff{}
	for _, h := range homes {
		files, err := session.HomeFiles(st, h)
		if err != nil {
			return err
		}
		list = append(list, homeDiff{h, files})
	}
	if asJSON {
		return encode(std.Out, list)
	}
	for _, d := range list {
		if len(list) > 1 {
			fmt.Fprintf(std.Out, "%s\n", d.Dir)
		}
		lines := d.Files
		if !all {
			lines = folded(lines)
		}
		for _, f := range lines {
			fmt.Fprintf(std.Out, "%9s %5s  %s%s\n", size(f.Size), age(time.Since(f.Since)), tail(f.Path, 48), said(f))
		}
		if len(lines) == 0 {
			fmt.Fprintf(std.Err, "casemate: nothing is in the home %s\n", d.ID)
		}
	}
	return nil
}

// said is what is to be said about a line.
func said(f session.HomeFile) string {
	switch {
	case f.Laid == "as-laid":
		return "  (casemate's)"
	case f.Laid == "changed":
		return "  (changed)"
	case f.Kind != "file":
		return "  (" + f.Kind + ")"
	}
	return ""
}

// folded makes one line of what lies deeper than three names.
func folded(files []session.HomeFile) (lines []session.HomeFile) {
	type fold struct{ at, count int }
	under := map[string]fold{}
	for _, f := range files {
		parts := strings.SplitN(f.Path, "/", 4)
		if len(parts) < 4 {
			lines = append(lines, f)
			continue
		}
		dir := strings.Join(parts[:3], "/") + "/"
		at, seen := under[dir]
		if !seen {
			at = fold{at: len(lines)}
			lines = append(lines, session.HomeFile{Path: dir})
		}
		at.count++
		under[dir] = at
		line := &lines[at.at]
		line.Size += f.Size
		line.Kind = count(at.count, "file")
		if f.Since.After(line.Since) {
			line.Since = f.Since
		}
	}
	slices.SortFunc(lines, func(a, b session.HomeFile) int { return cmp.Compare(a.Path, b.Path) })
	return lines
}
