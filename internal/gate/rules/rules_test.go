package rules

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
)

func decide(r wire.Rules, host string, port int, now time.Time) Decision {
	s := Compile(r)
	return s.Decide(host, port, now)
}

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := wire.Rules{
		Allow: []wire.Allow{
			{Host: "api.example.com", Ports: []int{443, 8443}, Origin: "policy:3"},
			{Host: "*.example.net", Ports: []int{443}, Origin: "policy:4"},
			{Host: "secret.example.net", Ports: []int{22}, Origin: "policy:5"},
			{Host: "old.example.com", Ports: []int{443}, Until: now, Origin: "policy:6"},
			{Host: "new.example.com", Ports: []int{443}, Until: now.Add(time.Second), Origin: "policy:7"},
			{Host: "10.0.0.5", Ports: []int{5432}, Origin: "policy:8"},
			{Host: "2001:db8::1", Ports: []int{443}, Origin: "policy:9"},
			{Host: "none.example.com", Origin: "policy:10"},
		},
		Deny: []string{"*.bad.example.net", "evil.example.net"},
	}
	for _, c := range []struct {
		host string
		port int
		rule string // empty: not allowed
		why  string
	}{
		{"api.example.com", 443, "policy:3", ""},
		{"API.Example.Com.", 8443, "policy:3", ""},
		{"api.example.com", AnyPort, "policy:3", ""},
		{"api.example.com", 80, "", "no rule allows api.example.com:80; a rule allows it on port 443, 8443"},
		{"example.com", 443, "", "no rule allows example.com:443"},
		{"evilapi.example.com", 443, "", "no rule"},
		{"api.example.com.evil.org", 443, "", "no rule"},
		{"a.b.example.net", 443, "policy:4", ""},
		{"example.net", 443, "", "no rule"},
		{"evilexample.net", 443, "", "no rule"},
		{"secret.example.net", 22, "policy:5", ""},
		{"evil.example.net", 443, "", "denied by the rule \"evil.example.net\""},
		{"x.bad.example.net", 443, "", "deny wins"},
		{"old.example.com", 443, "", "ended at 2026-11-22T12:00:00Z"},
		{"new.example.com", 443, "policy:7", ""},
		{"10.0.0.5", 5432, "policy:8", ""},
		{"::ffff:10.0.0.5", 5432, "policy:8", ""},
		{"10.0.0.6", 5432, "", "no rule"},
		{"2001:DB8:0::1", 443, "policy:9", ""},
		{"2001:db8::2", 443, "", "no rule allows [2001:db8::2]:443"},
		{"none.example.com", AnyPort, "", "no rule"},
		{"api.example.com\x00.evil.org", 443, "", "not a host"},
		{"127.1", 443, "", "not a host"},
		{"", 443, "", "empty"},
	} {
		d := decide(r, c.host, c.port, now)
		if d.Allowed != (c.rule != "") || d.Rule != c.rule && c.rule != "" || !strings.Contains(d.Why, c.why) {
			t.Errorf("%q port %d: %+v", c.host, c.port, d)
		}
	}
	if d := decide(wire.Rules{}, "api.example.com", 443, now); d.Allowed {
		t.Error("no rules allow something")
	}
	set := Compile(r)
	if next := set.Next(now); !next.Equal(now.Add(time.Second)) {
		t.Errorf("the next rule ends at %v", next)
	}
}

func TestUnreadableRules(t *testing.T) {
	fine := wire.Allow{Host: "a.example.com", Ports: []int{443}}
	for name, r := range map[string]wire.Rules{
		"deny":  {Allow: []wire.Allow{fine}, Deny: []string{"*"}},
		"allow": {Allow: []wire.Allow{fine, {Host: "a b", Ports: []int{1}}}},
	} {
		if d := decide(r, "a.example.com", 443, time.Now()); d.Allowed {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestNetworks: what several rules open is open; an address that a rule names needs no network.
func TestNetworks(t *testing.T) {
	ten, twenty := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16")
	r := wire.Rules{Allow: []wire.Allow{
		{Host: "*.example.com", Ports: []int{443}, Networks: []netip.Prefix{ten}, Origin: "a"},
		{Host: "db.example.com", Ports: []int{443}, Networks: []netip.Prefix{twenty}, Origin: "b"},
		{Host: "db.example.com", Ports: []int{22}, Networks: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}, Origin: "c"},
		{Host: "10.1.2.3", Ports: []int{443}},
	}}
	d := decide(r, "db.example.com", 443, time.Now())
	if !d.Allowed || d.Rule != "a" || len(d.Networks) != 2 || d.Networks[0] != ten || d.Networks[1] != twenty {
		t.Errorf("%+v", d)
	}
	if d := decide(r, "10.1.2.3", 443, time.Now()); len(d.Networks) != 1 || d.Networks[0] != netip.MustParsePrefix("10.1.2.3/32") {
		t.Errorf("%+v", d)
	}
}

func FuzzDecide(f *testing.F) {
	f.Add("a.example.com", "*.example.com", "b.example.com", 443)
	f.Add("A.example.com.", "*.Example.com.", "*.a.example.com", 443)
	f.Add("::1", "::1", "*.example.com", 0)
	f.Add("10.0.0.1", "::ffff:10.0.0.1", "", 1)
	f.Add("evil.com\x00.example.com", "*.example.com", "evil.com", 443)
	f.Fuzz(func(t *testing.T, host, allow, deny string, port int) {
		r := wire.Rules{Allow: []wire.Allow{{Host: allow, Ports: []int{port}}}, Deny: []string{deny}}
		d := decide(r, host, port, time.Now())
		set := Compile(r)
		if _, denied := set.Denied(host); denied && d.Allowed {
			t.Errorf("%q is allowed by %q although %q denies it", host, allow, deny)
		}
		if r.Allow = nil; decide(r, host, port, time.Now()).Allowed {
			t.Errorf("%q is allowed by nothing", host)
		}
		// policy.MatchHost is what patterns mean.
		yes, errAllow := policy.MatchHost(allow, host)
		no, errDeny := policy.MatchHost(deny, host)
		if want := yes && !no && errAllow == nil && errDeny == nil; d.Allowed != want {
			t.Errorf("%q, %q allows, %q denies: %+v", host, allow, deny, d)
		}
		if d.Allowed == (d.Why != "") {
			t.Errorf("%+v", d)
		}
	})
}
