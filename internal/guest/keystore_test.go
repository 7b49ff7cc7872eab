package guest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
)

// certificate makes one of an authority, as PEM.
func certificate(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestKeyStore has Java's own program read what we write: a store of the old format with one certificate more, and one that is made anew.
func TestKeyStore(t *testing.T) {
	keytool, err := exec.LookPath("keytool")
	if err != nil {
		if found, _ := filepath.Glob("/usr/lib/jvm/*/bin/keytool"); len(found) > 0 {
			keytool = found[0]
		} else {
			t.Skip("keytool is missing, and a Java runtime is too large to be installed for tests: that Java reads our key stores is not shown here")
		}
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		out, err := exec.Command(keytool, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("keytool %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	host := certificate(t, "a company's authority")
	gate := certificate(t, wire.AuthorityName)
	system := append(certificate(t, "one"), certificate(t, "two")...)
	if err := os.WriteFile(filepath.Join(dir, "host.pem"), host, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		format string
		want   []string
	}{
		{"jks", []string{"CN=a company's authority", "CN=" + wire.AuthorityName}},
		{"pkcs12", []string{"CN=one", "CN=two", "CN=" + wire.AuthorityName}},
	} {
		old, made := filepath.Join(dir, c.format), filepath.Join(dir, c.format+".made")
		run("-importcert", "-noprompt", "-alias", "company", "-file", filepath.Join(dir, "host.pem"), "-keystore", old, "-storetype", c.format, "-storepass", "changeit")
		store, err := os.ReadFile(old)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(made, KeyStore(store, system, Certificates(gate)[0]), 0o600); err != nil {
			t.Fatal(err)
		}
		list := run("-list", "-v", "-keystore", made, "-storepass", "changeit") // with the password the digest is checked
		for _, want := range c.want {
			if !strings.Contains(list, "Owner: "+want+"\n") {
				t.Errorf("from %s: %q is not in it:\n%s", c.format, want, list)
			}
		}
		if n := strings.Count(list, "Alias name:"); n != len(c.want) {
			t.Errorf("from %s: %d entries, want %d", c.format, n, len(c.want))
		}
	}
}

// TestForeignStore: what cannot be read, and cannot be made anew, is left as it is.
func TestForeignStore(t *testing.T) {
	for _, store := range [][]byte{nil, []byte("0\x82"), append([]byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 1}, make([]byte, 40)...)} {
		if got := KeyStore(store, []byte("no certificates"), []byte{1}); !bytes.Equal(got, store) {
			t.Errorf("%q became %q", store, got)
		}
	}
}

func FuzzCertificates(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE----------BEGIN CERTIFICATE-----\nAA==-----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, der := range Certificates(text) {
			if len(der) == 0 || len(der) > len(text) {
				t.Errorf("%d bytes of %d", len(der), len(text))
			}
		}
		KeyStore(text, text, text)
	})
}

// TestCertificates reads what encoding/pem writes, and the comments of bundles.
func TestCertificates(t *testing.T) {
	a, b := certificate(t, "a"), certificate(t, "b")
	text := append(append([]byte("# a comment\r\n"), a...), append([]byte("-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n"), b...)...)
	got := Certificates(text)
	want1, _ := pem.Decode(a)
	want2, _ := pem.Decode(b)
	if len(got) != 2 || !bytes.Equal(got[0], want1.Bytes) || !bytes.Equal(got[1], want2.Bytes) {
		t.Errorf("got %d certificates", len(got))
	}
}

// TestAuthorityHash: the name in the directory of certificates is the one that OpenSSL looks for.
func TestAuthorityHash(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing, whose hash it is: test/setup.sh installs it")
	}
	cmd := exec.Command("openssl", "x509", "-noout", "-hash")
	cmd.Stdin = bytes.NewReader(certificate(t, wire.AuthorityName))
	out, err := cmd.Output()
	if err != nil || strings.TrimSpace(string(out)) != wire.AuthorityHash {
		t.Errorf("OpenSSL says %q, %v; we say %s", out, err, wire.AuthorityHash)
	}
}
