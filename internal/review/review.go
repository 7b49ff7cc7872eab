// Package review walks a person through what a sandbox changed, and collects what may reach the host.
package review

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"casemate.dev/internal/workspace"
)

// Group is what a change needs, in the order in which a person sees them: what matters most comes first.
type Group int

const (
	Protected Group = iota // the host would execute it without being asked
	Conflict               // the host has changed it too
	ByName                 // it crosses only when it is chosen itself
	Changed                // what git would show
	Built                  // what the project's gitignore covers, counted by directory
	Refused                // it stays inside, whatever is asked
)

// Title is the heading over a group.
func (g Group) Title() string {
	switch g {
	case Protected:
		return "would run on your machine"
	case Conflict:
		return "conflicts: you changed them too"
	case ByName:
		return "only when chosen one by one"
	case Changed:
		return "changed"
	case Built:
		return "built, stays inside"
	}
	return "refused, stays inside"
}

// Mark is the group as a word in front of a name: nothing is said by colour alone.
func (g Group) Mark() string {
	return [...]string{"RUNS", "CONFLICT", "CAREFUL", "", "BUILT", "REFUSED"}[g]
}

// Item is a change that a person decides about.
type Item struct {
	workspace.Change
	Group  Group
	Chosen bool
	Shown  string // the digest of a protected change as the person has seen it, whole; "" until then
}

// Items puts the changes in the order in which a person sees them.
func Items(changes []workspace.Change) []Item {
	var items []Item
	for _, c := range workspace.Listed(changes) {
		items = append(items, Item{Change: c, Group: groupOf(&c)})
	}
	slices.SortStableFunc(items, func(a, b Item) int { return cmp.Compare(a.Group, b.Group) })
	return items
}

func groupOf(c *workspace.Change) Group {
	switch {
	case c.Refused != "":
		return Refused
	case c.Protected != "":
		return Protected
	case c.Built:
		return Built
	case c.Conflict != "":
		return Conflict
	case c.ByName != "":
		return ByName
	}
	return Changed
}

// Asks reports whether the change may cross only after a question of its own.
func (i *Item) Asks() bool { return i.Group <= ByName }

// Stays reports whether the change cannot be chosen in a review at all.
func (i *Item) Stays() bool { return i.Group >= Built }

// Name is the path as git quotes it, with a slash after a directory.
func (i *Item) Name() string {
	if i.Summarised() || i.Directory() {
		return Plainly(workspace.Quote(i.Path + "/"))
	}
	return Plainly(workspace.Quote(i.Path))
}

// Letter is what happened, in git's letters.
func (i *Item) Letter() string {
	switch i.Kind {
	case workspace.Added:
		return "A"
	case workspace.Deleted:
		return "D"
	case workspace.TypeChanged:
		return "T"
	}
	return "M"
}

// Why says what a person must know before choosing the change, or why it stays. Beside Mark it need not say again what Mark says.
func (i *Item) Why() string {
	var parts []string
	say := func(what, why string) {
		if why != "" {
			parts = append(parts, what+Plainly(workspace.Visible(why)))
		}
	}
	switch i.Group {
	case Refused:
		say("", i.Refused)
	case Built:
		say("", fmt.Sprintf("%d built files", max(1, i.Count)))
	default:
		say("", i.Protected)
		if i.Group == Conflict {
			say("", i.Conflict)
		} else {
			say("conflict: ", i.Conflict)
		}
		say("", i.ByName)
		for _, m := range i.Marks {
			say("a build would run it: ", m)
		}
	}
	return strings.Join(parts, "; ")
}
