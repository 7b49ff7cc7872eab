// Package event says what happened in a sandbox: one record type that the user, the agent and the audit log all see.
package event

import "time"

// Kind is what sort of thing happened.
type Kind string

const (
	Started  Kind = "started"  // the command was executed
	Exited   Kind = "exited"   // the command ended; Detail holds the status and, when it was stopped, the reason
	Denied   Kind = "denied"   // something was refused; Rule says by what, Allow says how to allow it
	Hidden   Kind = "hidden"   // a path that appeared on the host during the run was hidden inside
	Limited  Kind = "limited"  // a limit stopped something; Subject is the limit
	Weakened Kind = "weakened" // a guarantee is absent because the policy allowed a fallback; Subject is the guarantee
	Warned   Kind = "warned"   // something the user should know about, such as a hidden file that git tracks
	Conflict Kind = "conflict" // the sandbox and the host changed the same path; each keeps its own
	Applied  Kind = "applied"  // a held change reached the host
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

// Sink receives events, in order. It must not block for long: it is called while a sandbox runs.
type Sink func(Event)
