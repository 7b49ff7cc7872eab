// Package event says what happened in a sandbox: one record type that the user, the agent and the audit log all see.
package event

import "time"

// Kind is what sort of thing happened.
type Kind string

const (
	Started  Kind = "started"  // the command was executed
	Exited   Kind = "exited"   // the command ended; Detail holds the status and, when it was stopped, the reason
	Denied   Kind = "denied"   // something was refused; Rule says by what, Allow says how to allow it
	Alarm    Kind = "alarm"    // a secret's placeholder, or its value, was where it must not be, and was stopped; Subject is "secret:" and its name
	Signed   Kind = "signed"   // a login by ssh was signed outside with a key of the person's; Subject is "ssh:" and the host, Detail says who and with which key
	Answered Kind = "answered" // a person decided about a connection that waited; Detail says what, where and by which terminal
	Ruled    Kind = "ruled"    // the policy files changed; Detail says what of it holds now, and what in the next run
	Hidden   Kind = "hidden"   // a path that appeared on the host during the run was hidden inside
	Limited  Kind = "limited"  // a limit stopped something; Subject is the limit
	Weakened Kind = "weakened" // a guarantee is absent because the policy allowed a fallback; Subject is the guarantee
	Warned   Kind = "warned"   // something the user should know about, such as a hidden file that git tracks
	Conflict Kind = "conflict" // the sandbox and the host changed the same path; each keeps its own
	Applied  Kind = "applied"  // a held change reached the host
	Offered  Kind = "offered"  // a port inside is offered on the host's loopback; Subject is "port:" and its number inside
	TakenIn  Kind = "taken-in" // it is no more
)

// Event is one record. Every field but Time, Sandbox and Kind may be empty.
type Event struct {
	Time    time.Time `json:"time"`
	Sandbox string    `json:"sandbox"`           // the sandbox's id
	Kind    Kind      `json:"kind"`              //
	Subject string    `json:"subject,omitempty"` // the path, limit or guarantee it is about
	Rule    string    `json:"rule,omitempty"`    // the policy line that decided, as policy.Origin prints it
	Allow   string    `json:"allow,omitempty"`   // how to allow it: a flag or a policy line
	Detail  string    `json:"detail,omitempty"`  // one sentence for people
}

// Line appends the event as one line of JSON. Every start writes two, and package encoding/json would first learn what an event looks like.
func (e *Event) Line(b []byte) []byte {
	b = e.Time.AppendFormat(append(b, `{"time":"`...), time.RFC3339Nano)
	b = append(b, '"')
	for _, f := range [...]struct{ key, value string }{
		{"sandbox", e.Sandbox}, {"kind", string(e.Kind)}, {"subject", e.Subject}, {"rule", e.Rule}, {"allow", e.Allow}, {"detail", e.Detail},
	} {
		if f.value != "" {
			b = quote(append(append(append(b, `,"`...), f.key...), `":`...), f.value)
		}
	}
	return append(b, "}\n"...)
}

// quote appends s as a string of JSON (RFC 8259, section 7). Bytes that are no text become U+FFFD.
func quote(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}

// Sink receives events, in order. It must not block for long: it is called while a sandbox runs.
type Sink func(Event)
