package guest

import (
	"os"
	"path"
	"slices"
	"strings"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/sys/unix"
)

// Where programs inside find what they have to trust besides the system's authorities, where the gate opens TLS. The directory is mounted there.
const (
	TrustDir  = "/run/casemate"
	authority = TrustDir + "/authority.pem" // the certificate alone
	bundle    = TrustDir + "/bundle.pem"    // the system's authorities and that one
)

// Where the ssh-agent of a sandbox is, if it has one. Inside, /run is the sandbox's own: without an agent, what lies there is from inside.
const (
	AgentDir        = "/run/casemate-ssh"
	AgentSocket     = "agent"
	AgentKnownHosts = "known_hosts"
)

// Trusted is a file that says which authorities programs trust.
type Trusted struct {
	Target string // path inside, without links
	Source string // the same file on the host
	Java   bool   // a key store of Java's, not PEM
}

// maxTrusted is how many such files are replaced at most: each is a mount.
const maxTrusted = 64

// trustFile is a place where programs look for the authorities that they trust.
type trustFile struct {
	path string
	java bool
	of   string // whose it is
}

// trustFiles are in the order of how many programs read them: the first that is there is what our own bundle is made of. They are the lists of Go
// (crypto/x509, root_linux.go) and curl (acinclude.m4), OpenSSL's cert.pem, and what distributions make the lib/security/cacerts of their Javas links to.
func trustFiles() []trustFile {
	return []trustFile{
		{"/etc/ssl/certs/ca-certificates.crt", false, "Debian, Ubuntu, Alpine, Arch, Gentoo, NixOS"},
		{"/etc/pki/tls/certs/ca-bundle.crt", false, "Fedora, RHEL"},
		{"/etc/ssl/ca-bundle.pem", false, "openSUSE"},
		{"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", false, "Fedora, RHEL"},
		{"/etc/ssl/cert.pem", false, "Alpine, Arch"},
		{"/etc/pki/tls/cert.pem", false, "Fedora's OpenSSL"},
		{"/etc/ssl/certs/ca-bundle.crt", false, "NixOS"},
		{"/etc/pki/tls/cacert.pem", false, "OpenELEC"},
		{"/etc/ca-certificates/extracted/tls-ca-bundle.pem", false, "Arch"},
		{"/usr/lib/ssl/cert.pem", false, "Debian's OpenSSL, where somebody has made it"},
		{linuxbrew + "/etc/openssl@3/cert.pem", false, "Homebrew"},
		{linuxbrew + "/etc/ca-certificates/cert.pem", false, "Homebrew"},
		{"/etc/ssl/certs/java/cacerts", true, "Debian, Ubuntu, Arch"},
		{"/etc/pki/java/cacerts", true, "Fedora, RHEL"},
		{"/etc/pki/ca-trust/extracted/java/cacerts", true, "Fedora, RHEL"},
	}
}

// TrustRow is a variable by which programs inside are made to trust the gate. Its Why says who reads it that reads nothing else.
type TrustRow struct {
	Variable
	Source string
}

// TrustRows are set inside where TLS is opened, unless the policy sets them. What reads the system's files, or a directory of hashed names, needs none.
func TrustRows() []TrustRow {
	return []TrustRow{
		{Variable{"SSL_CERT_FILE", bundle, "an OpenSSL that is not the system's (conda, Homebrew, static programs), uv, httpx: they have authorities of their own"},
			"SSL_CTX_load_verify_locations(3); the documentation of uv and httpx"},
		{Variable{"REQUESTS_CA_BUNDLE", bundle, "Python's requests, botocore, pip before 24.2: they trust the bundle of the package certifi"},
			"the documentation of requests; measured with requests 2.34, botocore 1.43, pip 23.2"},
		{Variable{"NODE_EXTRA_CA_CERTS", authority, "Node, Bun, Deno from 2.8 on: their authorities are compiled in. It names the certificate alone, as old Buns read no more than the first one"},
			"node(1); denoland/deno#33148, oven-sh/bun#13867; measured with Node 20, Bun 1.4, Deno 2.9"},
		{Variable{"DENO_CERT", authority, "Deno before 2.8"}, "Deno's documentation of its environment variables; measured with Deno 2.9"},
	}
}

// trustLink is the name under which OpenSSL finds the authority in a directory (openssl-rehash(1)). On a plain Debian its programs have nothing but that:
// openssl, Python, Ruby, PHP and Perl read /usr/lib/ssl/cert.pem, which does not exist, and /etc/ssl/certs. It leads nowhere where no TLS is opened.
const trustLink = wire.AuthorityHash + ".0"

// trustDirs are those directories, below /etc. etcRows has a row for the link in each.
func trustDirs() []string {
	return []string{"ssl/certs", "pki/tls/certs", "pki/ca-trust/extracted/pem/directory-hash"}
}

// Trusted finds the files that the sandbox will see and that programs ask which authorities to trust. etc is what it sees as /etc.
func (v View) Trusted(etc string) []Trusted {
	s := sight{etc, v.Places()}
	var out []Trusted
	add := func(name string, java bool) {
		target, source, ok := s.resolve(name)
		if ok && len(out) < maxTrusted && !slices.ContainsFunc(out, func(t Trusted) bool { return t.Target == target }) {
			out = append(out, Trusted{target, source, java})
		}
	}
	for _, f := range trustFiles() {
		add(f.path, f.java)
	}
	for _, home := range v.javaHomes(s) {
		add(home+"/lib/security/cacerts", true)
		add(home+"/jre/lib/security/cacerts", true)
	}
	return out
}

// javaHomes are the Javas that PATH, JAVA_HOME and the usual places lead to.
func (v View) javaHomes(s sight) []string {
	var homes []string
	for dir := range strings.SplitSeq(v.Path, ":") {
		if program, _, ok := s.resolve(dir + "/java"); ok {
			homes = append(homes, path.Dir(path.Dir(program)))
		}
	}
	homes = append(homes, s.below("/usr/lib/jvm")...)
	for _, t := range v.Tools {
		for _, e := range t.Env {
			if e.Name == "JAVA_HOME" {
				homes = append(homes, e.Value)
			}
		}
		for _, p := range t.Places {
			homes = append(homes, p.Target)
			homes = append(homes, s.below(p.Target+"/candidates/java")...) // sdkman
			homes = append(homes, s.below(p.Target+"/java")...)            // mise's and asdf's installs
			homes = append(homes, s.below(p.Target+"/installs/java")...)
		}
	}
	return homes
}

// sight resolves paths as the sandbox will see them.
type sight struct {
	etc    string
	places []Place
}

// host is the path on the host of what is at a path inside, where a directory or file of the host's is.
func (s sight) host(name string) string {
	if within(name, "/etc") {
		return s.etc + strings.TrimPrefix(name, "/etc")
	}
	best := Place{}
	for _, p := range s.places {
		if !p.Link && within(name, p.Target) && len(p.Target) > len(best.Target) {
			best = p
		}
	}
	if best.Target == "" {
		return ""
	}
	return best.Source + strings.TrimPrefix(name, best.Target)
}

// link is the text of the link that stands at a path inside.
func (s sight) link(name string) string {
	for _, p := range s.places {
		if p.Link && p.Target == name {
			return p.Source
		}
	}
	text, _ := os.Readlink(s.host(name))
	return text
}

// resolve follows the links to a regular file that everybody may read.
func (s sight) resolve(name string) (target, source string, ok bool) {
	rest := strings.Split(name, "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := path.Join(at, part)
		text := ""
		if part != "" && part != "." && part != ".." {
			text = s.link(next)
		}
		if text == "" {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", "", false
		}
		if path.IsAbs(text) {
			at = "/"
		}
		rest = append(strings.Split(text, "/"), rest...)
	}
	source = s.host(at)
	var st unix.Stat_t
	if source == "" || unix.Lstat(source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o004 == 0 {
		return "", "", false
	}
	return at, source, true
}

// below lists what is in a directory inside.
func (s sight) below(dir string) []string {
	host := s.host(dir)
	if host == "" {
		return nil
	}
	var out []string
	for _, name := range names(host) {
		out = append(out, dir+"/"+name.Name())
	}
	return out
}
