package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/event"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/relay"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// Question is a host that a running sandbox wants to reach and no rule allows or denies. A connection waits for the answer.
type Question struct {
	Sandbox string    `json:"sandbox"`
	ID      uint64    `json:"id"`
	Target  string    `json:"target"` // HOST:PORT, as a rule can name it
	Until   time.Time `json:"until"`  // then it is too late
}

// Answer is what a person says to a question.
type Answer string

const (
	Once    Answer = "once"    // what waits now
	Session Answer = "session" // until the sandbox's run ends
	Hour    Answer = "hour"
	Always  Answer = "always" // and in the person's own policy
	No      Answer = "no"     // and nobody is asked about it again in this run
	None    Answer = "none"   // nor about anything else
)

// answered is the file by which a supervisor hears of an answer.
type answered struct {
	ID     uint64 `json:"id"`
	Target string `json:"target"` // again, so that a number of an earlier run answers nothing
	Say    Answer `json:"say"`
	By     string `json:"by"`
}

const answerPrefix = "answer-" // and the question's number; beside the layer, like the grants

// Questions are those that wait for an answer, the one that is over first at the front.
func Questions(st *store.Store) (list []Question) {
	files, err := os.ReadDir(st.QuestionsDir())
	if err != nil {
		return nil
	}
	for _, f := range files {
		text, err := store.Read(filepath.Join(st.QuestionsDir(), f.Name()), 64<<10)
		var of []Question
		if err != nil || json.Unmarshal(text, &of) != nil {
			continue // it is over
		}
		list = append(list, of...)
	}
	list = slices.DeleteFunc(list, func(q Question) bool { return !time.Now().Before(q.Until) })
	slices.SortStableFunc(list, func(a, b Question) int { return a.Until.Compare(b.Until) })
	return list
}

// Answer gives a person's answer to a question. Their tiers decide whether it can be a yes, also for once.
func (p Person) Answer(q Question, say Answer, by string) error {
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return err
	}
	box, err := st.Find(q.Sandbox)
	if err != nil {
		return err
	}
	switch say {
	case Once:
		_, err = p.mayAllow(box.Record.Project, q.Target)
	case Session:
		_, err = Allow(p, q.Sandbox, q.Target, time.Time{}, by)
	case Hour:
		_, err = Allow(p, q.Sandbox, q.Target, time.Now().Add(time.Hour), by)
	case Always:
		if _, err = Allow(p, q.Sandbox, q.Target, time.Time{}, by); err == nil {
			_, err = p.SaveRule(q.Target)
		}
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(answered{q.ID, q.Target, say, by})
	if err != nil {
		return err
	}
	return store.Replace(filepath.Join(box.Dir, answerPrefix+strconv.FormatUint(q.ID, 10)), text)
}

const goneSoon = 200 * time.Millisecond

// asking is what a supervisor knows of the questions of its sandbox.
type asking struct {
	on     bool   // the plan says so
	there  bool   // somebody watches
	closed string // who wants to hear no more of this sandbox, and when
	list   []Question
	told   bool // the file says what the list does
	heard  int  // the inotify watch of those who watch
	again  *relay.Timer
	until  time.Time // for so long it is looked again who watches
}

// watchWatchers hears of those who come to watch, and go.
func (g *gateway) watchWatchers(loop *relay.Loop) error {
	a, path := &g.asking, g.run.Store.WatchersPath()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		unix.Close(fd)
		a.heard, err = unix.InotifyAddWatch(g.grants, path, unix.IN_MODIFY|unix.IN_CLOSE_WRITE)
	}
	if err == nil {
		err = store.MakeDir(g.run.Store.QuestionsDir())
	}
	if err != nil {
		return fmt.Errorf("watch for casemate watch: %w", err)
	}
	a.on, a.told, a.there = true, true, g.run.Store.Watched()
	a.again = loop.At(time.Time{}, func(now time.Time) time.Time {
		if g.look(); !a.there || now.After(a.until) {
			return time.Time{}
		}
		return now.Add(goneSoon)
	})
	g.stopAsking() // what a run before left
	return nil
}

func (g *gateway) questionsPath() string {
	return filepath.Join(g.run.Store.QuestionsDir(), g.run.Box.Record.ID+".json")
}

// stopAsking withdraws all questions.
func (g *gateway) stopAsking() {
	if g.asking.on {
		os.Remove(g.questionsPath())
	}
}

// heard acts on what was written beside the layer, and on who watches.
func (g *gateway) heard() {
	buf := make([]byte, 64<<10)
	n, err := unix.Read(g.grants, buf)
	if err != nil {
		return
	}
	reload, look := false, false
	notices(buf[:n], func(wd int32, mask uint32, name string) {
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			reload, look = true, true
		case g.asking.on && int(wd) == g.asking.heard:
			look = true
		case name == grantsFile:
			reload = true
		case g.asking.on && strings.HasPrefix(name, answerPrefix):
			if reload { // the rule that an answer speaks of comes first
				g.reload()
				reload = false
			}
			g.hear(name)
		}
	})
	if reload {
		g.reload()
	}
	if look {
		g.look()
		g.asking.until = time.Now().Add(10 * goneSoon) // a file's lock goes a moment after its closing is told (__fput in the kernel)
		g.asking.again.Reset(time.Now().Add(goneSoon))
	}
	g.tellQuestions()
}

// look sees whether somebody watches.
func (g *gateway) look() {
	if there := g.run.Store.Watched(); there != g.asking.there {
		g.asking.there = there
		g.reload()
	}
}

// asks says whether the gate is to ask, and why not where it could.
func (a *asking) asks() (ask bool, unasked string) {
	switch {
	case !a.on:
		return false, ""
	case a.closed != "":
		return false, a.closed
	case !a.there:
		return false, "nobody is there to be asked (casemate watch)"
	}
	return true, ""
}

// question takes one of the gate's, or takes one back. Whatever the gate says: at most as many as it may have, and none that no rule could allow.
func (g *gateway) question(q wire.Question) {
	a := &g.asking
	at := slices.IndexFunc(a.list, func(known Question) bool { return known.ID == q.ID })
	if q.Over && at >= 0 {
		a.list, a.told = slices.Delete(a.list, at, at+1), false
	}
	if ask, _ := a.asks(); q.Over || at >= 0 || q.ID == 0 || !ask || len(a.list) >= wire.MaxQuestions {
		return
	}
	about := Connection{Record: wire.Record{Name: q.Host, Port: q.Port}}
	target := about.Target()
	_, err := policy.Flags{Allow: []string{target}}.Source()
	if err == nil && (q.Port < 1 || !about.Allowable()) {
		err = fmt.Errorf("%q is no host and port", target)
	}
	if err != nil {
		g.answer(wire.Answer{ID: q.ID, By: "no rule can allow it: " + err.Error()})
		return
	}
	if g.look(); !a.there {
		return // the gate knows by now
	}
	a.list, a.told = append(a.list, Question{Sandbox: g.run.Box.Record.ID, ID: q.ID, Target: target, Until: time.Now().Add(wire.Waits)}), false
}

// tellQuestions writes the questions down for those who watch, once for all that have changed in a turn.
func (g *gateway) tellQuestions() {
	a := &g.asking
	if !a.on || a.told {
		return
	}
	a.told = true
	if len(a.list) == 0 {
		g.stopAsking()
		return
	}
	text, err := json.Marshal(a.list)
	if err == nil {
		err = store.Replace(g.questionsPath(), text)
	}
	if err != nil {
		g.run.emit(event.Event{Kind: event.Warned, Subject: "network", Detail: fmt.Sprintf("nobody can be asked: %v", err)})
	}
}

// hear takes an answer.
func (g *gateway) hear(name string) {
	path := filepath.Join(g.run.Box.Dir, name)
	text, err := store.Read(path, 4<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	os.Remove(path)
	var a answered
	if err != nil || json.Unmarshal(text, &a) != nil {
		return
	}
	if !slices.ContainsFunc(g.asking.list, func(q Question) bool { return q.ID == a.ID && q.Target == a.Target }) {
		if a.Say == Once || a.Say == No {
			return // it came too late
		}
	}
	by := a.By + ", " + time.Now().Format(time.DateTime)
	g.run.emit(event.Event{Kind: event.Answered, Subject: "net:" + a.Target, Detail: string(a.Say) + ", by " + a.By})
	switch a.Say {
	case Once:
		g.answer(wire.Answer{ID: a.ID, Yes: true, By: "once, by " + by})
	case No:
		g.answer(wire.Answer{ID: a.ID, By: "no was answered by " + by})
	case None:
		g.asking.closed = "no was answered to all that it asks, by " + by
		g.reload()
	}
}

// answer passes an answer on.
func (g *gateway) answer(a wire.Answer) {
	text, err := json.Marshal(wire.Message{Answer: &a})
	if err == nil {
		_ = unix.Sendmsg(g.fd, text, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) // a gate that takes nothing lets nothing through, and keeps nobody waiting
	}
}
