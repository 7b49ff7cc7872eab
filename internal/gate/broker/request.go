package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/secret/ask"
)

// Site is where a connection leads.
type Site struct {
	Host   string
	Port   int
	Secure bool // by TLS, and the host's certificate was verified
}

// Use is what one request is given. The zero Use is of one that has no placeholder in it.
type Use struct {
	site   Site
	ask    rules.Request
	edits  []edit
	values map[string]string // by the placeholder
	list   []replacement
	signed *signed // nil: it is not signed anew
}

// edit is one placeholder in its place.
type edit struct {
	secret wire.Secret
	field  string // of the header, as net/http writes it; empty: the query
	index  int    // of the field's values, or of the query's parts
	basic  bool   // it is in the name or password of basic authentication
}

// Any says whether anything is to be put in.
func (u *Use) Any() bool { return len(u.edits) > 0 || u.signed != nil }

// Read looks for placeholders in a request's head: each is either in its place, or a leak.
func (b *Broker) Read(at Site, r *http.Request, q rules.Request) (*Use, *Leak) {
	u := &Use{site: at, ask: q}
	granted, why := b.granted(at, r, q)
	if unsigned := u.readSigned(granted, r); unsigned != nil {
		why = instead(why, granted, unsigned)
	}
	for name, values := range r.Header {
		where := "the field " + quote(name) + " of the request"
		if l := b.InName(name); l != nil {
			l.Where = "the name of a field of the request"
			return nil, l
		}
		for i, value := range values {
			rest := u.signed.without(name, value)
			for _, s := range granted {
				if e, left, ok := inField(s, name, rest); ok {
					e.index, rest = i, left
					u.edits = append(u.edits, e)
				}
			}
			if l := b.inField(name, rest, where); l != nil {
				l.Why = why(l)
				return nil, l
			}
		}
	}
	if l := b.In(r.Method, "the method of the request"); l != nil {
		return nil, l
	}
	if l := b.readTarget(u, granted, r.URL); l != nil {
		l.Why = why(l)
		return nil, l
	}
	return u, nil
}

// granted are the secrets that this request may have, and why it may not have another one.
func (b *Broker) granted(at Site, r *http.Request, q rules.Request) (list []wire.Secret, why func(*Leak) string) {
	reasons := map[string]string{}
	for _, s := range b.Book.Set().SecretsAt(at.Host, at.Port) {
		switch {
		case s.Withdrawn:
			reasons[s.Name] = "the policy names it no more"
		case !at.Secure:
			reasons[s.Name] = "it is replaced in TLS only"
		case !rules.TakesSecret(s, q):
			reasons[s.Name] = fmt.Sprintf("the policy (%s) names other methods or paths for it", s.Origin)
		case s.Place == policy.PlaceGit && !OfGit(r.URL):
			reasons[s.Name] = fmt.Sprintf("the policy (%s) names requests of git for it", s.Origin)
		default:
			list = append(list, s)
			reasons[s.Name] = fmt.Sprintf("the policy (%s) names %s for it", s.Origin, placeText(s.Place))
		}
	}
	return list, func(l *Leak) string {
		if l.Value {
			return ""
		}
		if text, ok := reasons[l.Name]; ok {
			return text
		}
		return "it is for other hosts"
	}
}

// instead says of the secrets that sign why they do not, and of the others what was said.
func instead(why func(*Leak) string, granted []wire.Secret, unsigned error) func(*Leak) string {
	return func(l *Leak) string {
		if !l.Value && slices.ContainsFunc(granted, func(s wire.Secret) bool { return signs(s) && s.Name == l.Name }) {
			return unsigned.Error()
		}
		return why(l)
	}
}

func placeText(place string) string {
	if place == "" {
		return "a field of the header whose value it is"
	}
	return place
}

// OfGit is for what git asks for over HTTPS (gitprotocol-http(5)).
func OfGit(u *url.URL) bool {
	switch {
	case strings.HasSuffix(u.Path, "/info/refs"):
		return strings.HasPrefix(u.RawQuery, "service=git-")
	case strings.HasSuffix(u.Path, "/git-upload-pack"), strings.HasSuffix(u.Path, "/git-receive-pack"):
		return true
	}
	return false
}

// inField finds a secret's placeholder in its place in a field. rest is the value without it.
func inField(s wire.Secret, name, value string) (e edit, rest string, ok bool) {
	e = edit{secret: s, field: name}
	if !strings.Contains(value, s.Placeholder) {
		if !takesBasic(s.Place, name) {
			return e, value, false
		}
		user, password, found := basic(value)
		if !found || user != s.Placeholder && password != s.Placeholder {
			return e, value, false
		}
		e.basic = true
		return e, "Basic " + wholly(user, s.Placeholder, "") + ":" + wholly(password, s.Placeholder, ""), true
	}
	wanted, named := strings.CutPrefix(s.Place, policy.PlaceHeader)
	scheme, after, two := strings.Cut(value, " ")
	switch {
	case named:
		ok = strings.EqualFold(name, wanted)
	case s.Place == policy.PlaceBearer:
		ok = name == "Authorization" && two && strings.EqualFold(scheme, "Bearer") && after == s.Placeholder
	case s.Place == "":
		ok = credential(name) && (value == s.Placeholder || name == "Authorization" && two && after == s.Placeholder)
	}
	if !ok {
		return e, value, false
	}
	return e, strings.ReplaceAll(value, s.Placeholder, ""), true
}

// credential is false for the fields that say what a request is or where it comes from, and that hosts write down or show to others.
func credential(name string) bool {
	return !slices.Contains([]string{"Referer", "Origin", "User-Agent", "From", "Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Content-Type", "Content-Encoding",
		"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url"}, name)
}

// wholly is the value where the text is the placeholder and nothing else, and otherwise the text.
func wholly(text, placeholder, value string) string {
	if text == placeholder {
		return value
	}
	return text
}

func takesBasic(place, name string) bool {
	return name == "Authorization" && slices.Contains([]string{"", policy.PlaceBasic, policy.PlaceGit, policy.PlaceHeader + "authorization"}, place)
}

// basic reads basic authentication (RFC 7617).
func basic(value string) (user, password string, ok bool) {
	scheme, text, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(plain), ":")
}

// inField looks through what is left of a field's value.
func (b *Broker) inField(name, value, where string) *Leak {
	if user, password, ok := basic(value); ok {
		if l := b.In(user+"\n"+password, where); l != nil {
			return l
		}
	}
	return b.In(value, where)
}

// readTarget looks through the path and the query.
func (b *Broker) readTarget(u *Use, granted []wire.Secret, target *url.URL) *Leak {
	parts := strings.Split(target.RawQuery, "&")
	for i, part := range parts {
		if u.signed != nil && u.signed.signature.Holds(part) {
			parts[i] = ""
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		for _, s := range granted {
			if wanted, ok := strings.CutPrefix(s.Place, policy.PlaceQuery); ok && err1 == nil && err2 == nil && name == wanted && value == s.Placeholder {
				u.edits = append(u.edits, edit{secret: s, index: i})
				parts[i] = ""
			}
		}
	}
	if l := b.In(strings.Join(parts, "&"), "the query of the request"); l != nil {
		return l
	}
	path := target.EscapedPath() + target.Opaque
	if l := b.In(path, "the path of the request"); l != nil {
		return l
	}
	return b.In(strings.ReplaceAll(path, "/", ""), "the path of the request")
}

// Fetch asks the store for what is to be put in.
func (b *Broker) Fetch(ctx context.Context, u *Use) error {
	u.values = map[string]string{}
	for _, e := range u.edits {
		s := e.secret
		if _, done := u.values[s.Placeholder]; done {
			continue
		}
		if err := b.value(ctx, u, s, func(value []byte) error { return b.put(u, s, value) }); err != nil {
			return fmt.Errorf("the secret %q: %w", s.Name, err)
		}
	}
	return b.fetchKeys(ctx, u)
}

// holds says whether a secret is still for a request: a long time may have gone by since its head was read, in which its body was waited for.
func (b *Broker) holds(s wire.Secret, u *Use) bool {
	return slices.ContainsFunc(b.Book.Set().SecretsAt(u.site.Host, u.site.Port), func(now wire.Secret) bool {
		return now.Name == s.Name && now.Placeholder == s.Placeholder && now.Place == s.Place && !now.Withdrawn && rules.TakesSecret(now, u.ask)
	})
}

// maxTaken is for how many different requests one may be taken.
const maxTaken = 8

// value asks the store for a value, for every request that a server may take this one for: a grant of GET is none for a GET that asks to be taken for a DELETE.
func (b *Broker) value(ctx context.Context, u *Use, s wire.Secret, f func([]byte) error) error {
	if !b.holds(s, u) {
		return &Refused{"the policy names it no more, or otherwise"}
	}
	var all []ask.Request
	for _, method := range u.ask.Methods {
		for _, path := range u.ask.Paths {
			r := ask.Request{Entry: s.Name, Host: u.site.Host, Port: u.site.Port, Method: method, Path: path}
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
			if len(all) > maxTaken {
				return &Refused{fmt.Sprintf("the header asks for the request to be taken for more than %d others", maxTaken)}
			}
		}
	}
	for _, r := range all[1:] {
		if err := b.Store.Use(ctx, r, func([]byte) error { return nil }); err != nil {
			return err
		}
	}
	return b.Store.Use(ctx, all[0], f)
}

// put notes a value. What can be in no header is refused here: net/http would say so, and quote what was meant to be sent.
func (b *Broker) put(u *Use, s wire.Secret, value []byte) error {
	if err := presentable(value); err != nil {
		return err
	}
	b.Prints.Add(Found{Name: s.Name, Value: true}, value)
	u.values[s.Placeholder] = string(value) // net/http wants text, and keeps it: neither is ever overwritten
	u.list = append(u.list, replacements(value, []byte(s.Placeholder))...)
	return nil
}

func presentable(value []byte) error {
	if len(value) < Shortest {
		return fmt.Errorf("its value is shorter than %d bytes, so it could not be told from other text", Shortest)
	}
	for _, c := range value {
		if c < ' ' || c >= 0x7f {
			return errors.New("its value holds what cannot be in a request's header, such as the end of a line")
		}
	}
	return nil
}

// Apply puts the values in.
func (u *Use) Apply(h http.Header, target *url.URL) {
	parts := strings.Split(target.RawQuery, "&")
	for _, e := range u.edits {
		value := u.values[e.secret.Placeholder]
		switch {
		case e.field == "":
			name, _, _ := strings.Cut(parts[e.index], "=")
			parts[e.index] = name + "=" + url.QueryEscape(value)
		case e.index >= len(h[e.field]): // it is about one connection only, and went with it
		case e.basic:
			user, password, _ := basic(h[e.field][e.index])
			both := wholly(user, e.secret.Placeholder, value) + ":" + wholly(password, e.secret.Placeholder, value)
			h[e.field][e.index] = "Basic " + base64.StdEncoding.EncodeToString([]byte(both))
		default:
			h[e.field][e.index] = strings.ReplaceAll(h[e.field][e.index], e.secret.Placeholder, value)
		}
	}
	target.RawQuery = strings.Join(parts, "&")
}

// End overwrites what of the values can be overwritten.
func (u *Use) End() {
	u.signed.end()
	wipe(u.list)
	u.values, u.list = nil, nil
}

func quote(name string) string {
	if len(name) > 40 {
		name = name[:40] + "…"
	}
	return name
}
