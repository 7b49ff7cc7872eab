package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTrusted finds the files as distributions lay them, wherever links lead, and each once.
func TestTrusted(t *testing.T) {
	const usr = "usr/"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"Debian", map[string]string{
			"etc/ssl/certs/ca-certificates.crt": "PEM", "etc/ssl/certs/java/cacerts": "JKS", "usr/lib/ssl/certs": "->/etc/ssl/certs", "usr/bin/java": "->/etc/alternatives/java",
			"etc/alternatives/java": "->/usr/lib/jvm/java-17/bin/java", "usr/lib/jvm/java-17/bin/java": "#!", "usr/lib/jvm/java-17/lib/security/cacerts": "->/etc/ssl/certs/java/cacerts",
			"usr/lib/jvm/other/jre/lib/security/cacerts": "JKS",
		}, "/etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/java/cacerts* /usr/lib/jvm/other/jre/lib/security/cacerts*"},
		{"Debian whose OpenSSL has a file", map[string]string{"etc/ssl/certs/ca-certificates.crt": "PEM", "usr/lib/ssl/cert.pem": "->/etc/ssl/certs/ca-certificates.crt"}, "/etc/ssl/certs/ca-certificates.crt"},
		{"Fedora", map[string]string{
			"etc/ssl/certs": "->../pki/tls/certs", "etc/pki/tls/certs/ca-bundle.crt": "->/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/pki/tls/cert.pem": "->certs/ca-bundle.crt",
			"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem": "PEM", "etc/pki/java/cacerts": "->/etc/pki/ca-trust/extracted/java/cacerts", "etc/pki/ca-trust/extracted/java/cacerts": "JKS",
		}, "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem /etc/pki/ca-trust/extracted/java/cacerts*"},
		{"NixOS", map[string]string{"etc/ssl/certs/ca-certificates.crt": "->/usr/store/cacert/bundle.crt", "etc/ssl/certs/ca-bundle.crt": "->/usr/store/cacert/bundle.crt", "usr/store/cacert/bundle.crt": "PEM"}, "/usr/store/cacert/bundle.crt"},
		{"openSUSE", map[string]string{"etc/ssl/ca-bundle.pem": "PEM", "etc/ssl/certs/x.pem": "PEM"}, "/etc/ssl/ca-bundle.pem"},
		{"what leads out, or not everybody reads", map[string]string{"etc/ssl/cert.pem": "->/var/lib/x.pem", "etc/ssl/ca-bundle.pem": "!600 PEM", "etc/ssl/certs/ca-certificates.crt": "->ca-certificates.crt"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, c.files)
			os.MkdirAll(filepath.Join(dir, usr), 0o755)
			v := View{System: []Place{{Target: "/usr", Source: filepath.Join(dir, usr)}, {Target: "/bin", Source: "usr/bin", Link: true}}, Path: "/bin:/usr/bin"}
			var got []string
			for _, f := range v.Trusted(filepath.Join(dir, "etc")) {
				if text, err := os.ReadFile(f.Source); err != nil || f.Source != filepath.Join(dir, f.Target) {
					t.Errorf("%s is said to be %s: %q %v", f.Target, f.Source, text, err)
				}
				text := f.Target
				if f.Java {
					text += "*"
				}
				got = append(got, text)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

// TestTrustedHere: on the machine itself, what most programs read is found.
func TestTrustedHere(t *testing.T) {
	etc, err := Etc(filepath.Join(t.TempDir(), "etc"), etcOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer etc.Close()
	v, _ := lookNow(Options{Home: t.TempDir(), Env: os.Getenv})
	got := fmt.Sprint(v.Trusted(etc.Path))
	for _, name := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/java/cacerts"} {
		if _, err := os.Stat(name); err == nil && !strings.Contains(got, "{"+name+" ") {
			t.Errorf("%s is not in %s", name, got)
		}
	}
}

// TestTrustLink: the place where OpenSSL looks leads to the authority, and nothing is ever made in what a link of the host's leads to.
func TestTrustLink(t *testing.T) {
	for _, c := range []struct {
		name string
		host map[string]string
		want string // where it is
	}{
		{"a directory", map[string]string{"ssl/certs/ca.pem": "CA"}, "ssl/certs"},
		{"a link", map[string]string{"ssl/certs": "->{}/pki/tls/certs", "pki/tls/certs/ca.pem": "CA"}, "pki/tls/certs"},
		{"one that the host has", map[string]string{"ssl/certs/" + trustLink: "CA"}, "ssl/certs"},
		{"none", map[string]string{"localtime": "x"}, ""},
	} {
		host := tree(t, c.host)
		got, err := etcFrom(host, filepath.Join(t.TempDir(), "etc"), etcOptions())
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		for _, dir := range trustDirs() {
			text, _ := os.Readlink(filepath.Join(got.Path, dir, trustLink))
			if made := text == authority; made != (dir == c.want) {
				t.Errorf("%s: in %s it leads to %q", c.name, dir, text)
			}
			if _, err := os.Readlink(filepath.Join(host, dir, trustLink)); err == nil {
				t.Errorf("%s: it was made on the host, in %s", c.name, dir)
			}
		}
	}
}

// TestTrustVariables: they are there where TLS is opened, and what the policy says wins.
func TestTrustVariables(t *testing.T) {
	o := EnvOptions{Host: []string{"NODE_EXTRA_CA_CERTS=/host"}, Set: []string{"SSL_CERT_FILE=/mine"}, View: View{Path: "/usr/bin"}}
	if got := strings.Join(Env(o), "\n"); strings.Contains(got, "CA_BUNDLE") || strings.Contains(got, "NODE_EXTRA") {
		t.Errorf("without opened TLS:\n%s", got)
	}
	o.Trust = true
	got := Env(o)
	for _, want := range []string{"SSL_CERT_FILE=/mine", "NODE_EXTRA_CA_CERTS=" + authority, "REQUESTS_CA_BUNDLE=" + bundle, "DENO_CERT=" + authority} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %q", want, got)
		}
	}
	o.Pass = []string{"NODE_*"}
	if got := Env(o); !slices.Contains(got, "NODE_EXTRA_CA_CERTS="+authority) {
		t.Errorf("what was not passed by its name wins: %q", got)
	}
	o.Pass = []string{"NODE_EXTRA_CA_CERTS"}
	if got := Env(o); !slices.Contains(got, "NODE_EXTRA_CA_CERTS=/host") {
		t.Errorf("what the policy passes does not win: %q", got)
	}
}
