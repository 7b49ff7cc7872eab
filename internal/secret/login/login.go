// Package login reads the login that an agent keeps in a file of its person's, and has it renewed at the vendor's.
package login

import (
	"fmt"
	"path/filepath"
	"time"

	"casemate.dev/internal/secret"
)

// Kind is an agent whose login is known. All of it was read in the agent's own program.
type Kind struct {
	Name     string // of the secret that it is, and of the agent's preset
	Agent    string // what people call it
	Again    string // how they log in again
	Beside   string // the kind that is another part of the same login; it has none itself
	variable string // names the agent's directory
	dir      string // below the home, without the variable
	file     string // in there
	endpoint string // where a login is renewed; nothing but a new casemate changes it
	client   string // the agent's own public id there
	locks    bool   // it keeps others out by directories
	form     form
}

// form is what an agent's file looks like.
type form interface {
	read(contents []byte) (tokens, error)                                     // errNone where nobody is logged in, errDamaged where that cannot be said
	request(contents []byte, client string) any                               // the JSON that asks for another login
	has(contents []byte, refresh string) (bool, error)                        // whether the login that was asked with is still the one there
	renewed(contents []byte, a answer, now time.Time) (out []byte, err error) // with all else in the file as it was
}

// Kinds lists those that are known.
func Kinds() []Kind {
	return []Kind{
		{ // @anthropic-ai/claude-code 2.1.330
			Name: "claude", Agent: "Claude Code", Again: "run claude outside, and in it /login", variable: "CLAUDE_CONFIG_DIR", dir: ".claude", file: ".credentials.json",
			endpoint: "https://platform.claude.com/v1/oauth/token", client: "9d1c250a-e61b-44d9-88ed-5944d1962f5e",
			locks: true, form: claude{},
		},
		ofCodex("codex", CodexAccount, codex{}),
		ofCodex(CodexAccount, "", codex{account: true}),
	}
}

// KindOf is the kind of a name; ok says whether there is one.
func KindOf(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Where is the file of this person's login. Links of directories are followed, once and for all: whoever changes one later leads nobody elsewhere.
func (k Kind) Where(getenv func(string) string) (string, error) {
	dir := getenv(k.variable)
	if dir == "" {
		dir = filepath.Join(getenv("HOME"), k.dir)
	}
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%s is in %q, which is no absolute path", k.Agent, dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", k.none(filepath.Join(dir, k.file))
	}
	return filepath.Join(real, k.file), nil
}

// File is one login.
type File struct {
	Kind
	Path string
}

// At is the login of a kind in a file.
func At(name, path string) (File, error) {
	k, known := KindOf(name)
	if !known {
		return File{}, fmt.Errorf("this version knows no login %q", name)
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return File{}, fmt.Errorf("the login %q is in %q, which is no absolute path", name, path)
	}
	return File{k, path}, nil
}

// tokens are what a login consists of. They are text, because package json makes text of what it reads: they lie in this process's memory until the collector has
// freed them and something else was written there.
type tokens struct {
	access, refresh string
	expires         time.Time // the zero one: never
}

// early is how long before its end a login is renewed: Claude Code's own time.
const early = 5 * time.Minute

func (t tokens) due(now time.Time) bool {
	return t.expires != time.Time{} && !now.Add(early).Before(t.expires)
}

func (t tokens) over(now time.Time) bool { return t.expires != time.Time{} && !now.Before(t.expires) }

func (t tokens) value() (secret.Value, time.Time, error) {
	v, err := secret.New([]byte(t.access))
	return v, t.expires, err
}

// answer is a token endpoint's (RFC 6749, 5.1 and 6).
type answer struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"` // none: the one that was sent holds on
	Seconds int64  `json:"expires_in"`
	Scope   string `json:"scope"`
	ID      string `json:"id_token"`
}

func problem(help, format string, args ...any) error {
	return &secret.Problem{Err: fmt.Errorf(format, args...), Help: help}
}

// none is the error for a file that is not there, or has no login in it.
func (k Kind) none(path string) error {
	return problem(k.Again, "%w to %s: there is no login in %q", errNone, k.Agent, path)
}
