// Package plan resolves a policy for this host and this command into exactly what will be enforced.
//
// It does no I/O: what it needs to know of the machine comes in as facts, so that most of the security meaning is tested without a kernel.
// The engine does exactly what the plan says; `casemate plan` prints it.
package plan

import (
	"net/netip"
	"time"
)

// Mode is how the native engine confines on this host.
type Mode string

const (
	Rootless Mode = "rootless" // user namespace of an ordinary user
	Root     Mode = "root"     // the same, made by root for the project's owner or an unused uid
	Landlock Mode = "landlock" // the fallback: no namespaces; only by a word in the policy
)

// Plan is what will be enforced.
type Plan struct {
	Mode       Mode        `json:"mode"`
	Level      string      `json:"level"`
	User       User        `json:"user"`
	Command    Command     `json:"command"`
	Workspace  Workspace   `json:"workspace"`
	Namespaces []string    `json:"namespaces"`
	Mounts     []Mount     `json:"mounts"`
	Landlock   Rules       `json:"landlock"`
	Syscalls   Syscalls    `json:"syscalls"`
	Network    Network     `json:"network"`
	Secrets    []Secret    `json:"secrets,omitempty"`
	SSH        []Login     `json:"ssh,omitempty"`
	Limits     []Limit     `json:"limits"`
	Guarantees []Guarantee `json:"guarantees"`
	Openings   []Opening   `json:"openings"`
	Notes      []string    `json:"notes,omitempty"`
}

// Network is what the command can reach. In both kinds it has a network namespace of its own with a working loopback.
type Network struct {
	Kind  NetworkKind `json:"kind"`
	IPv6  bool        `json:"ipv6,omitempty"` // Gate: programs inside may use IPv6 too
	Allow []Reach     `json:"allow,omitempty"`
	Deny  []Source    `json:"deny,omitempty"` // patterns of hosts that are not reached, whatever allows them

	Ask bool `json:"ask,omitempty"` // Gate: what no rule allows or denies waits for a person's answer

	HostPorts []int       `json:"host_ports,omitempty"` // of the host's loopback, reached at the same port of the one inside
	Publish   []Published `json:"publish,omitempty"`
	Internal  []Source    `json:"internal,omitempty"`     // private networks, shared with other sandboxes
	Auto      bool        `json:"publish_auto,omitempty"` // each port on which a program inside begins to listen is offered on the host's loopback

	TLS *TLS `json:"tls,omitempty"` // nil: connections are passed through as they are
}

// TLS says what is opened at the gate, so that single requests are decided, and what programs inside trust because of it.
type TLS struct {
	Hosts     []Source   `json:"hosts"`     // patterns, and the rules that need it
	Files     []string   `json:"files"`     // inside: which hold the gate's authority beside what they held
	Variables []Variable `json:"variables"` // by which programs with authorities of their own are told of it
}

// Variable is one of the environment.
type Variable struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Origin string `json:"origin,omitempty"` // the policy line that set or passed it instead, and what it says holds
}

// Published is a port inside that is offered on the host's loopback.
type Published struct {
	Host   int `json:"host"`
	Inside int `json:"inside"`
}

// NetworkKind is what lies behind loopback.
type NetworkKind string

const (
	NoNetwork NetworkKind = "none"
	Gate      NetworkKind = "gate" // the gate, which lets through what is allowed by name
)

// Reach is one opening of the network.
type Reach struct {
	Host     string         `json:"host"`
	Ports    []int          `json:"ports"`
	Methods  []string       `json:"methods,omitempty"`
	Paths    []string       `json:"paths,omitempty"`
	Networks []netip.Prefix `json:"networks,omitempty"` // private ranges that the name may resolve to
	Until    time.Time      `json:"until,omitzero"`     // the moment at which it ends
	Origin   string         `json:"origin"`
}

// User is who the command is, inside and outside: one id is mapped, to itself.
type User struct {
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	Name string `json:"name"`
	Home string `json:"home"`
}

// Command is what will be executed.
type Command struct {
	Path string   `json:"path"` // resolved executable, or empty: the name was not found and the run will end with 127
	Argv []string `json:"argv"`
	Dir  string   `json:"dir"`
	Env  []string `json:"env"`
}

// Workspace is the project as the command sees it.
type Workspace struct {
	Kind    string   `json:"kind"`           // held, live, readonly or none
	By      string   `json:"by"`             // overlay, copy, bind, tmpfs
	Path    string   `json:"path,omitempty"` // the project, at the same path inside and outside
	Mirror  string   `json:"mirror"`         // what becomes of the host's edits during the run
	Hide    []Source `json:"hide"`
	Protect []Source `json:"protect"`
	Owner   int      `json:"owner"` // of the project on the host; not the sandbox's user only where root runs casemate
	Group   int      `json:"group"`
}

// Source is one value with the tier, file and line it came from.
type Source struct {
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// MountKind is what is mounted.
type MountKind string

const (
	Bind    MountKind = "bind"    // a host directory or file
	Tmpfs   MountKind = "tmpfs"   // an empty directory in memory
	Overlay MountKind = "overlay" // the project under its mask and its change layer
	Proc    MountKind = "proc"
	Devices MountKind = "devices" // /dev: null zero full random urandom tty, pts, shm
	Symlink MountKind = "symlink" // a link in the read-only root, such as /bin -> usr/bin
)

// Mount is one thing the command sees. Targets are absolute; they are made in order, parents first.
type Mount struct {
	Kind     MountKind `json:"kind"`
	Target   string    `json:"target"`
	Source   string    `json:"source,omitempty"` // Bind: host path; Symlink: the link's text; Overlay: the project
	Writable bool      `json:"writable,omitempty"`
	NoExec   bool      `json:"noexec,omitempty"`
	File     bool      `json:"file,omitempty"`     // Bind: the source is not a directory
	ReadOnly bool      `json:"readonly,omitempty"` // Overlay: the workspace as a whole cannot be changed
	Empty    bool      `json:"empty,omitempty"`    // Bind of /dev/null: it can be read, and nothing is in it; without this, opening it fails
	Self     bool      `json:"self,omitempty"`     // Bind: the source is what is already mounted at the target, made read-only
	Size     int64     `json:"size,omitempty"`     // Tmpfs: bytes
	Perm     uint32    `json:"perm,omitempty"`     // Tmpfs: permission bits
	Mask     string    `json:"mask,omitempty"`     // Overlay: read-only layer of whiteouts over the project
	Layer    string    `json:"layer,omitempty"`
	Cache    string    `json:"cache,omitempty"` // Overlay: of this package manager, not the project
	UID      int       `json:"-"`               // Cache: the owner of the host's
	GID      int       `json:"-"`
	Dev, Ino uint64    `json:"-"`                // Bind, Overlay: what the source was when it was planned; checked before use
	Origin   string    `json:"origin,omitempty"` // the policy line that opened it; empty for what every sandbox has
}

// Rules are the Landlock rules: the second wall, mirroring the mounts; in the fallback mode the first.
type Rules struct {
	ABI   int    `json:"abi"`
	Allow []Rule `json:"allow"`
}

// Rule opens what lies at and below a path, for reading or for everything.
type Rule struct {
	Path   string   `json:"path"`
	Write  bool     `json:"write,omitempty"`
	File   bool     `json:"file,omitempty"`   // not a directory: then only rights on files can be given
	List   bool     `json:"list,omitempty"`   // directories can be listed, and no file read
	Except []string `json:"except,omitempty"` // what lies below and stays shut. Landlock only adds up, so everything beside it is opened by a rule of its own
}

func (r *Rules) read(paths ...string) {
	for _, p := range paths {
		r.Allow = append(r.Allow, Rule{Path: p})
	}
}

func (r *Rules) write(paths ...string) {
	for _, p := range paths {
		r.Allow = append(r.Allow, Rule{Path: p, Write: true})
	}
}

// Syscalls says which variant of the system call filter is installed.
type Syscalls struct {
	Fallback bool `json:"fallback,omitempty"` // additionally deny what namespaces would have confined
	Rename   bool `json:"rename,omitempty"`   // directory renames in the overlay are helped by the supervisor
	Metadata bool `json:"metadata,omitempty"` // modes and times are changed by the supervisor, in the sandbox's own files only
}

// Limit is one limit and what enforces it.
type Limit struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	By       string `json:"by"`
	Strength string `json:"strength"` // enforced, watched or none
	Origin   string `json:"origin"`
}

// State is how far a guarantee is kept.
type State string

const (
	Enforced State = "enforced" // by the kernel
	Watched  State = "watched"  // by the supervisor, within a stated window
	Absent   State = "absent"   // not kept here
)

// Guarantee is one named thing that holds, and what makes it hold.
type Guarantee struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	By    string `json:"by"`
}

// Opening is a hole in the default denial and the line that made it.
type Opening struct {
	What   string `json:"what"`
	Origin string `json:"origin"`
}
