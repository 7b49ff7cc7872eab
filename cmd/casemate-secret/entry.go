package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/book"
	"casemate.dev/internal/secret/stores"
	"casemate.dev/internal/workspace"
)

func kinds() (list []string) {
	for _, k := range secret.Kinds() {
		list = append(list, k.Name)
	}
	return list
}

// open reads the key, and asks for its passphrase where it has one.
func (d *desk) open() (*book.Keyed, error) { return book.Open(d.place, d.passphrase()) }

// entryNames are for completion, which asks for nothing.
func (d *desk) entryNames() (list []string) {
	place, err := book.Find(d.getenv)
	if err != nil {
		return nil
	}
	k, err := book.Open(place, nil)
	if err != nil {
		return nil
	}
	b, err := k.Read()
	if err != nil {
		return nil
	}
	defer b.Wipe()
	for _, e := range b.Entries {
		list = append(list, e.Name)
	}
	return list
}

// interrupted ends with Ctrl-C, so that a store that waits for somebody can be left.
func interrupted() (context.Context, func()) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// oneName is the argument of a verb that takes one. What else stands there is not quoted: it may be a value that somebody wrote there.
func oneName(verb string, args []string) (string, error) {
	if len(args) == 0 {
		return "", wrongUse("casemate secret list", "%s needs the name of a secret", verb)
	}
	if !ask.IsName(args[0]) {
		return "", wrongUse("letters, digits and - _ . make a name", "the first argument is no name of a secret")
	}
	if len(args) > 1 || looksLikeValue(args[0]) {
		return "", wrongUse("the value is asked for, or read from standard input; one that was written here may be in your shell's history and was seen by other programs: change it",
			"%s takes one name, and a value is never an argument", verb)
	}
	return args[0], nil
}

// looksLikeValue knows the beginnings of keys.
func looksLikeValue(name string) bool {
	for _, k := range secret.Kinds() {
		for _, p := range k.Prefixes {
			if strings.HasPrefix(name, p) && len(name) >= len(p)+16 {
				return true
			}
		}
	}
	return false
}

func noEntry(name string) error {
	return &secret.Problem{Err: fmt.Errorf("there is no secret %q", name), Help: "casemate secret list shows what there is; casemate secret set " + name}
}

// moment reads when something ends: after a time, such as 90d or 12h, or at a date.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+"\n", "%d\n", &n); err == nil && n > 0 && n < 100000 && fmt.Sprint(n) == days {
			return now.AddDate(0, 0, n), nil
		}
	}
	if t, err := time.ParseDuration(text); err == nil && t > 0 {
		return now.Add(t), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil && t.After(now) {
			return t.UTC(), nil
		}
	}
	return time.Time{}, wrongUse("write 90d, 12h or 2030-01-31", "%q is no time to come", text)
}

// grantFlags are those of set and grant.
type grantFlags struct {
	hosts, methods, paths    list
	project, preset, sandbox string
	period                   string
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func (g *grantFlags) add(fs *flag.FlagSet) {
	fs.Var(&g.hosts, "host", "`host` or HOST:PORT where it may be used; *.example.com: all below; may be repeated")
	fs.Var(&g.methods, "method", "only requests of this `method`; may be repeated")
	fs.Var(&g.paths, "path", "only requests to this `path`, as network.allow takes them; may be repeated")
	fs.StringVar(&g.project, "project", "", "only sandboxes of the project in `dir` (. is this one)")
	fs.StringVar(&g.preset, "preset", "", "only sandboxes with this preset: `name`")
	fs.StringVar(&g.sandbox, "sandbox", "", "only this sandbox: `id`")
	fs.StringVar(&g.period, "for", "", "for this `time` only: 1h, 30d, or until a date such as 2030-01-31")
}

// grants makes one grant for each port that the hosts name.
func (g *grantFlags) grants(now time.Time) ([]book.Grant, error) {
	expires, err := moment(g.period, now)
	if err != nil {
		return nil, err
	}
	base := book.Grant{Preset: g.preset, Sandbox: g.sandbox, Methods: g.methods, Paths: g.paths, Expires: expires}
	if g.project != "" {
		if base.Project, err = projectOf(g.project); err != nil {
			return nil, err
		}
	}
	var list []book.Grant
	for _, h := range g.hosts {
		rule, err := parseHost(h)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(g book.Grant) bool { return slices.Equal(g.Ports, rule.Ports) })
		if i < 0 {
			one := base
			one.Ports = rule.Ports
			list, i = append(list, one), len(list)
		}
		list[i].Hosts = append(list[i].Hosts, rule.Host)
	}
	if len(list) == 0 && (base.Project != "" || base.Preset != "" || base.Sandbox != "" || len(base.Methods)+len(base.Paths) > 0 || g.period != "") {
		return nil, wrongUse("add --host HOST", "a grant names a host")
	}
	return list, nil
}

// shown is an entry as list prints it.
type shown struct {
	book.Entry
	Where   string       `json:"where"`
	Expired bool         `json:"expired"`
	LastUse *time.Time   `json:"last_use,omitempty"`
	Shape   secret.Shape `json:"shape"`
}

func (d *desk) printJSON(v any) error {
	e := json.NewEncoder(d.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func show(e book.Entry, now time.Time) shown {
	if e.Grants == nil {
		e.Grants = []book.Grant{}
	}
	return shown{Entry: e, Where: stores.Describe(e.Source), Expired: book.Expired(e.Expires, now), Shape: e.Shape}
}

// words say what a grant lets whom do.
func words(g book.Grant) string {
	var who []string
	for _, p := range []struct{ what, name string }{{"project ", g.Project}, {"preset ", g.Preset}, {"sandbox ", g.Sandbox}} {
		if p.name != "" {
			who = append(who, p.what+workspace.Visible(p.name)) // who named the directory may have cloned it
		}
	}
	text := "every sandbox whose policy names it"
	if len(who) > 0 {
		text = strings.Join(who, ", ")
	}
	var where []string
	for _, h := range g.Hosts {
		for _, p := range g.Ports {
			if p == 443 {
				where = append(where, h)
			} else {
				where = append(where, fmt.Sprintf("%s:%d", h, p))
			}
		}
	}
	text += " at " + strings.Join(where, ", ")
	if requests := append(slices.Clone(g.Methods), g.Paths...); len(requests) > 0 {
		text += " (" + strings.Join(requests, " ") + ")"
	}
	if !g.Expires.IsZero() {
		text += " until " + g.Expires.Local().Format("2006-01-02 15:04")
	}
	return text
}
