// Package ask is what a gate, its supervisor and the secret store say to each other: one JSON value in each packet of a SOCK_SEQPACKET pair.
package ask

import (
	"time"

	"casemate.dev/internal/secret"
)

// FD is the number of the store's end of the pair, in the process of `casemate-secret serve`. The other end is the supervisor's for Begin and Ready, and
// the gate's from then on.
const FD = 3

// The names of what the store keeps in the person's configuration of casemate, and the variable that names another key. Whoever has both files has the secrets.
const (
	BookName    = "secrets.age"
	KeyName     = "secrets.key"
	KeyVariable = "CASEMATE_SECRET_KEY_FILE"
)

// MaxMessage is how long a packet may be, in bytes. What would be longer is not sent, and a longer one is refused unread.
const MaxMessage = 64 << 10

// Begin is the first packet, from the supervisor: for whom values will be asked. Entries are all that will ever be.
type Begin struct {
	Sandbox string   `json:"sandbox"`           // its id
	Project string   `json:"project,omitempty"` // the project's absolute path
	Presets []string `json:"presets,omitempty"`
	Entries []Entry  `json:"entries"`
}

// Entry is one secret of the policy.
type Entry struct {
	Name  string   `json:"name"`
	Env   string   `json:"env"`   // the variable inside that holds the placeholder
	Hosts []string `json:"hosts"` // the hosts that the policy names for it, as patterns of policy.MatchHost

	Optional bool `json:"optional,omitempty"` // nobody asked for it: where the store has none for this sandbox, Ready has no shape for it
}

// Ready answers Begin: Ready with the shape of every entry that is not optional, or Error with a sentence and a hint, and then nothing runs.
type Ready struct {
	Ready  bool             `json:"ready,omitempty"`
	Shapes map[string]Shape `json:"shapes,omitempty"` // by the entry's name
	Error  string           `json:"error,omitempty"`
	Hint   string           `json:"hint,omitempty"`
}

// LoginVerb is how casemate has casemate-secret look for a person's login, or make a secret of it, and OfLogin what that answers on its standard output.
const LoginVerb = "__login"

type OfLogin struct {
	Have  []string `json:"have,omitempty"` // which of the names are secrets
	Made  bool     `json:"made,omitempty"` // the login became one
	Error string   `json:"error,omitempty"`
	Hint  string   `json:"hint,omitempty"`
}

// Shape is that of package secret.
type Shape = secret.Shape

// Request is the gate's, for one use: an HTTP request that the rules allow and that holds the entry's placeholder.
type Request struct {
	ID     uint64 `json:"id"` // never 0
	Entry  string `json:"entry"`
	Host   string `json:"host"`
	Port   int    `json:"port"`
	Method string `json:"method,omitempty"` // none: it is not of HTTP
	Path   string `json:"path,omitempty"`   // without the query
}

// Reply is the store's: the Value, or Refused with a sentence that says why and what to do; or, unasked and with ID 0, Changed. The gate forgets a value at
// Until, and what it keeps of an entry that Changed.
type Reply struct {
	ID      uint64       `json:"id,omitempty"`
	Value   secret.Value `json:"-"` // EncodeReply writes it as base64 in "value"
	Until   time.Time    `json:"until,omitzero"`
	Refused string       `json:"refused,omitempty"`
	Changed string       `json:"changed,omitempty"` // an entry's name: it was rotated, removed, revoked, or its grants changed
}
