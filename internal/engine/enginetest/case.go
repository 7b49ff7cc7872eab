// Package enginetest attacks a sandbox from inside, and shows by the same attacks outside that they would have worked.
package enginetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Case is one attack. Its ID is the conformance case it belongs to, a dot, and a word; attacks beyond that list begin with X or E.
type Case struct {
	ID        string
	Group     string
	Title     string
	Guarantee string // the promise that the attack tries to break
	Control   Control
	NoControl string        // why no control can be shown; required when Control is None
	Optional  string        // why the control may fail on some kernels; it is then reported instead of failing the test
	Setup     Setup         // what the fixtures put into the case's own directory
	Env       bool          // the attack looks at the caller's environment: its control runs with the hostile one
	Advisory  string        // why an open attack would be no hole; shown instead of failing
	Timeout   time.Duration // 10 s when zero
	Attack    func(*Env) Outcome
}

// Covers is the id of the conformance case.
func (c Case) Covers() string {
	id, _, _ := strings.Cut(c.ID, ".")
	return id
}

// Control is where the attack must succeed, which shows that the case can fail.
type Control string

const (
	Outside Control = "outside" // an ordinary process of the same user
	Scratch Control = "scratch" // pid 1's child in a plain user namespace with all its capabilities and an init that defends nothing
	AsRoot  Control = "root"    // outside, where the tests run as root
	None    Control = "none"    // nowhere: NoControl says why
)

// Setup is what lies in a case's own directory below the project.
type Setup string

const (
	Nothing Setup = ""
	Hidden  Setup = "hidden" // an .env file with a token, and sub/.env
	Repo    Setup = "repo"   // a git directory with hooks, laid by hand
)

// Verdict is how an attack ended.
type Verdict string

const (
	Held    Verdict = "held"
	Open    Verdict = "open"
	Excused Verdict = "not promised" // open, but the plan says that this is not guaranteed here
	NotRun  Verdict = "not run"
	Hung    Verdict = "no answer"
	Asks    Verdict = "ask the host" // the attack did what it could; only the host side can tell
)

// Outcome is what an attack reports.
type Outcome struct {
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
}

func open(format string, args ...any) Outcome   { return Outcome{Open, fmt.Sprintf(format, args...)} }
func held(format string, args ...any) Outcome   { return Outcome{Held, fmt.Sprintf(format, args...)} }
func notRun(format string, args ...any) Outcome { return Outcome{NotRun, fmt.Sprintf(format, args...)} }
func asks(format string, args ...any) Outcome   { return Outcome{Asks, fmt.Sprintf(format, args...)} }

// unless is open when the call went through.
func unless(err error, what string) Outcome {
	if err != nil {
		return held("%s: %v", what, err)
	}
	return open("%s succeeded", what)
}

// Env is what an attack knows of the host. It holds digests of the tokens, never a token: a token anywhere in the output is a leak.
type Env struct {
	Work      string            `json:"work"`
	Canary    string            `json:"canary"`
	Tokens    map[string]string `json:"tokens"` // name to hex sha256
	TCPPort   int               `json:"tcp_port,omitempty"`
	UDPPort   int               `json:"udp_port,omitempty"`
	Target    string            `json:"target,omitempty"` // IPv4 address and port of a host in a network namespace of the test's own
	Abstract  string            `json:"abstract,omitempty"`
	Socket    string            `json:"socket,omitempty"`
	Datagram  string            `json:"datagram,omitempty"`
	HostPID   int               `json:"host_pid,omitempty"`
	HostMark  string            `json:"host_mark,omitempty"` // in that process's command line
	HostNS    map[string]string `json:"host_ns,omitempty"`   // the links in /proc/self/ns of the host
	HostPts   uint64            `json:"host_pts,omitempty"`  // the device number of the host's devpts
	Terminal  uint64            `json:"terminal,omitempty"`  // the device number of the user's terminal, where there is one
	HostGID   int               `json:"host_gid,omitempty"`  // a supplementary group of the caller
	GroupFile string            `json:"group_file,omitempty"`
	Home      string            `json:"home,omitempty"`
	Kept      []string          `json:"kept,omitempty"` // what agents keep in the sandbox's own home: it tells nothing of the host's
	StateDir  string            `json:"state_dir,omitempty"`
	UID       int               `json:"uid"`
	Mode      string            `json:"mode,omitempty"`
	Workspace string            `json:"workspace,omitempty"`
	Pids      int               `json:"pids,omitempty"` // limits that the attacks may try to exceed
	MemoryMiB int               `json:"memory_mib,omitempty"`
	DiskMiB   int               `json:"disk_mib,omitempty"`
	Without   []string          `json:"without,omitempty"`    // guarantees that the plan does not give
	HostVars  map[string]string `json:"host_vars,omitempty"`  // the caller's variables, to hex sha256 of their values
	HostName  string            `json:"host_name,omitempty"`  // hex sha256
	MachineID string            `json:"machine_id,omitempty"` // the same
	Queue     string            `json:"queue,omitempty"`      // a POSIX message queue of the host's
	Segment   int               `json:"segment,omitempty"`    // the key of a System V shared memory segment of the host's
	Control   Control           `json:"control,omitempty"`    // where the attacks run, when not in a sandbox

	host string // the project as the host names it, where Work is a copy
	id   string
	fds  []int // open above 2 when the attack's process started
	rout int   // where the outcome goes; not a leak
}

const (
	tokenPrefix = "casemate-token-"
	tokenHex    = 32
)

// leak names the token found in b, if any.
func (e *Env) leak(b []byte) string {
	s := string(b)
	for {
		_, rest, found := strings.Cut(s, tokenPrefix)
		if !found {
			return ""
		}
		if len(rest) >= tokenHex {
			sum := digest(tokenPrefix + rest[:tokenHex])
			for name, d := range e.Tokens {
				if d == sum {
					return name
				}
			}
		}
		s = rest
	}
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// read tries to get a token out of a file.
func (e *Env) read(path string) Outcome {
	b, err := readSome(path)
	if name := e.leak(b); name != "" {
		return open("read %s in %q", name, path)
	}
	if err != nil {
		return held("%v", err)
	}
	return held("%q: %d bytes without a token", path, len(b))
}

// first is the first outcome that is not held, or the last.
func first(outcomes ...Outcome) Outcome {
	if len(outcomes) == 0 {
		return notRun("nothing to try")
	}
	for _, o := range outcomes {
		if o.Verdict != Held {
			return o
		}
	}
	return outcomes[len(outcomes)-1]
}

// dir is the case's own directory below the project.
func (e *Env) dir(elem ...string) string {
	return filepath.Join(append([]string{e.Work, "cases", e.id}, elem...)...)
}

// hostWork is the project's own path on the host.
func (e *Env) hostWork() string {
	if e.host != "" {
		return e.host
	}
	return e.Work
}

// hasDir is false where the fixtures did not make the project, as in a person's own.
func (e *Env) hasDir() bool {
	_, err := os.Stat(e.dir())
	return err == nil
}

// sharesPids is true where the attack could reach the processes of the whole machine. Attacks that name processes they did not start ask first.
func (e *Env) sharesPids() bool {
	if e.Control == Outside || e.Control == AsRoot {
		return true
	}
	link, err := os.Readlink("/proc/self/ns/pid")
	return err != nil || link == e.HostNS["pid"]
}

// initIsTheMachines guards the attacks on pid 1, which must never meet the machine's own init.
func (e *Env) initIsTheMachines() (Outcome, bool) {
	if e.sharesPids() {
		return notRun("pid 1 here is the machine's own init"), true
	}
	return Outcome{}, false
}

// Cases is the table.
func Cases() []Case {
	return slices.Concat(fileCases(), metadataCases(), gitCases(), procCases(), initCases(), privilegeCases(), kernelCases(), abiCases(), networkCases(), fdCases(), ttyCases(), limitCases())
}

// Find returns the cases whose id, or conformance id, is among the ids; all of them when there are none.
func Find(ids []string) ([]Case, error) {
	all := Cases()
	if len(ids) == 0 {
		return all, nil
	}
	var found []Case
	for _, id := range ids {
		n := len(found)
		for _, c := range all {
			if c.ID == id || c.Covers() == id || c.Group == id {
				found = append(found, c)
			}
		}
		if len(found) == n {
			return nil, fmt.Errorf("no attack is called %q: `casemate-probe list` names them", id)
		}
	}
	return found, nil
}
