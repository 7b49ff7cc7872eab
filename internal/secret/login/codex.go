package login

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// CodexAccount is the name of the number of the ChatGPT account that Codex is logged in to. It goes beside the token, in a field of its own.
const CodexAccount = "codex-account"

// ofCodex is @openai/codex 0.169.0, and github.com/openai/codex, codex-rs/login.
func ofCodex(name, beside string, form codex) Kind {
	return Kind{
		Name: name, Beside: beside, Agent: "Codex", Again: "run codex login outside, with a ChatGPT account", variable: "CODEX_HOME", dir: ".codex", file: "auth.json",
		endpoint: "https://auth.openai.com/oauth/token", client: "app_EMoamEEZ73f0CkXaXp7hrann", form: form,
	}
}

// Codex's file is {"auth_mode", "OPENAI_API_KEY", "tokens": {"id_token", "access_token", "refresh_token", "account_id"}, "last_refresh", ...}. Who has given it an
// API key has no tokens. Another login that is kept in the operating system's keyring is not found.
const (
	codexKey  = "tokens"
	codexTime = "last_refresh"
	unread    = 8 * 24 * time.Hour // after so long, Codex renews a token that does not say when it ends
)

// codex is the form of that file: of the token, or of the account's number.
type codex struct{ account bool }

type codexLogin struct {
	id, access, refresh, account string
	last                         time.Time
}

func loginOfCodex(contents []byte) (l codexLogin, err error) {
	var all, own map[string]json.RawMessage
	if json.Unmarshal(contents, &all) != nil {
		return l, errDamaged
	}
	if text := all[codexKey]; text == nil || string(text) == "null" {
		return l, errNone
	}
	if json.Unmarshal(all[codexKey], &own) != nil {
		return l, errDamaged
	}
	if err := exactly(own, map[string]any{"id_token": &l.id, "access_token": &l.access, "refresh_token": &l.refresh, "account_id": &l.account}); err != nil {
		return l, err
	}
	return l, exactly(all, map[string]any{codexTime: &l.last})
}

func (c codex) read(contents []byte) (tokens, error) {
	l, err := loginOfCodex(contents)
	t := tokens{access: l.access, refresh: l.refresh}
	switch expires, says := endOf(l.access); {
	case c.account:
		t = tokens{access: l.account} // it does not end
	case says:
		t.expires = expires
	case !l.last.IsZero():
		t.expires = l.last.Add(unread)
	}
	if err == nil && t.access == "" {
		err = errNone
	}
	return t, err
}

// latest is the end of year 9999, beyond which no time can be written.
const latest = 253402300799

// endOf is when a JWT says that it ends (RFC 7519, 4.1.4). Nothing of it is verified: it is the person's own file.
func endOf(jwt string) (at time.Time, says bool) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return at, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	defer clear(payload)
	var claims struct {
		Expires *float64 `json:"exp"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Expires == nil || *claims.Expires < 0 || *claims.Expires > latest {
		return at, false
	}
	return time.Unix(int64(*claims.Expires), 0), true
}

func (codex) request(contents []byte, client string) any {
	l, _ := loginOfCodex(contents)
	return map[string]string{"client_id": client, "grant_type": "refresh_token", "refresh_token": l.refresh}
}

func (codex) has(contents []byte, refresh string) (bool, error) {
	l, err := loginOfCodex(contents)
	return l.refresh == refresh, err
}

func (codex) renewed(contents []byte, a answer, now time.Time) ([]byte, error) {
	change := map[string]any{"access_token": a.Access}
	for field, value := range map[string]string{"refresh_token": a.Refresh, "id_token": a.ID} {
		if value != "" {
			change[field] = value
		}
	}
	out, err := within(contents, codexKey, change)
	if err != nil {
		return nil, err
	}
	defer clear(out)
	var all map[string]json.RawMessage
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, err
	}
	if all[codexTime], err = json.Marshal(now.UTC()); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}
