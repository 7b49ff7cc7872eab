package plan

import (
	"slices"
	"strings"
	"testing"

	"casemate.dev/internal/policy"
)

// TestReadonlyPins: every directory between the project and what is read-only is a mount, as writable as what it lies in, so that none can be renamed.
func TestReadonlyPins(t *testing.T) {
	for _, tt := range []struct {
		name   string
		flags  policy.Flags
		absent []string
		want   string // targets below the project; those that can be written with a +
	}{
		{"at the top", policy.Flags{Readonly: []string{"a"}}, nil, "a"},
		{"deep", policy.Flags{Readonly: []string{"a/b/c"}}, nil, "a+ a/b+ a/b/c"},
		{"two with the same above", policy.Flags{Readonly: []string{"a/b", "a/c"}}, nil, "a+ a/b a/c"},
		{"one in another", policy.Flags{Readonly: []string{"a/b", "a"}}, nil, "a a/b"},
		{"far below another", policy.Flags{Readonly: []string{"a", "a/b/c"}}, nil, "a a/b a/b/c"},
		{"in what is written through", policy.Flags{Readonly: []string{"out/a/b"}, Write: []string{"out"}}, nil, "out+ out/a+ out/a/b"},
		{"where nothing can be written", policy.Flags{Readonly: []string{"a/b"}, Workspace: "readonly"}, nil, "a a/b"},
		{"live", policy.Flags{Readonly: []string{"a/b"}, Workspace: "live"}, nil, "a+ a/b"},
		{"what is not there", policy.Flags{Readonly: []string{"a/b", "c"}}, []string{"a/b"}, "c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(merged(t, "", tt.flags), Rootless)
			r.Absent = tt.absent
			p, err := Make(r)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range p.Mounts {
				rel, below := strings.CutPrefix(m.Target, r.Project+"/")
				if below && m.Writable {
					rel += "+"
				}
				if below {
					got = append(got, rel)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, path := range tt.absent {
				if !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, "there is no "+path) }) {
					t.Errorf("no note of %s: %q", path, p.Notes)
				}
			}
		})
	}
}
