package signer

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // of hashed names: how OpenSSH writes them
	"encoding/base64"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// place is a host and port, and by which keys it is known.
type place struct {
	host        string
	port        int
	keys        []ssh.PublicKey
	authorities []ssh.PublicKey // whose certificates are believed
	revoked     []ssh.PublicKey
}

// name is how known_hosts writes it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
func (p *place) name() string {
	if p.port == 22 {
		return p.host
	}
	return "[" + p.host + "]:" + strconv.Itoa(p.port)
}

// knownLine is one of the person's known_hosts.
type knownLine struct {
	marker string
	hosts  []string
	key    ssh.PublicKey
}

// parseKnown reads the lines that are understood. As ssh does, it passes over the others: one strange line must not cost the person all of them.
func parseKnown(text []byte) (list []knownLine) {
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		words := strings.Fields(string(line))
		var l knownLine
		if len(words) > 0 && words[0][0] == '@' {
			l.marker, words = words[0], words[1:]
		}
		if len(words) < 3 || words[0][0] == '#' || l.marker != "" && l.marker != "@cert-authority" && l.marker != "@revoked" {
			continue
		}
		blob, err := base64.StdEncoding.DecodeString(words[2])
		if err != nil {
			continue
		}
		if l.key, err = ssh.ParsePublicKey(blob); err != nil || l.key.Type() != words[1] {
			continue
		}
		l.hosts = strings.Split(words[0], ",")
		list = append(list, l)
	}
	return list
}

// isFor says whether a line is about a name. A pattern with a ! takes the name out, whatever else the line has.
func (l *knownLine) isFor(name string) bool {
	found := false
	for _, pattern := range l.hosts {
		pattern, not := strings.CutPrefix(pattern, "!")
		if matches(pattern, name) {
			if not {
				return false
			}
			found = true
		}
	}
	return found
}

func matches(pattern, name string) bool {
	if hashed, ok := strings.CutPrefix(pattern, "|1|"); ok {
		salt, sum, _ := strings.Cut(hashed, "|")
		key, err1 := base64.StdEncoding.DecodeString(salt)
		want, err2 := base64.StdEncoding.DecodeString(sum)
		mac := hmac.New(sha1.New, key)
		mac.Write([]byte(name))
		return err1 == nil && err2 == nil && hmac.Equal(mac.Sum(nil), want)
	}
	// Brackets and backslashes stand for themselves there, and a * for slashes too, which no name has.
	pattern = strings.NewReplacer(`[`, `\[`, `\`, `\\`).Replace(strings.ToLower(pattern))
	ok, err := path.Match(pattern, strings.ToLower(name))
	return err == nil && ok
}

// known finds a place's keys. Like ssh it takes a line for the host alone where none names the port.
func (p *place) known(lines []knownLine) {
	for _, name := range []string{p.name(), p.host} {
		for _, l := range lines {
			if !l.isFor(name) {
				continue
			}
			switch l.marker {
			case "":
				p.keys = append(p.keys, l.key)
			case "@cert-authority":
				p.authorities = append(p.authorities, l.key)
			case "@revoked":
				p.revoked = append(p.revoked, l.key)
			}
		}
		if len(p.keys)+len(p.authorities) > 0 {
			return
		}
	}
}

// isKeyOf says whether a host key is one of the place's.
func (p *place) isKeyOf(key ssh.PublicKey) bool {
	cert, certified := key.(*ssh.Certificate)
	if !certified {
		return has(p.keys, key) && !has(p.revoked, key)
	}
	if has(p.revoked, cert) || has(p.revoked, cert.Key) || has(p.revoked, cert.SignatureKey) {
		return false
	}
	return cert.CertType == ssh.HostCert && has(p.authorities, cert.SignatureKey) && new(ssh.CertChecker).CheckCert(p.host, cert) == nil
}

func has(list []ssh.PublicKey, key ssh.PublicKey) bool {
	blob := key.Marshal()
	for _, k := range list {
		if bytes.Equal(k.Marshal(), blob) {
			return true
		}
	}
	return false
}

// lines are the place's keys as another known_hosts has them: under its own name, and of nothing else that the person knows.
func (p *place) lines() string {
	var b strings.Builder
	for _, set := range []struct {
		marker string
		keys   []ssh.PublicKey
	}{{"", p.keys}, {"@cert-authority ", p.authorities}, {"@revoked ", p.revoked}} {
		for i, k := range set.keys {
			if !has(set.keys[:i], k) {
				fmt.Fprintf(&b, "%s%s %s", set.marker, p.name(), ssh.MarshalAuthorizedKey(k))
			}
		}
	}
	return b.String()
}

// verified says whether the binding's host key has signed its session. A signature with SHA-1 counts for nothing.
func (b *binding) verified() (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(b.hostKey)
	if err != nil {
		return nil, fmt.Errorf("its host key cannot be read")
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal(b.signature, &sig); err != nil || sig.Format == ssh.KeyAlgoRSA || sig.Format == "ssh-dss" {
		return nil, fmt.Errorf("its signature is of no kind that counts")
	}
	if err := key.Verify(b.session, &sig); err != nil {
		return nil, fmt.Errorf("the host key did not sign that session")
	}
	return key, nil
}
