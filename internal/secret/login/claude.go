package login

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

var errNone = errors.New("nobody is logged in")

// Claude Code's file is {"claudeAiOauth": {"accessToken", "refreshToken", "expiresAt" in milliseconds, "scopes", ...}, ...}. Beside it lie the logins of MCP
// servers, and other things that are not ours.
const (
	claudeKey = "claudeAiOauth"
	millis    = int64(time.Second / time.Millisecond)
)

type claudeLogin struct {
	access, refresh, client string
	expires                 *float64
	scopes                  []string
}

func loginOfClaude(contents []byte) (l claudeLogin, err error) {
	var all, own map[string]json.RawMessage
	if json.Unmarshal(contents, &all) != nil {
		return l, errDamaged
	}
	if text := all[claudeKey]; text == nil || string(text) == "null" {
		return l, errNone
	}
	if json.Unmarshal(all[claudeKey], &own) != nil {
		return l, errDamaged
	}
	return l, exactly(own, map[string]any{"accessToken": &l.access, "refreshToken": &l.refresh, "clientId": &l.client, "expiresAt": &l.expires, "scopes": &l.scopes})
}

// exactly reads fields by their very names: package json would take one that is written in capitals for the same, which no agent does.
func exactly(object map[string]json.RawMessage, fields map[string]any) error {
	for name, to := range fields {
		if text := object[name]; text != nil && json.Unmarshal(text, to) != nil {
			return errDamaged
		}
	}
	return nil
}

// claude is the form of that file.
type claude struct{}

func (claude) read(contents []byte) (tokens, error) {
	l, err := loginOfClaude(contents)
	if err == nil && l.access == "" {
		err = errNone
	}
	t := tokens{access: l.access, refresh: l.refresh}
	if l.expires != nil { // Claude Code takes one without for one that does not end
		t.expires = time.UnixMilli(int64(*l.expires))
	}
	return t, err
}

func (claude) request(contents []byte, client string) any {
	l, _ := loginOfClaude(contents)
	if l.client != "" {
		client = l.client
	}
	r := map[string]string{"grant_type": "refresh_token", "refresh_token": l.refresh, "client_id": client}
	if len(l.scopes) > 0 {
		r["scope"] = strings.Join(l.scopes, " ")
	}
	return r
}

// has is true for one without a refresh token, too: Claude Code takes it out where it was refused, as the old one is once it was sent.
func (claude) has(contents []byte, refresh string) (bool, error) {
	l, err := loginOfClaude(contents)
	return l.refresh == "" || l.refresh == refresh, err
}

func (claude) renewed(contents []byte, a answer, now time.Time) ([]byte, error) {
	change := map[string]any{"accessToken": a.Access, "expiresAt": now.UnixMilli() + a.Seconds*millis}
	if a.Refresh != "" {
		change["refreshToken"] = a.Refresh
	}
	if scopes := strings.Fields(a.Scope); len(scopes) > 0 {
		change["scopes"] = scopes
	}
	return within(contents, claudeKey, change)
}

// within changes fields of an object that is a field of the whole, and keeps all others as they were written.
func within(contents []byte, key string, change map[string]any) ([]byte, error) {
	var all, own map[string]json.RawMessage
	if err := json.Unmarshal(contents, &all); err != nil {
		return nil, errDamaged
	}
	if err := json.Unmarshal(all[key], &own); err != nil || own == nil {
		return nil, errDamaged
	}
	for field, value := range change {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		own[field] = text
	}
	text, err := json.Marshal(own)
	if err != nil {
		return nil, err
	}
	all[key] = text
	return json.Marshal(all)
}
