package guest

import (
	"fmt"
	"strings"
)

// EtcOptions is what the sandbox's /etc depends on.
type EtcOptions struct {
	UID, GID  int    // of the sandbox's user; all files belong to it
	Name      string // of the user
	Home      string // inside
	Shell     string // /bin/sh when empty
	Hostname  string
	Resolver  string   // address of a name server that is reachable inside; empty when there is none
	Places    []string // below /etc, to mount on what the policy shows of the host's; a directory's ends in a slash
	GitConfig []byte   // becomes /etc/gitconfig
}

// check keeps a name with ":" or a line end from becoming another account.
func (o EtcOptions) check() error {
	for _, f := range [][2]string{{"user name", o.Name}, {"home directory", o.Home}, {"shell", o.Shell}, {"host name", o.Hostname}, {"resolver", o.Resolver}} {
		if i := strings.IndexFunc(f[1], func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' && f[0] != "resolver" }); i >= 0 {
			return fmt.Errorf("%s %q cannot stand in /etc/passwd or /etc/hosts", f[0], f[1])
		}
	}
	if o.Name == "" || !strings.HasPrefix(o.Home, "/") || o.Hostname == "" {
		return fmt.Errorf("bug: /etc needs a user name (%q), an absolute home (%q) and a host name (%q)", o.Name, o.Home, o.Hostname)
	}
	return nil
}

const overflowID = 65534 // what the kernel shows for ids that are not mapped, as those of /usr

// made returns the contents of the files that we make; a text that begins with "->" is a link.
func made(o EtcOptions) map[string]string {
	files := map[string]string{
		"passwd":                            passwd(o),
		"group":                             group(o),
		"hosts":                             "127.0.0.1 localhost " + o.Hostname + "\n::1 localhost ip6-localhost ip6-loopback\n",
		"hostname":                          o.Hostname + "\n",
		"host.conf":                         "multi on\n",
		"resolv.conf":                       resolvConf(o),
		"nsswitch.conf":                     nsswitch(o),
		"profile":                           profile,
		"bash.bashrc":                       bashrc,
		"bashrc":                            bashrc,
		"mtab":                              "->/proc/self/mounts",
		"gitconfig":                         string(o.GitConfig),
		pushHelper + "/git-remote-casemate": pushDenied,
		"ssh/ssh_config":                    "Host *\n\tHashKnownHosts yes\n\tForwardAgent no\n\tForwardX11 no\n\tGlobalKnownHostsFile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2 " + AgentDir + "/" + AgentKnownHosts + "\n",
	}
	for _, dir := range trustDirs() {
		files[dir+"/"+trustLink] = "->" + authority
	}
	return files
}

func passwd(o EtcOptions) string {
	shell := o.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	var b strings.Builder
	line := func(name string, uid, gid int, home, shell string) {
		fmt.Fprintf(&b, "%s:x:%d:%d::%s:%s\n", name, uid, gid, home, shell)
	}
	if o.UID != 0 && o.Name != "root" {
		line("root", 0, 0, "/root", "/usr/sbin/nologin")
	}
	line(o.Name, o.UID, o.GID, o.Home, shell)
	if o.UID != overflowID && o.Name != "nobody" {
		line("nobody", overflowID, overflowID, "/nonexistent", "/usr/sbin/nologin")
	}
	return b.String()
}

func group(o EtcOptions) string {
	s := ""
	if o.GID != 0 && o.Name != "root" {
		s = "root:x:0:\n"
	}
	s += fmt.Sprintf("%s:x:%d:\n", o.Name, o.GID)
	if o.GID != overflowID && o.Name != "nogroup" {
		s += fmt.Sprintf("nogroup:x:%d:\n", overflowID)
	}
	return s
}

// resolvConf names an address of the loopback even when nothing listens there: programs that ask by themselves (c-ares in Node, Go, musl)
// are then refused in the same millisecond, where an address outside would cost them their timeouts.
func resolvConf(o EtcOptions) string {
	server := o.Resolver
	if server == "" {
		server = "127.0.0.53"
	}
	return "nameserver " + server + "\noptions edns0 trust-ad\n"
}

// nsswitch leaves DNS out where there is none: getaddrinfo then says at once that the name does not exist (EAI_NONAME), which is final;
// with a server that refuses it would say "try again" (EAI_AGAIN), and programs do.
func nsswitch(o EtcOptions) string {
	hosts := "files"
	if o.Resolver != "" {
		hosts = "files dns"
	}
	return "passwd: files\ngroup: files\nshadow: files\nhosts: " + hosts + "\nnetworks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n"
}

// profile keeps PATH. It reads bash.bashrc as Debian's does.
const profile = `if [ -n "$BASH_VERSION" ] && [ -n "$PS1" ] && [ -r /etc/bash.bashrc ]; then
	. /etc/bash.bashrc
fi
`

const bashrc = `[ -z "$PS1" ] && return
shopt -s checkwinsize
PS1='\u@\h:\w\$ '
`
