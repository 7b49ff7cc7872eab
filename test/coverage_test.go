package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"casemate.dev/internal/engine/enginetest"
	"go.yaml.in/yaml/v3"
)

// shownHere are the conformance cases that a test of this package shows, by the test's name. Those that bear the id in their name need no row.
var shownHere = map[string]string{
	"F05": "TestF06HiddenFileAppears", // the names, deep in the tree; the table reads them
	"F11": "TestInside",
	"N02": "TestGateByName",
	"N06": "TestGateAddresses",
	"N09": "TestGateAddresses",
	"N19": "TestGateAgreement",
	"N24": "TestGateIsToldAndOpened",
	"R02": "TestLimitsHold",
	"R05": "TestLimitsHold",
	"D01": "TestDescriptors",
	"D03": "TestDescriptors",
	"D04": "TestDescriptors",
	"T01": "TestTerminalAttacks",
	"T08": "TestTerminalAttacks",
}

// TestCoverage: every case of the conformance list is in the table, or shown by a test here, or listed as not shown with the reason.
func TestCoverage(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Cases []struct{ ID, Title string }
	}
	if err := yaml.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Cases) < 90 {
		t.Fatalf("only %d cases in the list", len(list.Cases))
	}
	inTable := map[string]bool{}
	for _, c := range enginetest.Cases() {
		inTable[c.Covers()] = true
	}
	tests := testNames(t)
	known := map[string]bool{}
	for _, c := range list.Cases {
		known[c.ID] = true
		shown := inTable[c.ID] || slices.ContainsFunc(tests, func(name string) bool { return strings.HasPrefix(name, "Test"+c.ID) })
		if name := shownHere[c.ID]; name != "" {
			if !slices.Contains(tests, name) {
				t.Errorf("%s should be shown by %s, which does not exist", c.ID, name)
			}
			shown = true
		}
		i := slices.IndexFunc(enginetest.NotShown(), func(g enginetest.Gap) bool { return g.ID == c.ID })
		switch {
		case !shown && (i < 0 || !enginetest.NotShown()[i].Whole):
			t.Errorf("%s %q is shown nowhere", c.ID, c.Title)
		case shown && i >= 0 && enginetest.NotShown()[i].Whole:
			t.Errorf("%s is shown and listed as not shown at all", c.ID)
		}
	}
	for _, g := range enginetest.NotShown() {
		if !known[g.ID] || g.Why == "" {
			t.Errorf("not shown: %+v: no such case, or no reason", g)
		}
	}
	for name := range shownHere {
		if !known[name] {
			t.Errorf("%s is no case of the list", name)
		}
	}
}

// escapes says which tests show the escapes over the network that others have had (prior art, E40 to E53) where they do not bear the number in their name: the directory
// and the name. What another test shows is in it too where it adds something.
var escapes = map[int][][2]string{
	40: {{"../internal/policy", "TestHostInvalid"}, {"../internal/gate/claim", "TestHelloRefused"}, {"../internal/gate/dns", "TestMalformed"}},
	42: {{"../internal/policy", "TestMatchHost"}},
	44: {{".", "TestGateAddresses"}, {"../cmd/casemate-gate", "TestWhereANameLeads"}},
	45: {{".", "TestGateAgreement"}, {"../cmd/casemate-gate", "TestTLSNamesItsHost"}, {"../cmd/casemate-gate", "TestHTTPNamesItsHost"}},
	46: {{"../internal/gate/http1", "TestRefused"}, {"../internal/gate/http1", "TestBrokenBodies"}, {"../cmd/casemate-gate", "TestOverriddenMethod"}},
	47: {{"../internal/gate/claim", "TestRequestRefused"}},
	48: {{".", "TestN01AnotherHost"}, {"../cmd/casemate-gate", "TestClients"}},
	49: {{"../cmd/casemate-gate", "TestDeniedNameStaysInside"}},
	51: {{"../internal/gate/confine", "TestAttacksFail"}},
	52: {
		{"../cmd/casemate-gate", "TestFloodOfConnections"}, {"../cmd/casemate-gate", "TestSlowReaders"}, {"../cmd/casemate-gate", "TestSlowHello"},
		{"../cmd/casemate-gate", "TestIdle"}, {"../cmd/casemate-gate", "TestNameFlood"}, {"../internal/gate/claim", "TestRequestRefused"},
	},
}

// TestEscapes: each of them is shown by a test that exists.
func TestEscapes(t *testing.T) {
	tests := map[string][]string{}
	for n := 40; n <= 53; n++ {
		id := fmt.Sprintf("TestE%d", n)
		shown := slices.ContainsFunc(testNames(t), func(name string) bool { return strings.HasPrefix(name, id) })
		for _, place := range escapes[n] {
			dir, name := place[0], place[1]
			if tests[dir] == nil {
				tests[dir] = testNamesOf(t, dir)
			}
			if !slices.Contains(tests[dir], name) {
				t.Errorf("E%d should be shown by %s in %s, which does not exist", n, name, dir)
			}
			shown = true
		}
		if !shown {
			t.Errorf("E%d is shown nowhere", n)
		}
	}
}

func testNames(t *testing.T) []string {
	t.Helper()
	return testNamesOf(t, ".")
}

func testNamesOf(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range paths {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

// TestTableIsSound: ids are unique, and who has no control says why.
func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range enginetest.Cases() {
		if seen[c.ID] {
			t.Errorf("%s is there twice", c.ID)
		}
		seen[c.ID] = true
		if (c.Control == enginetest.None) != (c.NoControl != "") {
			t.Errorf("%s: control %q, reason for none %q", c.ID, c.Control, c.NoControl)
		}
		if c.Title == "" || c.Guarantee == "" || c.Group == "" || c.Attack == nil {
			t.Errorf("%s is incomplete", c.ID)
		}
	}
}
