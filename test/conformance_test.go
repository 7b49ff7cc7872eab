package test

import (
	"strings"
	"testing"

	"casemate.dev/internal/engine/enginetest"
)

// TestInside runs the whole table of attacks in every mode and every kind of workspace.
func TestInside(t *testing.T) {
	for _, m := range modes() {
		for _, workspace := range []string{"held", "live", "readonly"} {
			if m.name == "landlock" && workspace == "live" {
				continue // held instead, and the plan says so
			}
			t.Run(m.name+"/"+workspace, func(t *testing.T) {
				s := newSiteFor(t, m, enginetest.Cases())
				judge(t, s.attack([]string{"--workspace", workspace}))
			})
		}
	}
}

// TestHostileEnvironment attacks with everything in the caller's environment that makes programs load something.
func TestHostileEnvironment(t *testing.T) {
	for _, m := range modes() {
		t.Run(m.name, func(t *testing.T) {
			s := newSite(t, m)
			s.describe(nil)
			cmd := s.command(append(append([]string{"run"}, probing()...), "P02", "P05", "P06")...)
			cmd.Env = append(cmd.Env, s.Environ()...)
			out := s.finish(cmd)
			judge(t, s.Verify(results(t, out), out.stdout+out.stderr))
		})
	}
}

func results(t *testing.T, out output) []enginetest.Result {
	t.Helper()
	r, _, err := enginetest.ReadResults(strings.NewReader(out.stdout))
	if err != nil {
		t.Fatal(err)
	}
	if len(r) == 0 {
		t.Fatalf("the probe reported nothing: %v", out)
	}
	return r
}

// TestGuaranteesAreThePlans: an attack on a promise that no plan makes would excuse nobody and prove nothing.
func TestGuaranteesAreThePlans(t *testing.T) {
	s := newSite(t, best())
	names := map[string]bool{}
	for _, g := range s.plan("--memory", "64MiB", "--pids", "64", "--disk", "64MiB").Guarantees {
		names[g.Name] = true
	}
	for _, c := range enginetest.Cases() {
		if !names[c.Guarantee] {
			t.Errorf("%s attacks %q, which the plan does not list", c.ID, c.Guarantee)
		}
	}
}
