package policy

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SSH is where some of the person's ssh keys may log in. It holds names of keys, and no key.
type SSH struct {
	Keys  []string `json:"keys,omitempty"` // fingerprints, files of public keys, comments; none: the only one that the person's agent has
	Hosts []string `json:"hosts"`
	Ports []int    `json:"ports"` // 22 when the document names none
}

// String is the rule as one line. Different rules give different lines.
func (s SSH) String() string {
	var b strings.Builder
	b.WriteString(strings.Join(s.Hosts, ", "))
	if len(s.Ports) != 1 || s.Ports[0] != 22 {
		for i, p := range s.Ports {
			b.WriteString([]string{" port ", ","}[min(i, 1)] + strconv.Itoa(p))
		}
	}
	for i, k := range s.Keys {
		b.WriteString([]string{" with ", ", "}[min(i, 1)] + strconv.Quote(k))
	}
	return b.String()
}

// The beginning of a fingerprint as ssh-add -l shows it, and what is after it: a SHA-256 in base64 without padding.
const fingerprint = "SHA256:"

// sshKey reads how a policy names a key.
func sshKey(text string) (string, error) {
	if err := plainText(text); err != nil {
		return "", err
	}
	sum, printed := strings.CutPrefix(text, fingerprint)
	plain := strings.Trim(sum, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") == ""
	switch {
	case printed && (len(sum) != 43 || !plain):
		return "", bad("ssh-add -l shows them", "%s is not the fingerprint of a key", quoted(text))
	case printed:
		return text, nil
	case strings.HasPrefix(text, "/") || strings.HasPrefix(text, "~/"):
		return hostPath(text)
	case strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../"):
		return "", bad("write it from / or ~/ on", "%s is a path from nowhere", quoted(text))
	}
	return text, nil
}

// oneHost reads a host that is no pattern: its key has to be known beforehand.
func oneHost(text string) (string, error) {
	if strings.Contains(text, "*") {
		return "", bad("name each host: its key must be in your known_hosts", "%s stands for many hosts", quoted(text))
	}
	return NormalizeHost(text)
}

// login reads a rule as the command line writes it: HOST, HOST:PORT, and perhaps =KEY.
func login(text string) (entry, error) {
	where, key, named := strings.Cut(text, "=")
	host, ports, err := hostAndPorts(where, 22)
	if err != nil {
		return entry{}, err
	}
	r := SSH{Ports: ports}
	if host, err = oneHost(host); err != nil {
		return entry{}, err
	}
	r.Hosts = []string{host}
	if named {
		if key, err = sshKey(key); err != nil {
			return entry{}, err
		}
		r.Keys = []string{key}
	}
	return sshEntry(r), nil
}

func sshEntry(r SSH) entry {
	return listEntry(func(s *Settings) *[]Value[SSH] { return &s.SSH }, r, always)
}

// login reads one rule of ssh.
func (d *decoder) login(row *key, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		d.failAt(n, "write {hosts: ["+n.Value+"]}", "%s holds rules, not %s", row.path, describe(n))
		return
	}
	before := len(d.errs)
	r := SSH{Ports: []int{22}}
	d.parts(n, row.path+"[].", func(part string, texts []string) {
		switch part {
		case "keys":
			r.Keys = readAll(sshKey, texts)
		case "hosts":
			r.Hosts = readAll(oneHost, texts)
		case "ports":
			r.Ports = readAll(port, texts)
		}
	})
	if len(d.errs) > before {
		return
	}
	if len(r.Hosts) == 0 {
		d.failAt(n, "write {hosts: [github.com]}", "a rule of %s has no hosts", row.path)
		return
	}
	d.add(row, n, sshEntry(r))
}
