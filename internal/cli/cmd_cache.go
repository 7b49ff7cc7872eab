package cli

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/cache"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func cacheCommand() command {
	return command{
		name: "cache", args: "ls | rm [PROJECT] [NAME...]", summary: "list and remove what projects keep of package caches",
		example: "casemate cache rm npm",
		help: `
With casemate run --cache npm, or cache: [npm] in a policy, a sandbox begins
with your own cache of that package manager. It cannot change yours: what it
adds is kept for its project, for the next run there, and reaches nothing else.

ls  what is kept, of every project, and which directories of yours are under it
rm  remove it: of this project, or of PROJECT, which is a path or an ID of ls;
    all of its caches, or those named. Yours are not touched.

The caches: ` + wrap(strings.Join(policy.Caches(), ", ")+".", 68, ""),
		exits: `
1    not removed: the answer was no
125  a sandbox runs with it, or it could not be removed`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			asJSON := fs.Bool("json", false, "print JSON")
			all := fs.Bool("all", false, "rm: of every project")
			yes := fs.Bool("yes", false, "rm: do not ask, as it does on a terminal")
			return func(std *IO, args []string) error {
				st, err := openStore()
				if err != nil {
					return err
				}
				kept := session.Caches(st)
				switch {
				case len(args) == 1 && args[0] == "ls":
					if *asJSON {
						return encode(std.Out, kept)
					}
					printCaches(std, kept)
					return nil
				case len(args) > 0 && args[0] == "rm":
					chosen, err := chooseCaches(kept, args[1:], *all)
					if err != nil {
						return err
					}
					return removeCaches(std, chosen, *yes)
				}
				return usageError(errors.New("cache needs ls, or rm"), "casemate cache ls")
			}
		},
	}
}

func printCaches(std *IO, kept []cache.Kept) {
	if len(kept) == 0 {
		fmt.Fprintln(std.Err, "casemate: no project keeps anything of a cache (casemate run --cache NAME begins with yours)")
		return
	}
	fmt.Fprintf(std.Out, "%-9s %-11s %9s %5s  %-24s %s\n", "ID", "CACHE", "SIZE", "USED", "PROJECT", "OVER")
	for _, k := range kept {
		used := age(time.Since(k.Used))
		switch {
		case k.Running:
			used = "now"
		case k.Used.IsZero():
			used = "-"
		}
		fmt.Fprintf(std.Out, "%-9s %-11s %9s %5s  %-24s %s\n", k.ID, k.Cache, size(k.Size), used, tail(k.Project, 24), workspace.Visible(strings.Join(k.Base, ", ")))
	}
}

// chooseCaches finds what the arguments of rm mean.
func chooseCaches(kept []cache.Kept, args []string, all bool) ([]cache.Kept, error) {
	project, names := "", args
	if len(args) > 0 && !slices.Contains(policy.Caches(), args[0]) {
		project, names = args[0], args[1:]
	}
	for _, n := range names {
		if !slices.Contains(policy.Caches(), n) {
			return nil, usageError(fmt.Errorf("there is no cache %q", n), policy.DidYouMean(n, policy.Caches()))
		}
	}
	person, err := session.Self()
	if err != nil {
		return nil, err
	}
	of := func(k cache.Kept) bool { return k.Project == person.FindProject() }
	switch {
	case all && project != "":
		return nil, usageError(fmt.Errorf("--all is every project, and %q is one", project), "give one of them")
	case all:
		of = func(cache.Kept) bool { return true }
	case project != "":
		path := project
		if !filepath.IsAbs(path) {
			path = filepath.Join(person.Dir, path)
		}
		of = func(k cache.Kept) bool { return k.ID == project || k.Project == filepath.Clean(path) }
	}
	chosen := slices.DeleteFunc(kept, func(k cache.Kept) bool { return !of(k) || len(names) > 0 && !slices.Contains(names, k.Cache) })
	if len(chosen) == 0 && project != "" {
		return nil, hinted(fmt.Errorf("nothing is kept for %q", project), "casemate cache ls lists what is; the caches are %s", strings.Join(policy.Caches(), ", "))
	}
	return chosen, nil
}

func removeCaches(std *IO, chosen []cache.Kept, yes bool) error {
	if len(chosen) == 0 {
		fmt.Fprintln(std.Err, "casemate: nothing of that is kept (casemate cache ls lists what is)")
		return nil
	}
	if !yes && isTerminal(std.In) {
		for _, k := range chosen {
			fmt.Fprintf(std.Out, "%s, %s of %s\n", k.Cache, size(k.Size), workspace.Visible(k.Project))
		}
		if a := (&review.Asker{In: std.In, Out: std.Out}); !a.Yes("Remove it? What is missing will be fetched again.") {
			return exitStatus(exitProblem)
		}
	}
	for _, k := range chosen {
		if err := session.RemoveCache(k); err != nil {
			return err
		}
		fmt.Fprintf(std.Err, "casemate: removed %s of %s\n", k.Cache, workspace.Visible(k.Project))
	}
	return nil
}
