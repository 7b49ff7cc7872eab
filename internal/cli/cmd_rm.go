package cli

import (
	"errors"
	"flag"
	"fmt"
	"strconv"

	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
)

// removeHistory removes what is kept of the project's files: all of it, or the named entries.
func removeHistory(std *IO, args []string) error {
	if len(args) == 0 {
		return usageError(errors.New("rm --history needs the number of an entry, or all"), "casemate undo --list shows them")
	}
	person, err := session.Self()
	if err != nil {
		return err
	}
	h, err := session.OpenHistory(person)
	if err != nil {
		return err
	}
	defer h.Close()
	var numbers []int
	for _, a := range args {
		if a == "all" {
			if numbers, err = h.Numbers(); err != nil {
				return err
			}
			break
		}
		n, err := strconv.Atoi(a)
		if err != nil || !h.Has(n) {
			return fmt.Errorf("there is no history entry %q: casemate undo --list shows them", a)
		}
		numbers = append(numbers, n)
	}
	if err := h.Remove(numbers...); err != nil {
		return err
	}
	fmt.Fprintf(std.Err, "casemate: removed history entries: %d\n", len(numbers))
	return nil
}

// removeHome removes a home alone: the one that casemate ps -a lists under this id, or without one that of this project. It says if there is none.
func removeHome(std *IO, st *store.Store, id string) (bool, error) {
	if id != "" {
		home, err := st.HomeNamed(id)
		if err != nil || home == "" {
			return false, err
		}
		if err := session.RemoveHome(st, home); err != nil {
			return false, err
		}
	} else {
		person, err := session.Self()
		if err != nil {
			return false, err
		}
		if err := session.RemoveHomes(st, st.Project(person.FindProject())); err != nil {
			return false, err
		}
		id = "of this project"
	}
	fmt.Fprintf(std.Err, "casemate: removed the home %s\n", id)
	return true, nil
}

func rmCommand() command {
	return command{
		name: "rm", args: "SANDBOX...|--home [ID...]", summary: "remove kept sandboxes with their layers",
		example: "casemate rm --home k7f3q2ab",
		help: `
Removes sandboxes, whatever changes they hold. A running one is refused, unless
--force ends it first. With --home the project's sandbox home goes too: what
agents and tools have left there, such as settings and logins made inside. With
--home and no SANDBOX only this project's home goes; with the ID of a home, as
casemate ps -a lists it, only that one. With --history the arguments are numbers
of casemate undo --list, or all: what is kept of this project's files goes, and
cannot be undone any more.`,
		exits: "125  a sandbox is running, or could not be removed",
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			home := fs.Bool("home", false, "also the home of the sandbox's project")
			force := fs.Bool("force", false, "end the sandbox first if it runs")
			past := fs.Bool("history", false, "remove history entries instead of sandboxes")
			return func(std *IO, args []string) error {
				if *past {
					return removeHistory(std, args)
				}
				if len(args) == 0 && !*home {
					return usageError(errors.New("rm needs the name of a sandbox"), "casemate ps -a lists them")
				}
				st, err := openStore()
				if err != nil {
					return err
				}
				if len(args) == 0 {
					_, err := removeHome(std, st, "")
					return err
				}
				for _, id := range args {
					box, err := st.Find(id)
					if err != nil && *home {
						if done, failed := removeHome(std, st, id); done {
							continue
						} else if failed != nil {
							err = failed
						}
					}
					if err != nil {
						return err
					}
					if err := session.Remove(st, box, *home, *force); err != nil {
						return err
					}
					fmt.Fprintf(std.Err, "casemate: removed %s\n", box.Record.ID)
				}
				return nil
			}
		},
	}
}
