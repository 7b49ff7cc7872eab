package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWidening(t *testing.T) {
	doc := mustParse(t, "casemate.yaml", `
level: full
files:
  workspace: live
  read: [/data]
  hide: [secrets/, "!.env.test"]
  protect: [deploy]
limits: {memory: 64GiB, pids: 100, cpus: 2}
home: none
env: {pass: [TERM, AWS_PROFILE]}
`)
	base := sources(t, "user", "files: {read: [/data]}", "command line", "level: full\nenv: {pass: [AWS_PROFILE]}")
	var got []string
	for _, w := range Widening(doc, base...) {
		got = append(got, fmt.Sprintf("%d %s: %s", w.Origin.Line, w.Key, w.Text))
	}
	want := []string{"2 level: full", "4 files.workspace: live", "6 files.hide: !.env.test", "10 env.pass: AWS_PROFILE", "8 limits.memory: 64GiB"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if w := Widening(mustParse(t, "f", "files: {hide: [x]}\nlocked: [home]")); len(w) > 0 {
		t.Errorf("%+v does not widen", w)
	}
}

func TestTrust(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	one, two := Digest([]byte("level: full\n")), Digest([]byte("level: full\n\n"))
	var trust Trust
	if trust.Approved("/p/casemate.yaml", one) {
		t.Error("the zero value approves")
	}
	if err := trust.Approve("/p/casemate.yaml", one, now); err != nil {
		t.Fatal(err)
	}
	data, err := trust.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseTrust(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file, digest string
		want               bool
	}{
		{"the same bytes", "/p/casemate.yaml", one, true},
		{"changed bytes", "/p/casemate.yaml", two, false},
		{"another project", "/q/casemate.yaml", one, false},
		{"no digest", "/p/casemate.yaml", "", false},
		{"no digest of an unknown project", "/q/casemate.yaml", "", false},
	} {
		if got := read.Approved(c.file, c.digest); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if got := read.projects["/p/casemate.yaml"].Date; !got.Equal(now.Truncate(time.Second)) {
		t.Errorf("approved on %s", got)
	}
	if !read.Revoke("/p/casemate.yaml") || read.Revoke("/p/casemate.yaml") || read.Approved("/p/casemate.yaml", one) {
		t.Error("not revoked once")
	}
	if trust.Approve("casemate.yaml", one, now) == nil || trust.Approve("/p", "sha256:", now) == nil {
		t.Error("approved what names nothing")
	}
}

// TestTrustDamaged: a store that cannot be understood approves nothing.
func TestTrustDamaged(t *testing.T) {
	digest := Digest(nil)
	for name, text := range map[string]string{
		"empty":            "",
		"list":             "[]",
		"no version":       `{"projects": {}}`,
		"other version":    `{"version": 2, "projects": {}}`,
		"unknown key":      `{"version": 1, "trust_all": true}`,
		"relative path":    `{"version": 1, "projects": {"casemate.yaml": {"digest": "` + digest + `"}}}`,
		"short digest":     `{"version": 1, "projects": {"/p": {"digest": "sha256:00"}}}`,
		"upper-case":       `{"version": 1, "projects": {"/p": {"digest": "` + strings.ToUpper(digest) + `"}}}`,
		"no digest":        `{"version": 1, "projects": {"/p": {}}}`,
		"second document":  `{"version": 1, "projects": {}} {"version": 1}`,
		"half a document":  `{"version": 1, "projects": {`,
		"date that is not": `{"version": 1, "projects": {"/p": {"digest": "` + digest + `", "date": "yesterday"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseTrust([]byte(text)); err == nil {
				t.Errorf("taken: %+v", got)
			}
		})
	}
	if _, err := ParseTrust([]byte(`{"version": 1, "projects": null}`)); err != nil {
		t.Error(err)
	}
}

func FuzzTrust(f *testing.F) {
	f.Add([]byte(`{"version": 1, "projects": {"/p": {"digest": "` + Digest(nil) + `", "date": "2026-01-02T03:04:05Z"}}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		trust, err := ParseTrust(data)
		if err != nil {
			return
		}
		if trust.Approved("/p", "") {
			t.Error("approves without a digest")
		}
		out, err := trust.Encode()
		if err != nil {
			return // a date outside the years that JSON can write
		}
		if _, err := ParseTrust(out); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}
