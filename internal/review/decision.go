package review

import (
	"encoding/json"
	"fmt"
	"strings"

	"casemate.dev/internal/workspace"
)

// Action is what a person wants done with the held changes.
type Action string

const (
	Keep    Action = "keep" // nothing happens
	Apply   Action = "apply"
	Discard Action = "discard"
)

// Decision is how a review ended.
type Decision struct {
	Action Action
	What   workspace.ApplyOptions // of Apply
	Left   []string               // chosen directories that stay, because not all in them was chosen
}

// Decide makes options of what was chosen: those paths and no others, protected ones with the digest that was shown.
func Decide(all []workspace.Change, items []Item) Decision {
	d := Decision{Action: Apply, What: workspace.ApplyOptions{Consent: map[string]string{}}}
	split := map[string]bool{} // directories in which something was not chosen
	for i := range items {
		if it := &items[i]; !it.chosen() && !it.Stays() {
			markAbove(split, it.Path)
		}
	}
	for i := range items {
		it := &items[i]
		switch {
		case !it.chosen():
			continue
		case split[it.Path] && (it.Old.Type != workspace.Dir || it.Directory()): // a path stands for all beneath it
			d.Left = append(d.Left, it.Path)
			continue
		}
		d.What.Paths = append(d.What.Paths, it.Path)
		if it.Protected != "" {
			d.What.Consent[it.Path] = it.Shown
		}
		if it.Conflict != "" {
			d.What.Overwrite = append(d.What.Overwrite, it.Path)
		}
	}
	chosen := map[string]bool{}
	for _, p := range d.What.Paths {
		markAbove(chosen, p)
	}
	for _, c := range all { // a directory goes with the last that is in it
		if c.Directory() && !c.Summarised() && c.Kind == workspace.Deleted && chosen[c.Path] && !split[c.Path] {
			d.What.Paths = append(d.What.Paths, c.Path)
		}
	}
	if len(d.What.Paths) == 0 { // to Apply, no path is every path
		d.Action, d.What = Keep, workspace.ApplyOptions{}
	}
	return d
}

// chosen: a protected change that was not looked at is not chosen, whatever was pressed.
func (i *Item) chosen() bool {
	return i.Chosen && !i.Stays() && (i.Protected == "" || i.Shown != "")
}

func markAbove(set map[string]bool, path string) {
	for {
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return
		}
		path = path[:i]
		set[path] = true
	}
}

// wire is a Decision between two programs of ours. Paths are bytes: not every name is UTF-8.
type wire struct {
	Action    Action
	Paths     [][]byte
	Overwrite [][]byte
	Consent   []consent
	Left      [][]byte
}

type consent struct {
	Path   []byte
	Digest string
}

// MarshalJSON writes paths of any bytes.
func (d Decision) MarshalJSON() ([]byte, error) {
	w := wire{Action: d.Action, Paths: toBytes(d.What.Paths), Overwrite: toBytes(d.What.Overwrite), Left: toBytes(d.Left)}
	for p, digest := range d.What.Consent {
		w.Consent = append(w.Consent, consent{[]byte(p), digest})
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON wrote, and takes nothing that Decide could not have made.
func (d *Decision) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	switch w.Action {
	case Keep, Apply, Discard:
	default:
		return fmt.Errorf("no action %q", w.Action)
	}
	if w.Action == Apply && len(w.Paths) == 0 {
		return fmt.Errorf("apply names no path")
	}
	*d = Decision{Action: w.Action, Left: toStrings(w.Left)}
	d.What = workspace.ApplyOptions{Paths: toStrings(w.Paths), Overwrite: toStrings(w.Overwrite), Consent: map[string]string{}}
	for _, c := range w.Consent {
		d.What.Consent[string(c.Path)] = c.Digest
	}
	return nil
}

func toBytes(list []string) (out [][]byte) {
	for _, s := range list {
		out = append(out, []byte(s))
	}
	return out
}

func toStrings(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}
