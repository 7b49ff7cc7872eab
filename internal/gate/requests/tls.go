package requests

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// Unopenable is why a connection cannot be opened although a rule is about it.
type Unopenable struct{ Err error }

func (u *Unopenable) Error() string { return u.Err.Error() }

func unopenable(format string, args ...any) error { return &Unopenable{fmt.Errorf(format, args...)} }

const wayOut = "this host cannot be opened: allow it without methods and paths"

// Secure makes the TLS of both sides. The server's comes first, while the client's hello waits: so the client is offered what the server speaks. A server
// that cannot be had is no error; requests are answered with what is wrong. roots are the host's authorities.
func (s *Session) Secure(ctx context.Context, certificate *tls.Certificate, roots *x509.CertPool) error {
	s.secure = true
	var strange error
	client := tls.Server(s.Client, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			offers := readable(hello.SupportedProtos)
			if len(hello.SupportedProtos) > 0 && len(offers) == 0 {
				strange = unopenable("the program wants to speak %.80q in TLS, and the gate reads HTTP only; %s", hello.SupportedProtos, wayOut)
				return nil, strange
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*certificate}, NextProtos: s.secureServer(hello.Context(), offers, roots), SessionTicketsDisabled: true,
			}, nil
		},
	})
	late, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	err := client.HandshakeContext(late)
	switch {
	case strange != nil:
		return strange
	case err != nil:
		return s.distrust(err)
	}
	_ = client.SetDeadline(time.Time{})
	s.Client, s.HTTP2 = client, client.ConnectionState().NegotiatedProtocol == http2
	return nil
}

const http2, http11 = "h2", "http/1.1"

func readable(offers []string) []string {
	return slices.DeleteFunc(slices.Clone(offers), func(p string) bool { return p != http2 && p != http11 })
}

// secureServer returns what the client is offered: what the server chose of its offers.
func (s *Session) secureServer(ctx context.Context, offers []string, roots *x509.CertPool) []string {
	asking := offers
	if len(asking) == 0 {
		asking = []string{http11}
	}
	server := tls.Client(s.Server, &tls.Config{
		ServerName: s.Name, RootCAs: roots, NextProtos: asking, MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			s.asked = true
			return new(tls.Certificate), nil // none; the server may go on without
		},
	})
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := server.HandshakeContext(ctx); err != nil {
		s.broken = fmt.Errorf("the TLS handshake with the host: %w", s.explain(err))
		return offers[:min(1, len(offers))]
	}
	s.Server = server
	switch chosen := server.ConnectionState().NegotiatedProtocol; {
	case slices.Contains(offers, chosen):
		return []string{chosen}
	case slices.Contains(offers, http11): // the server knows nothing of such offers
		return []string{http11}
	}
	return nil
}

// explain says what an error before the first answer means.
func (s *Session) explain(err error) error {
	if s.asked { // HTTP/2 does not pass on the alert that the server sends then
		return fmt.Errorf("the host wants a certificate of the program's (%v); %s", err, wayOut)
	}
	var bad *tls.CertificateVerificationError
	if errors.As(err, &bad) {
		return fmt.Errorf("the host's certificate is not valid here: %w", bad.Err)
	}
	return err
}

// distrust says what a client's end of its handshake means.
func (s *Session) distrust(err error) error {
	switch text := alert(err); {
	case strings.Contains(text, "certificate"), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return unopenable("the program does not accept certificates of the sandbox's authority (%v): it pins the host's, or reads other authorities; %s", err, wayOut)
	case text != "":
		return unopenable("the program ended its TLS handshake with the gate: %v", err)
	}
	return unopenable("the TLS handshake with the program: %w", err)
}

// alert is the text of one that the other side sent (RFC 8446, 6.2); empty where it is something else. crypto/tls has no other way to tell.
func alert(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}
