package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
)

func made(t *testing.T, patterns ...string) (*Authority, *x509.CertPool, *x509.Certificate) {
	t.Helper()
	a, err := New(patterns, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode([]byte(a.PEM()))
	if block == nil || len(rest) > 0 {
		t.Fatalf("%q", a.PEM())
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return a, pool, c
}

func TestCertificates(t *testing.T) {
	a, pool, ca := made(t, "api.example.com", "*.cdn.example", "10.0.0.5", "2001:db8::1")
	if !ca.IsCA || !ca.MaxPathLenZero || ca.KeyUsage != x509.KeyUsageCertSign || !ca.PermittedDNSDomainsCritical || len(ca.ExtKeyUsage) != 1 {
		t.Errorf("%+v", ca)
	}
	for host, want := range map[string]bool{
		"api.example.com": true, "a.cdn.example": true, "a.b.cdn.example": true, "a_b.cdn.example": true, "10.0.0.5": true, "2001:db8::1": true,
		"example.com": false, "evil.example.com": false, "evilcdn.example": false, "10.0.0.6": false, "2001:db8::2": false, "127.0.0.1": false,
	} {
		c, err := a.Certificate(host, time.Now())
		if (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
		if err != nil {
			continue
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if again, _ := a.Certificate(host, time.Now()); again != c {
			t.Errorf("%s: a second certificate", host)
		}
		if later, err := a.Certificate(host, time.Now().Add(day)); err != nil || later == c {
			t.Errorf("%s: the certificate is not renewed: %v", host, err)
		}
	}
}

// TestClientsRefuseOtherNames: even with its key, nobody gets a client to take the authority's word for another name.
func TestClientsRefuseOtherNames(t *testing.T) {
	for _, patterns := range [][]string{{"api.example.com"}, {"10.0.0.5"}} {
		a, pool, ca := made(t, patterns...)
		sign := func(template x509.Certificate, from *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
			template.SerialNumber, template.NotAfter, template.BasicConstraintsValid = big.NewInt(1), time.Now().Add(time.Hour), true
			der, err := x509.CreateCertificate(rand.Reader, &template, from, a.leaf.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		for name, template := range map[string]x509.Certificate{
			"github.com": {DNSNames: []string{"github.com"}},
			"127.0.0.1":  {IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}},
			"::1":        {IPAddresses: []net.IP{net.IPv6loopback}},
		} {
			if _, err := sign(template, ca, a.key).Verify(x509.VerifyOptions{DNSName: name, Roots: pool}); err == nil {
				t.Errorf("%v: a certificate for %s is valid", patterns, name)
			}
		}
		below := sign(x509.Certificate{IsCA: true}, ca, a.key)
		second := sign(x509.Certificate{DNSNames: []string{"api.example.com"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 5)}}, below, a.leaf)
		between := x509.NewCertPool()
		between.AddCert(below)
		if _, err := second.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between}); err == nil {
			t.Error("an authority below it is valid")
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	a, _, _ := made(t, "*.cdn.example")
	for i := range 2 * remember {
		if _, err := a.Certificate(fmt.Sprintf("a%d.cdn.example", i), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.made) > remember {
		t.Errorf("%d certificates", len(a.made))
	}
}

func TestBadPattern(t *testing.T) {
	if _, err := New([]string{"a b"}, time.Now()); err == nil {
		t.Error("no error")
	}
}

// TestSubject: OpenSSL finds it by the hash of its subject, under the name that the sandbox's /etc has.
func TestSubject(t *testing.T) {
	_, _, ca := made(t, "api.example.com")
	if len(ca.Subject.Names) != 1 || ca.Subject.CommonName != wire.AuthorityName {
		t.Errorf("%v", ca.Subject)
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is missing: test/setup.sh installs it")
	}
	cmd := exec.Command(openssl, "x509", "-noout", "-hash")
	cmd.Stdin = bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}))
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != wire.AuthorityHash {
		t.Errorf("%q %v", out, err)
	}
}
