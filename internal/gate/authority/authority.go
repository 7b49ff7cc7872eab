// Package authority signs certificates for the hosts that a sandbox's gate opens.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/internal/policy"
)

const (
	lifetime = 30 * 24 * time.Hour // of the authority; its key goes with the gate, which is earlier
	day      = 24 * time.Hour      // of a host's certificate
	early    = time.Hour           // for clocks that differ, and before a certificate ends
	remember = 256                 // certificates
)

// Authority is that of one sandbox. Its key never leaves this process's memory. New makes one.
type Authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	leaf        *ecdsa.PrivateKey // of all hosts' certificates: whoever has it has the other one too

	mu   sync.Mutex
	made map[string]*tls.Certificate
}

// New makes an authority that can speak for the hosts of these patterns, as policy.MatchHost takes them, and for no others: clients refuse what it would
// sign beyond them (RFC 5280, 4.2.1.10). "*.a.example" includes a.example, because not all clients read a constraint that excludes it.
func New(patterns []string, now time.Time) (*Authority, error) {
	a := &Authority{made: map[string]*tls.Certificate{}}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if a.leaf, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	serial, err := number()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: wire.AuthorityName},
		NotBefore: now.Add(-early), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if err := constrain(template, patterns); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	a.certificate, err = x509.ParseCertificate(der)
	return a, err
}

// constrain permits the patterns. A kind of name that is not constrained would be permitted wholly, so each kind is: those without a pattern to nothing.
func constrain(c *x509.Certificate, patterns []string) error {
	c.PermittedDNSDomainsCritical = true
	for _, p := range patterns {
		host, err := policy.NormalizeHost(strings.TrimPrefix(p, "*."))
		if err != nil {
			return err
		}
		if addr, err := netip.ParseAddr(host); err == nil {
			c.PermittedIPRanges = append(c.PermittedIPRanges, &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())})
		} else {
			c.PermittedDNSDomains = append(c.PermittedDNSDomains, host)
		}
	}
	if len(c.PermittedDNSDomains) == 0 {
		c.PermittedDNSDomains = []string{"invalid"} // RFC 6761, 6.4: no name is in it
	}
	if len(c.PermittedIPRanges) == 0 {
		c.ExcludedIPRanges = []*net.IPNet{{IP: make(net.IP, 4), Mask: make(net.IPMask, 4)}, {IP: make(net.IP, 16), Mask: make(net.IPMask, 16)}}
	}
	return nil
}

// PEM is the certificate that programs inside have to trust.
func (a *Authority) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
}

// Certificate is a host's, which is a name or an address as policy.NormalizeHost writes it.
func (a *Authority) Certificate(host string, now time.Time) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.made[host]; c != nil && now.Before(c.Leaf.NotAfter.Add(-early)) {
		return c, nil
	}
	c, err := a.sign(host, now)
	if err != nil {
		return nil, fmt.Errorf("a certificate for %s: %w", host, err)
	}
	for old := range a.made {
		if len(a.made) < remember {
			break
		}
		delete(a.made, old) // any of them: it is made anew in no time
	}
	a.made[host] = c
	return c, nil
}

func (a *Authority) sign(host string, now time.Time) (*tls.Certificate, error) {
	serial, err := number()
	if err != nil {
		return nil, err
	}
	end := now.Add(day)
	if end.After(a.certificate.NotAfter) {
		end = a.certificate.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"opened by the sandbox's gate"}}, NotBefore: now.Add(-early), NotAfter: end,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		template.IPAddresses = []net.IP{addr.AsSlice()}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, a.leaf.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := a.covers(leaf, now); err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: crypto.PrivateKey(a.leaf), Leaf: leaf}, nil
}

// covers asks what a client would: the answer is a sentence in a record instead of a riddle in the client.
func (a *Authority) covers(leaf *x509.Certificate, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now})
	return err
}

// number is a random serial number of 16 bytes, positive and without a leading zero.
func number() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b), nil
}
