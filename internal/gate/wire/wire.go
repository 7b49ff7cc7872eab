// Package wire is what a supervisor and its gate say to each other: rules and listeners one way, records of connections the other.
//
// It is imported by casemate itself, so it stays free of net, net/http and crypto/tls.
package wire

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// FD is the number of the gate's end of the SOCK_SEQPACKET pair that joins it to its supervisor. One message is one JSON value.
const FD = 3

// MaxMessage is how long a message may be, in bytes. What is longer is split by the sender (rules) or cut (records).
const MaxMessage = 128 << 10

// Message goes from the supervisor to the gate. The first one carries the listeners as SCM_RIGHTS, in the order of Listeners; a later one replaces the rules.
type Message struct {
	Sandbox   string     `json:"sandbox,omitempty"`
	Listeners []Listener `json:"listeners,omitempty"`
	Rules     Rules      `json:"rules"`
	Proxy     Proxy      `json:"proxy,omitzero"` // of the host, in the first message
	More      bool       `json:"more,omitempty"` // the next message goes on with these rules; they hold from the one without it

	// Socket is not 0 in an answer to a Request: the address family of the socket that comes with the message. There is none if it could not be made.
	// Such a message says nothing of rules.
	Socket int `json:"socket,omitempty"`

	// Offer is not 0 where the message brings listeners on the host's loopback, one for each family, for what listens on that port inside; Withdraw is the
	// port whose listeners are to be closed. Connections that were made stay. Neither says anything of rules.
	Offer    int `json:"offer,omitempty"`
	Withdraw int `json:"withdraw,omitempty"`

	// Answer is a person's to a Question, and nil in every other message. Such a message says nothing of rules either.
	Answer *Answer `json:"answer,omitempty"`

	Internal []string `json:"internal,omitempty"` // in the first message: the private networks that the sandbox is on
	Met      *Met     `json:"met,omitempty"`      // the answer to a Call. Such a message says nothing of rules
}

// Met is the answer to a Call. The connection comes with it: a TCP socket of the other sandbox's network, connected there.
type Met struct {
	Call    uint64 `json:"call"`
	Sandbox string `json:"sandbox,omitempty"` // whom it leads to
	Rule    string `json:"rule,omitempty"`    // the origin of the network that both are on
	Why     string `json:"why,omitempty"`     // a sentence, where there is none
}

// Proxy is how the host itself gets out, as its environment says.
type Proxy struct {
	URL    string `json:"url"`              // HTTPS_PROXY; it may hold a password, and goes nowhere but to the gate
	Except string `json:"except,omitempty"` // NO_PROXY
}

// Start is the supervisor's first message, before the sandbox exists.
type Start struct {
	Open []string `json:"open,omitempty"` // the host patterns of rules that say more than a port: TLS to them is opened. None: nothing is, and no authority is made
}

// Ready is the gate's answer: it is confined, and takes its rules. Nothing is executed inside before.
type Ready struct {
	Ready     bool   `json:"ready"`
	Authority string `json:"authority,omitempty"` // PEM: the certificate that programs inside have to trust for the hosts of Start.Open; its key never leaves the gate
}

// The subject of every authority, as its common name alone, and the hash by which OpenSSL finds it in a directory (openssl x509 -hash). The sandbox's /etc is
// made before the authority is. No two of them are ever seen in one place.
const (
	AuthorityName = "Casemate gate"
	AuthorityHash = "8740d405"
)

// Request goes from the gate to the supervisor, between its records: a TCP socket of an address family (2 or 10), made in the sandbox's network, is wanted.
// It is for a listener that stands for a port inside (InsidePort).
type Request struct {
	Socket   int       `json:"socket,omitempty"`
	Question *Question `json:"question,omitempty"` // a connection waits for an answer, or waits no more
	Call     *Call     `json:"call,omitempty"`
}

// Call asks for a connection to a port of another sandbox on one of the private networks.
type Call struct {
	ID     uint64 `json:"id"`
	Member string `json:"member"`
	Port   int    `json:"port"`
}

// Question is about a host and port that no rule allows or denies, while Rules.Ask holds.
type Question struct {
	ID   uint64 `json:"id"` // of this gate; never 0
	Host string `json:"host"`
	Port int    `json:"port"`
	Over bool   `json:"over,omitempty"` // it was answered or is too late: nobody is to be asked any more
}

// Answer lets the connections pass that wait for it, and none later, or turns away all that are to come until a rule allows them.
type Answer struct {
	ID  uint64 `json:"id"`
	Yes bool   `json:"yes"`
	By  string `json:"by"` // who gave it and when, in words: the rule of the connections that pass, or why they are denied
}

// Waits is how long a connection waits for an answer, and MaxQuestions how many questions there are at once.
const (
	Waits        = 30 * time.Second
	MaxQuestions = 64
)

// Listener says what one of the descriptors is for. All of them were made inside the sandbox's network namespace.
type Listener string

const (
	TCP4    Listener = "tcp4"    // listens; every IPv4 connection that is not for loopback was redirected to it (SO_ORIGINAL_DST)
	TCP6    Listener = "tcp6"    // the same for IPv6
	DNS     Listener = "dns"     // bound UDP socket of the resolver
	DNSOver Listener = "dns-tcp" // listens: the resolver's TCP

	StoreEnd Listener = "store" // not from inside, and no listener: the socket that leads to the secret store

	published = "published:" // and a port: listens on the host's loopback, for what listens on that port inside
	host4     = "host4:"     // and a port: listens on it inside, for what listens on it on the host's loopback
	host6     = "host6:"
)

// IsMember reports whether a name is one that a sandbox on a private network can have: one label of a host name.
func IsMember(name string) bool {
	if name == "" || len(name) > 32 || name[0] == '-' || name[len(name)-1] == '-' || name == "localhost" {
		return false
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// GatePort is where connections are redirected to. It lies above the range that the kernel gives out by itself; a program inside that asks for this very
// port on loopback finds it taken.
const GatePort = 61111

// Listeners are the ones that a sandbox needs, in the order in which it hands them out.
func Listeners(ipv6 bool, hostPorts []int) []Listener {
	list := []Listener{TCP4, DNS, DNSOver}
	if ipv6 {
		list = append(list, TCP6)
	}
	for _, p := range hostPorts {
		list = append(list, Listener(host4+strconv.Itoa(p)))
		if ipv6 {
			list = append(list, Listener(host6+strconv.Itoa(p)))
		}
	}
	return list
}

// HostPort is the port of the host's loopback that a listener stands for; 0: none.
func (l Listener) HostPort() int {
	for _, kind := range []string{host4, host6} {
		if text, ok := strings.CutPrefix(string(l), kind); ok {
			n, _ := strconv.Atoi(text)
			return n
		}
	}
	return 0
}

// Published is a listener on the host for a port inside.
func Published(port int) Listener { return Listener(published + strconv.Itoa(port)) }

// InsidePort is the port inside that a listener of the host stands for; 0: none.
func (l Listener) InsidePort() int {
	text, _ := strings.CutPrefix(string(l), published)
	n, _ := strconv.Atoi(text)
	return n
}

// Inside is where it is bound.
func (l Listener) Inside() netip.AddrPort {
	const dns = 53
	v4, v6 := netip.MustParseAddr(Loopback4), netip.IPv6Loopback()
	switch {
	case l == TCP4:
		return netip.AddrPortFrom(v4, GatePort)
	case l == TCP6:
		return netip.AddrPortFrom(v6, GatePort)
	case l == DNS || l == DNSOver:
		return netip.AddrPortFrom(netip.MustParseAddr(Resolver), dns)
	case strings.HasPrefix(string(l), host6):
		return netip.AddrPortFrom(v6, uint16(l.HostPort()))
	}
	return netip.AddrPortFrom(v4, uint16(l.HostPort()))
}

// Rules are what may be reached. Deny wins.
type Rules struct {
	Allow []Allow  `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"` // host patterns as policy.MatchHost takes them

	// Ask: what none of them allows or denies waits for a person's answer. Unasked says why it does not, where it could.
	Ask     bool   `json:"ask,omitempty"`
	Unasked string `json:"unasked,omitempty"`

	Secrets []Secret `json:"secrets,omitempty"`
}

// Secret is a credential that stays outside, and where the gate may put it in place of its placeholder. It opens nothing: its hosts need an Allow.
type Secret struct {
	Name        string   `json:"name"`        // of the store's entry
	Placeholder string   `json:"placeholder"` // with the place sigv4: those of its parts, with colons between
	Hosts       []string `json:"hosts"`       // patterns as policy.MatchHost takes them
	Ports       []int    `json:"ports"`
	Place       string   `json:"place,omitempty"`     // as the policy has it
	Methods     []string `json:"methods,omitempty"`   // none: all
	Paths       []string `json:"paths,omitempty"`     // none: all
	Withdrawn   bool     `json:"withdrawn,omitempty"` // the policy names it no more: it is put in nowhere, and looked for still
	Origin      string   `json:"origin"`
}

// Allow is one opening.
type Allow struct {
	Host     string         `json:"host"` // a pattern as policy.MatchHost takes it, or an address
	Ports    []int          `json:"ports"`
	Methods  []string       `json:"methods,omitempty"`  // of HTTP requests; none: all
	Paths    []string       `json:"paths,omitempty"`    // patterns as policy.MatchPath takes them; none: all
	Networks []netip.Prefix `json:"networks,omitempty"` // ranges beside the public ones that the name may resolve to
	Until    time.Time      `json:"until,omitzero"`     // the moment at which it ends; zero: never
	Origin   string         `json:"origin"`             // the policy line or command that made it
}

// OfRequests says whether the rule is about single requests: a connection has to be opened to see them.
func (a Allow) OfRequests() bool { return len(a.Methods)+len(a.Paths) > 0 }

// Verdict is what became of an attempt.
type Verdict string

const (
	Opened Verdict = "opened" // a connection was made; a record with the same ID follows when it has ended
	Closed Verdict = "closed" // it has ended
	Asked  Verdict = "asked"  // no rule allows or denies it, and it waits for an answer; a record with the same ID follows
	Denied Verdict = "denied" // no rule allows it, or one denies it; with the ID of an opened one: it was ended, because it named another host
	Failed Verdict = "failed" // a rule allows it, and it could not be made
	Ruled  Verdict = "ruled"  // no attempt, and not the gate's: other rules hold, or some cannot; Why says which
	Lost   Verdict = "lost"   // no attempt: Times records were left out, because there were too many for the supervisor

	// No attempts, and not the gate's: a login by ssh that was signed outside with a key of the person's, or not. Why says with which key, or why not.
	Signed   Verdict = "signed"
	Unsigned Verdict = "unsigned"
)

// Record goes from the gate to the supervisor: one attempt to reach something.
type Record struct {
	ID      uint64        `json:"id"`
	Time    time.Time     `json:"time"`
	Verdict Verdict       `json:"verdict"`
	Name    string        `json:"name"`              // the host's name, or its address where none was resolved
	Port    int           `json:"port,omitempty"`    // 0: a name was looked up
	Address string        `json:"address,omitempty"` // the real one, once connected
	Rule    string        `json:"rule,omitempty"`    // the origin of the rule that decided
	Why     string        `json:"why,omitempty"`     // a sentence: why it was denied or failed
	Method  string        `json:"method,omitempty"`  // of the request that was denied, where it was one on an opened connection
	Path    string        `json:"path,omitempty"`    // the same: as it was sent, without its query, which may hold secrets
	Allowed int           `json:"allowed,omitempty"` // Closed: how many requests of an opened connection were allowed
	Sent    int64         `json:"sent,omitempty"`    // bytes from the sandbox
	Got     int64         `json:"got,omitempty"`     // bytes to the sandbox
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
	Peer    string        `json:"peer,omitempty"`    // on a private network: the sandbox at the other end
	Inward  bool          `json:"inward,omitempty"`  // it is the other end that connected, and Port is one inside
	Unasked bool          `json:"unasked,omitempty"` // Denied: nobody is asked whether it may after all, as a yes in passing would open too much
	Secret  string        `json:"secret,omitempty"`  // Denied: the name of the secret whose placeholder or value was where it must not be
	Times   int           `json:"times,omitempty"`   // how often, where the same denial was repeated within a second; 0 is once
}

// AllowRule is the rule of a policy that would allow the request that was denied; empty where none can name it.
func (r Record) AllowRule() string {
	if r.Secret != "" {
		return ""
	}
	plain := func(text, marks string) bool {
		return text != "" && !strings.ContainsFunc(text, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(marks, c))
		})
	}
	if !plain(r.Method, "-") || !plain(r.Path, "/-._~@+") || r.Path[0] != '/' || len(r.Path) >= MaxPath || !plain(r.Name, "-_.:") {
		return ""
	}
	if around := r.Path + "/"; strings.Contains(r.Path, "//") || strings.Contains(around, "/./") || strings.Contains(around, "/../") { // no rule takes these
		return ""
	}
	ports := ""
	if r.Port != 443 {
		ports = fmt.Sprintf(", ports: [%d]", r.Port)
	}
	return fmt.Sprintf("{host: %q%s, methods: [%s], paths: [%q]}", r.Name, ports, r.Method, r.Path)
}

// MaxPath is how much of a path a record says.
const MaxPath = 256

// Addresses of the sandbox's network. lo has the two hosts' addresses so that getaddrinfo's AI_ADDRCONFIG finds both families.
const (
	Loopback4      = "127.0.0.1"
	Loopback6      = "::1"
	Resolver       = "127.0.0.53"
	HostV4         = "198.18.0.1"
	HostV6         = "fd43:6173:6d61::1"
	SyntheticV4    = "198.18.0.0/15"       // synthetic addresses stand for names; .0.0 to .0.2 are not given out
	SyntheticProbe = "198.18.0.2"          // stands for no name
	SyntheticV6    = "fd43:6173:6d61::/96" // the last 32 bits are those of the IPv4 one
)
