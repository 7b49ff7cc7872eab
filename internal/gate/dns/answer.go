// Package dns answers the sandbox's look-ups: an allowed name has a synthetic address, every other name does not exist. It asks nobody.
package dns

import (
	"net/netip"
	"strings"
	"time"

	"casemate.dev/internal/gate/names"
	"casemate.dev/internal/gate/records"
	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	// ttl lets programs remember an answer for as long as they like: an address always stands for the same name, and each connection is decided anew.
	ttl = 60

	// maxPayload is what we say we could take (RFC 9715). No answer needs more than the 512 bytes of RFC 1035, so none is ever truncated.
	maxPayload = 1232

	badVersion = 16 // RFC 6891, 6.1.3
)

// Resolver answers queries.
type Resolver struct {
	Rules *rules.Book
	Names *names.Table
	Log   *records.Log
	Only4 bool // nothing inside takes connections over IPv6

	Internal bool // other sandboxes are reached by their names

	// Leaks says whether a name holds what must not leave, and what of the name may be told. It may be nil.
	Leaks func(name string) (shown string, d rules.Decision, yes bool)
}

// reply is what is said to a query.
type reply struct {
	code    dnsmessage.RCode
	answers []dnsmessage.Resource
}

// Answer returns the reply to a query, or nil where silence is the answer: to what is too short to have an ID, and to replies, or two servers would
// talk to each other for ever.
func (r *Resolver) Answer(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	if h.OpCode != 0 {
		return pack(h, nil, nil, reply{code: dnsmessage.RCodeNotImplemented})
	}
	q, edns, ok := parse(&p)
	if !ok {
		return pack(h, q, nil, reply{code: dnsmessage.RCodeFormatError})
	}
	if edns != nil && edns.version != 0 {
		return pack(h, q, edns, reply{code: badVersion})
	}
	return pack(h, q, edns, r.question(*q))
}

// opt is what matters of a query's OPT record.
type opt struct{ version uint8 }

// parse reads the one question that a query has, and its OPT record if it has one.
func parse(p *dnsmessage.Parser) (*dnsmessage.Question, *opt, bool) {
	q, err := p.Question()
	if err != nil {
		return nil, nil, false
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return nil, nil, false
	}
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return &q, nil, false
	}
	var edns *opt
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return &q, edns, true
		}
		if err != nil {
			return &q, nil, false
		}
		if h.Type == dnsmessage.TypeOPT {
			if edns != nil || h.Name.String() != "." {
				return &q, nil, false
			}
			edns = &opt{version: uint8(h.TTL >> 16)}
		}
		if p.SkipAdditional() != nil {
			return &q, nil, false
		}
	}
}

// question decides. The name keeps its case in the reply (which some resolvers verify) and loses it here.
func (r *Resolver) question(q dnsmessage.Question) reply {
	if q.Class != dnsmessage.ClassINET {
		return reply{code: dnsmessage.RCodeRefused}
	}
	if r.Leaks != nil {
		if shown, d, yes := r.Leaks(q.Name.String()); yes {
			r.denied(shown, d)
			return reply{code: dnsmessage.RCodeNameError}
		}
	}
	name, err := policy.NormalizeHost(q.Name.String())
	if err != nil {
		r.denied(q.Name.String(), rules.Decision{Why: err.Error()})
		return reply{code: dnsmessage.RCodeNameError}
	}
	switch {
	case name == "localhost" || strings.HasSuffix(name, ".localhost"): // RFC 6761, 6.3
		return r.addresses(q, netip.MustParseAddr(wire.Loopback4), netip.MustParseAddr(wire.Loopback6))
	case strings.HasSuffix(name, ".in-addr.arpa") || strings.HasSuffix(name, ".ip6.arpa"):
		return r.pointer(q, name)
	}
	d := r.Rules.Decide(name, rules.AnyPort)
	if r.Internal && wire.IsMember(name) && r.Rules.Set().Unspoken(name, time.Now()) {
		d.Allowed = true // whether there is one of that name is asked when somebody connects
	}
	if !d.Allowed {
		if host := serviceOf(name); host != "" { // whoever may not reach the host is told so by its own name, and who may only learns of no service
			if name, d = host, r.Rules.Decide(host, rules.AnyPort); d.Allowed || d.Ask {
				return reply{code: dnsmessage.RCodeNameError}
			}
		}
	}
	if !d.Allowed && !d.Ask { // who is asked decides when it connects; until then nobody outside hears of the name either
		r.denied(name, d)
		return reply{code: dnsmessage.RCodeNameError}
	}
	v4, v6, ok := r.Names.Addresses(name)
	if !ok {
		r.Log.TellOnce(wire.Record{Verdict: wire.Failed, Rule: d.Rule, Why: "the sandbox has looked up so many names that no address is left to stand for another one"})
		return reply{code: dnsmessage.RCodeServerFailure}
	}
	return r.addresses(q, v4, v6)
}

// serviceOf is the host that a name of a service is about, as apt asks for _https._tcp.HOST (RFC 2782, RFC 8552); else "".
func serviceOf(name string) string {
	host := name
	for strings.HasPrefix(host, "_") {
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			return ""
		}
		host = rest
	}
	if host == name {
		return ""
	}
	return host
}

func (r *Resolver) denied(name string, d rules.Decision) {
	r.Log.TellOnce(wire.Record{Verdict: wire.Denied, Name: name, Rule: d.Rule, Why: d.Why, Secret: d.Secret, Unasked: d.Secret != ""})
}

// addresses answers for a name that exists. Of HTTPS and SVCB it has none: they would name other hosts, ports and keys for an encrypted hello. To ANY
// one record is enough (RFC 8482, 4.1).
func (r *Resolver) addresses(q dnsmessage.Question, v4, v6 netip.Addr) reply {
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	switch q.Type {
	case dnsmessage.TypeA, dnsmessage.TypeALL:
		return reply{answers: []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: v4.As4()}}}}
	case dnsmessage.TypeAAAA:
		if r.Only4 {
			break
		}
		return reply{answers: []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: v6.As16()}}}}
	}
	return reply{} // the name exists, and has nothing of that type
}

// pointer answers for the name of an address: a synthetic one has the name that it stands for.
func (r *Resolver) pointer(q dnsmessage.Question, name string) reply {
	addr, ok := reversed(name)
	if !ok {
		return reply{code: dnsmessage.RCodeNameError}
	}
	host := "localhost"
	if !addr.IsLoopback() {
		host, _ = r.Names.Name(addr)
	}
	if host == "" {
		return reply{code: dnsmessage.RCodeNameError}
	}
	to, err := dnsmessage.NewName(host + ".")
	if err != nil || q.Type != dnsmessage.TypePTR && q.Type != dnsmessage.TypeALL {
		return reply{}
	}
	h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	return reply{answers: []dnsmessage.Resource{{Header: h, Body: &dnsmessage.PTRResource{PTR: to}}}}
}

// reversed is the address that a name below in-addr.arpa or ip6.arpa is about.
func reversed(name string) (netip.Addr, bool) {
	sep, count := ".", 4
	digits, four := strings.CutSuffix(name, ".in-addr.arpa")
	if !four {
		digits, sep, count = strings.TrimSuffix(name, ".ip6.arpa"), "", 32
	}
	labels := strings.Split(digits, ".")
	if len(labels) != count {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := len(labels) - 1; i >= 0; i-- {
		b.WriteString(labels[i])
		switch {
		case four && i > 0:
			b.WriteString(sep)
		case !four && len(labels[i]) != 1:
			return netip.Addr{}, false
		case !four && i > 0 && i%4 == 0:
			b.WriteByte(':')
		}
	}
	addr, err := netip.ParseAddr(b.String())
	return addr, err == nil
}

// pack writes a reply. It says that recursion is available, or resolvers would take an empty answer for a broken server (glibc, Go: "lame").
func pack(query dnsmessage.Header, q *dnsmessage.Question, edns *opt, re reply) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: query.ID, Response: true, OpCode: query.OpCode, RecursionDesired: query.RecursionDesired, RecursionAvailable: true,
			CheckingDisabled: query.CheckingDisabled, RCode: re.code & 0xf,
		},
		Answers: re.answers,
	}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	if edns != nil {
		var h dnsmessage.ResourceHeader
		if h.SetEDNS0(maxPayload, re.code, false) != nil {
			return nil
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.AppendPack(make([]byte, 0, 512))
	if err != nil {
		return nil
	}
	return b
}

// rate is how many queries a sandbox may make. A flood is met with silence, which is what a busy server does.
type rate struct {
	perSecond, burst float64
	left             float64
	last             time.Time
}

func (r *rate) take(now time.Time) bool {
	r.left = min(r.burst, r.left+now.Sub(r.last).Seconds()*r.perSecond)
	r.last = now
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}
