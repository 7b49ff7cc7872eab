package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNarrowed: where nothing more may be opened, an opening stays only if it opens nothing beyond one that there was, and no denial is lost.
func TestNarrowed(t *testing.T) {
	end := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	private := netip.MustParsePrefix("10.0.0.0/8")
	had := Reachable{
		Allow: []Reach{
			{Host: "a.example", Ports: []int{80, 443}}, {Host: "*.b.example", Ports: []int{443}}, {Host: "c.example", Ports: []int{443}, Methods: []string{"GET", "HEAD"}},
			{Host: "d.example", Ports: []int{443}, Until: end}, {Host: "e.example", Ports: []int{443}, Networks: []netip.Prefix{private}},
		},
		Deny: []Source{{Value: "x.example"}}, Ask: true,
	}
	for _, c := range []struct {
		name  string
		reach Reach
		stays bool
	}{
		{"the same", Reach{Host: "a.example", Ports: []int{80, 443}}, true},
		{"fewer ports", Reach{Host: "a.example", Ports: []int{80}}, true},
		{"another port", Reach{Host: "a.example", Ports: []int{80, 22}}, false},
		{"some of its requests", Reach{Host: "a.example", Ports: []int{443}, Methods: []string{"GET"}}, true},
		{"a name that a pattern covers", Reach{Host: "x.b.example", Ports: []int{443}}, true},
		{"a pattern below a pattern", Reach{Host: "*.x.b.example", Ports: []int{443}}, true},
		{"the pattern's own domain", Reach{Host: "b.example", Ports: []int{443}}, false},
		{"a pattern in place of its domain", Reach{Host: "*.a.example", Ports: []int{80}}, false},
		{"a wider pattern", Reach{Host: "*.example.org", Ports: []int{443}}, false},
		{"all requests in place of some", Reach{Host: "c.example", Ports: []int{443}}, false},
		{"more requests", Reach{Host: "c.example", Ports: []int{443}, Methods: []string{"GET", "PUT"}}, false},
		{"fewer requests", Reach{Host: "c.example", Ports: []int{443}, Methods: []string{"GET"}}, true},
		{"for longer", Reach{Host: "d.example", Ports: []int{443}, Until: end.AddDate(0, 0, 1)}, false},
		{"for ever", Reach{Host: "d.example", Ports: []int{443}}, false},
		{"for less long", Reach{Host: "d.example", Ports: []int{443}, Until: end.AddDate(0, 0, -1)}, true},
		{"no private network", Reach{Host: "e.example", Ports: []int{443}}, true},
		{"a private network", Reach{Host: "a.example", Ports: []int{443}, Networks: []netip.Prefix{private}}, false},
	} {
		next := had.Narrowed(Reachable{Allow: []Reach{c.reach}, Deny: []Source{{Value: "y.example"}}, Ask: true})
		if (len(next.Allow) == 1) != c.stays {
			t.Errorf("%s: %+v", c.name, next.Allow)
		}
		if len(next.Deny) != 2 || !next.Ask {
			t.Errorf("%s: %+v", c.name, next)
		}
	}
	if (Reachable{}).Narrowed(had).Ask || len((Reachable{}).Narrowed(had).Allow) > 0 {
		t.Error("out of nothing something is opened")
	}
}

// TestOpenable: a rule for single requests needs an authority that was made for its host.
func TestOpenable(t *testing.T) {
	rule := func(host string, methods ...string) Reach {
		return Reach{Host: host, Ports: []int{443}, Methods: methods}
	}
	tls := &TLS{Hosts: []Source{{Value: "*.a.example"}, {Value: "b.example"}}}
	for _, c := range []struct {
		reach Reach
		tls   *TLS
		can   bool
	}{
		{rule("whole.example"), nil, true}, {rule("b.example", "GET"), nil, false}, {rule("b.example", "GET"), tls, true}, {rule("x.a.example", "GET"), tls, true},
		{rule("*.x.a.example", "GET"), tls, true}, {rule("a.example", "GET"), tls, false}, {rule("*.b.example", "GET"), tls, false}, {rule("c.example", "GET"), tls, false},
	} {
		r := Reachable{Allow: []Reach{c.reach}}
		if out := r.Openable(c.tls); (len(out) == 0) != c.can || len(out)+len(r.Allow) != 1 {
			t.Errorf("%+v: %v %v", c.reach, out, r.Allow)
		}
	}
}

// TestSince names what differs, and nothing where only lines moved.
func TestSince(t *testing.T) {
	before := Reachable{Allow: []Reach{{Host: "a.example", Ports: []int{443}, Origin: "user p:3"}, {Host: "b.example", Ports: []int{443}}}, Deny: []Source{{"x.example", "user p:5"}}}
	moved := Reachable{Allow: []Reach{{Host: "b.example", Ports: []int{443}}, {Host: "a.example", Ports: []int{443}, Origin: "user p:9"}}, Deny: []Source{{"x.example", "user p:8"}}}
	if said := moved.Since(before); len(said) > 0 {
		t.Errorf("only lines moved: %q", said)
	}
	next := Reachable{Allow: []Reach{{Host: "a.example", Ports: []int{443}, Until: time.Date(2026, 12, 2, 0, 0, 0, 0, time.UTC)}}, Deny: []Source{{Value: "y.example"}}, Ask: true}
	want := []string{
		"allowed now: a.example:443 until 2026-12-01", "allowed no more: a.example:443, b.example:443", "denied now: y.example", "denied no more: x.example",
		"what no rule allows is asked about in casemate watch",
	}
	if said := next.Since(before); !slices.Equal(said, want) {
		t.Errorf("%s", strings.Join(said, "\n"))
	}
	many := Reachable{}
	for range 50 {
		many.Deny = append(many.Deny, Source{Value: strings.Repeat("z", len(many.Deny)+1) + ".example"})
	}
	if said := many.Since(Reachable{}); len(said) != 1 || !strings.HasSuffix(said[0], "and 42 more") {
		t.Errorf("many: %q", said)
	}
}
