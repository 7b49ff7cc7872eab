package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/keeper"
	"casemate.dev/internal/gate/wire"
	"golang.org/x/net/dns/dnsmessage"
)

// question returns the first about a host that matches, when it has come.
func (b *box) question(what, host string, over bool) wire.Question {
	b.t.Helper()
	late := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		i := slices.IndexFunc(b.asked, func(q wire.Question) bool { return q.Host == host && q.Over == over })
		if i >= 0 {
			q := b.asked[i]
			b.mu.Unlock()
			return q
		}
		all := slices.Clone(b.asked)
		b.mu.Unlock()
		select {
		case <-b.arrived:
		case <-time.After(100 * time.Millisecond):
		case <-late:
			b.t.Fatalf("no question: %s; there are %+v", what, all)
		}
	}
}

func (b *box) questions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, q := range b.asked {
		if !q.Over {
			n++
		}
	}
	return n
}

// TestAsked: what no rule allows waits for an answer, which holds for what waited and for nothing else. Nobody outside hears of the name before.
func TestAsked(t *testing.T) {
	outside.name("asked.example.com", "203.0.113.5")
	outside.serve(t, "203.0.113.5:443", echo)
	outside.serve(t, "203.0.113.5:8080", echo)
	asking := wire.Rules{Ask: true, Deny: []string{"evil.example.com"}, Allow: []wire.Allow{allow("allowed.example.com", 443)}}
	b := open(t, asking)
	if code, _ := b.lookup("evil.example.com", v4); code != dnsmessage.RCodeNameError {
		t.Errorf("what a rule denies: %v", code)
	}
	outside.forget()
	first := b.dial("asked.example.com", 443, v4)
	q := b.question("the first", "asked.example.com", false)
	b.await("asked", verdict(wire.Asked, "asked.example.com"))
	if outside.wasAsked("asked.example.com") {
		t.Error("the name was looked up before there was an answer")
	}
	b.send(wire.Message{Answer: &wire.Answer{ID: q.ID + 9, Yes: true, By: "to another question"}}, nil)
	b.send(wire.Message{Answer: &wire.Answer{ID: q.ID, Yes: true, By: "a test's yes"}}, nil)
	if err := ping(first); err != nil {
		t.Errorf("after a yes: %v", err)
	}
	opened := b.await("opening", verdict(wire.Opened, "asked.example.com"))
	if opened.Rule != "a test's yes" || b.questions() != 1 {
		t.Errorf("%+v after %d questions", opened, b.questions())
	}
	b.question("it is over", "asked.example.com", true)

	// It was for once: other rules leave it, and the next connection is asked about anew.
	asking.Allow = append(asking.Allow, allow("other.example.com", 443))
	b.send(wire.Message{Rules: asking}, nil)
	third, fourth := b.dial("asked.example.com", 443, v4), b.dial("asked.example.com", 443, v6)
	if err := ping(first); err != nil {
		t.Errorf("other rules ended what was let through: %v", err)
	}
	eventually(t, "it is asked anew", func() bool { return b.questions() == 2 })
	b.mu.Lock()
	q = b.asked[len(b.asked)-1]
	b.mu.Unlock()
	b.send(wire.Message{Answer: &wire.Answer{ID: q.ID, By: "a test's no"}}, nil)
	refused(t, third, "")
	refused(t, fourth, "") // whether it came before the answer or after it
	b.await("the no", func(r wire.Record) bool { return r.Verdict == wire.Denied && r.Why == "a test's no" })
	refused(t, b.dial("asked.example.com", 443, v4), "")
	if b.questions() != 2 {
		t.Errorf("it was asked again after a no: %d questions", b.questions())
	}

	// A rule is an answer too, and a rule that denies ends what was let through.
	waits := b.dial("asked.example.com", 8080, v4)
	eventually(t, "another port is another question", func() bool { return b.questions() == 3 })
	asking.Allow = append(asking.Allow, allow("asked.example.com", 8080))
	b.send(wire.Message{Rules: asking}, nil)
	if err := ping(waits); err != nil {
		t.Errorf("after the rule came: %v", err)
	}
	asking.Deny = append(asking.Deny, "asked.example.com")
	b.send(wire.Message{Rules: asking}, nil)
	refused(t, first, "")

	// Addresses that take a rule for them are not asked about.
	for _, host := range []string{"10.0.0.5", "169.254.169.254", "203.0.113.1"} {
		refused(t, b.dial(host, 443, v4), "")
		r := b.await(host, verdict(wire.Denied, host))
		if !strings.Contains(r.Why, "not asked about") {
			t.Errorf("%+v", r)
		}
	}

	// When nobody is there any more, what waits is denied at once, and so is what comes.
	last := b.dial("gone.example.com", 443, v4)
	b.question("the last", "gone.example.com", false)
	b.send(wire.Message{Rules: wire.Rules{Unasked: "nobody is there"}}, nil)
	refused(t, last, "")
	b.await("its reason", func(r wire.Record) bool {
		return r.Verdict == wire.Denied && r.Name == "gone.example.com" && strings.Contains(r.Why, "nobody is there")
	})
	if code, _ := b.lookup("gone.example.com", v4); code != dnsmessage.RCodeNameError {
		t.Errorf("while nobody is there: %v", code)
	}
}

// TestAskedWithinBounds: a question is over after a while, and a sandbox that asks for ever fills nothing.
func TestAskedWithinBounds(t *testing.T) {
	limits := keeper.DefaultLimits()
	limits.Answer = 3 * time.Second
	b := openWith(t, limits, wire.Rules{Ask: true})
	var waiting []*net.TCPConn
	for i := range wire.MaxQuestions {
		if i == 1 { // the same again is no further question
			waiting = append(waiting, b.dial("n0.example.com", 443, v4))
		}
		waiting = append(waiting, b.dial(fmt.Sprintf("n%d.example.com", i), 443, v4))
		b.question("one of many", fmt.Sprintf("n%d.example.com", i), false)
	}
	start := time.Now()
	refused(t, b.dial("more.example.com", 443, v4), "")
	r := b.await("one too many", verdict(wire.Denied, "more.example.com"))
	if !strings.Contains(r.Why, "wait for an answer already") && time.Since(start) < limits.Answer {
		t.Errorf("%+v", r)
	}
	for _, c := range waiting {
		refused(t, c, "")
	}
	r = b.await("the first", verdict(wire.Denied, "n0.example.com"))
	if !strings.Contains(r.Why, "nobody answered within 3s") {
		t.Errorf("%+v", r)
	}
	b.question("it is over", "n0.example.com", true)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) { // between two looks
		if time.Now().After(late) {
			t.Fatal(what)
		}
	}
}
