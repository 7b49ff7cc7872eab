package review

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"casemate.dev/internal/workspace"
)

func file(path string) workspace.Change {
	return workspace.Change{Path: path, Kind: workspace.Added, Class: workspace.ClassChanged, New: workspace.State{Type: workspace.File}}
}

// TestDecide: what was chosen, and nothing beside it, reaches Apply.
func TestDecide(t *testing.T) {
	dir := func(path string, kind workspace.ChangeKind) workspace.Change {
		c := workspace.Change{Path: path, Kind: kind, Class: workspace.ClassChanged, Old: workspace.State{Type: workspace.Dir}, New: workspace.State{Type: workspace.Dir}}
		if kind == workspace.Deleted {
			c.New = workspace.State{}
		}
		return c
	}
	gone := func(path string) workspace.Change {
		return workspace.Change{Path: path, Kind: workspace.Deleted, Class: workspace.ClassChanged, Old: workspace.State{Type: workspace.File}}
	}
	protected, conflict := file(".envrc"), file("both")
	protected.Protected, protected.Digest, protected.Class = "the shell runs it", "sha256:walk", workspace.ClassProtected
	conflict.Conflict, conflict.Class = "the host changed it", workspace.ClassConflict
	for _, c := range []struct {
		name    string
		changes []workspace.Change
		choose  map[string]string // path: what was shown
		want    Decision
	}{
		{"nothing", []workspace.Change{file("a")}, nil, Decision{Action: Keep}},
		{"one of two", []workspace.Change{file("a"), file("b")}, map[string]string{"b": ""}, Decision{Action: Apply, What: workspace.ApplyOptions{Paths: []string{"b"}}}},
		{"protected, not looked at", []workspace.Change{protected}, map[string]string{".envrc": ""}, Decision{Action: Keep}},
		{"protected, shown", []workspace.Change{protected}, map[string]string{".envrc": "sha256:shown"}, Decision{Action: Apply, What: workspace.ApplyOptions{Paths: []string{".envrc"}, Consent: map[string]string{".envrc": "sha256:shown"}}}},
		{"conflict", []workspace.Change{conflict}, map[string]string{"both": ""}, Decision{Action: Apply, What: workspace.ApplyOptions{Paths: []string{"both"}, Overwrite: []string{"both"}}}},
		{"a directory's mode, with something in it that stays", []workspace.Change{dir("d", workspace.ModeChanged), file("d/x"), file("e")}, map[string]string{"d": "", "e": ""},
			Decision{Action: Apply, What: workspace.ApplyOptions{Paths: []string{"e"}}, Left: []string{"d"}}},
		{"all of a deleted directory", []workspace.Change{dir("d", workspace.Deleted), gone("d/x"), gone("d/y")}, map[string]string{"d/x": "", "d/y": ""},
			Decision{Action: Apply, What: workspace.ApplyOptions{Paths: []string{"d/x", "d/y", "d"}}}},
		{"part of a deleted directory", []workspace.Change{dir("d", workspace.Deleted), gone("d/x"), gone("d/y")}, map[string]string{"d/x": ""},
			Decision{Action: Apply, What: workspace.ApplyOptions{Paths: []string{"d/x"}}}},
		{"a name that is not UTF-8", []workspace.Change{file("a\xff\n")}, map[string]string{"a\xff\n": ""}, Decision{Action: Apply, What: workspace.ApplyOptions{Paths: []string{"a\xff\n"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			items := Items(c.changes)
			for i := range items {
				items[i].Shown, items[i].Chosen = c.choose[items[i].Path], false
				_, items[i].Chosen = c.choose[items[i].Path]
			}
			got := Decide(c.changes, items)
			if got.Action == Apply && c.want.What.Consent == nil {
				c.want.What.Consent = map[string]string{}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			b, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var back Decision
			if err := json.Unmarshal(b, &back); err != nil || back.Action != got.Action || !slices.Equal(back.What.Paths, got.What.Paths) ||
				!slices.Equal(back.What.Overwrite, got.What.Overwrite) || len(back.What.Consent) != len(got.What.Consent) || !slices.Equal(back.Left, got.Left) {
				t.Errorf("%s became %+v (%v)", b, back, err)
			}
		})
	}
}

// TestDecisionThatNobodyMade: what could not have been decided is not taken, above all not an apply without paths, which would be one of everything.
func TestDecisionThatNobodyMade(t *testing.T) {
	for _, s := range []string{``, `{}`, `{"Action":"apply"}`, `{"Action":"apply","Paths":[]}`, `{"Action":"purge"}`, `[]`, `{"Action":"apply","Paths":["not base64"]}`} {
		var d Decision
		if err := json.Unmarshal([]byte(s), &d); err == nil {
			t.Errorf("%s became %+v", s, d)
		}
	}
}

// TestPlainly writes out what nobody sees, and leaves what people write.
func TestPlainly(t *testing.T) {
	for _, c := range [][2]string{
		{"größe 表 é क्षि שלום", "größe 表 é क्षि שלום"},
		{"a\u200bb\u200dc", `a\u200bb\u200dc`},
		{"x\ufe0fy\U000e0100z", `x\ufe0fy\U000e0100z`},
		{"a\u00a0b\u3164c", `a\u00a0b\u3164c`},
		{"z\u0300\u0300\u0300\u0300\u0300", "z\u0300\u0300\u0300\u0300" + `\u0300`},
	} {
		if got := Plainly(c[0]); got != c[1] {
			t.Errorf("%q became %q, want %q", c[0], got, c[1])
		}
	}
}
