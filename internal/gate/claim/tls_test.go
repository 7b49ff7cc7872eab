package claim

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
)

// hello is a real client's hello, as records.
func hello(t testing.TB, config *tls.Config) []byte {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		tls.Client(client, config).Handshake()
		client.Close()
	}()
	b := make([]byte, Max)
	n := 0
	for {
		m, err := server.Read(b[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
		if _, need, err := Read(b[:n], false); need == 0 {
			if err != nil {
				t.Fatal(err)
			}
			return b[:n]
		}
	}
}

func record(fragment []byte) []byte {
	return append([]byte{22, 3, 1, byte(len(fragment) >> 8), byte(len(fragment))}, fragment...)
}

// made is a small hello with these extensions, as one record.
func made(extensions ...[]byte) []byte { return record(message(extensions...)) }

func message(extensions ...[]byte) []byte {
	var ext []byte
	for _, e := range extensions {
		ext = append(ext, e...)
	}
	b := append([]byte{3, 3}, make([]byte, 32)...)
	b = append(b, 0, 0, 2, 0x13, 1, 1, 0)
	b = append(b, byte(len(ext)>>8), byte(len(ext)))
	b = append(b, ext...)
	return append([]byte{1, 0, byte(len(b) >> 8), byte(len(b))}, b...)
}

func extension(kind byte, body []byte) []byte {
	return append([]byte{0, kind, byte(len(body) >> 8), byte(len(body))}, body...)
}

func sni(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(append(list, 0, byte(len(n)>>8), byte(len(n))), n...)
	}
	return extension(0, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...))
}

func TestHelloOfARealClient(t *testing.T) {
	whole := hello(t, &tls.Config{ServerName: "API.example.com", NextProtos: []string{"h2", "http/1.1"}})
	for n := range len(whole) {
		if c, need, err := Read(whole[:n], false); err != nil || need <= n && n > 0 {
			t.Fatalf("the first %d bytes: %v, %d needed, %v", n, c, need, err)
		}
		if n > 0 {
			if _, _, err := Read(whole[:n], true); err == nil {
				t.Fatalf("a hello that ends after %d bytes is taken", n)
			}
		}
	}
	c, need, err := Read(whole, false)
	if err != nil || need != 0 || c.Agree("api.example.com", 443) != nil {
		t.Errorf("%v, %d needed, %v", c, need, err)
	}
	for _, name := range []string{"example.com", "evil.example.com", "api.example.com.evil.org"} {
		if c.Agree(name, 443) == nil {
			t.Errorf("the hello agrees with %s", name)
		}
	}
	none, _, err := Read(hello(t, &tls.Config{InsecureSkipVerify: true}), false)
	if err != nil || none.Agree("api.example.com", 443) == nil {
		t.Errorf("a hello without a name: %v %v", none, err)
	}
}

// TestHelloInPieces: one byte of the message in each record.
func TestHelloInPieces(t *testing.T) {
	var b []byte
	for _, c := range message(sni("a.example.com"), extension(43, []byte{2, 3, 4})) {
		b = append(b, record([]byte{c})...)
	}
	c, need, err := Read(append(b, "application data"...), false)
	if err != nil || need != 0 || c.Agree("a.example.com", 1) != nil {
		t.Errorf("%v %d %v", c, need, err)
	}
}

func TestHelloRefused(t *testing.T) {
	name := sni("a.example.com")
	for what, b := range map[string][]byte{
		"two names in one list":         made(sni("a.example.com", "b.example.com")),
		"two lists of names":            made(name, name),
		"an extension twice":            made(name, extension(43, []byte{2, 3, 4}), extension(43, []byte{2, 3, 4})),
		"an empty name":                 made(sni("")),
		"an empty list":                 made(extension(0, []byte{0, 0})),
		"no list":                       made(extension(0, nil)),
		"a name of another kind":        made(extension(0, []byte{0, 4, 1, 0, 1, 'a'})),
		"NUL in the name":               made(sni("a.example.com\x00.evil.org")),
		"a trailing dot":                made(sni("a.example.com.")),
		"an address with a trailing LF": made(sni("127.0.0.1\n")),
		"a blank":                       made(sni("a example.com")),
		"a number that is no address":   made(sni("127.1")),
		"bytes after the list":          made(extension(0, []byte{0, 4, 0, 0, 1, 'a', 0})),
		"a second message":              record(append(message(name), 1, 0, 0, 0)),
		"another message":               record([]byte{2, 0, 0, 0}),
		"an empty record":               record(nil),
		"an empty record within":        append(record(message(name)[:9]), record(nil)...),
		"an alert within":               append(record(message(name)[:9]), 21, 3, 1, 0, 2, 1, 0),
		"a warning before the hello":    append([]byte{21, 3, 1, 0, 2, 1, 90}, made(name)...),
		"new ciphers before the hello":  append([]byte{20, 3, 3, 0, 1, 1}, made(name)...),
		"data before the hello":         append([]byte{23, 3, 1, 0, 0}, made(name)...),
		"SSL 2's hello":                 {0x80, 46, 1, 3, 1, 0, 3},
		"version 2":                     {22, 2, 0, 0, 4},
		"a huge message":                record([]byte{1, 2, 0, 0}),
		"a huge record":                 {22, 3, 1, 0xff, 0xff},
		"a truncated extension":         made(name[:len(name)-3]),
		"a long session id":             record(append([]byte{1, 0, 0, 2 + 32 + 1 + 33, 3, 3}, append(append(make([]byte, 32), 33), make([]byte, 33)...)...)),
	} {
		if c, need, err := Read(b, false); err == nil {
			t.Errorf("%s is taken: %v, %d needed", what, c, need)
		}
	}
	long := record(append([]byte{1, 0, 0xff, 0xfe}, make([]byte, 16000)...))
	for range 4 {
		long = append(long, record(make([]byte, 16000))...)
	}
	if _, need, err := Read(long[:Max], false); err == nil {
		t.Errorf("a hello that does not fit: %d needed", need)
	}
}

// TestEncryptedHello: with ECH the outer name is what counts, and it must agree like any other.
func TestEncryptedHello(t *testing.T) {
	ech := append([]byte{0xfe, 0x0d, 0, 4}, 0, 1, 2, 3)
	c, _, err := Read(made(sni("cover.example.com"), ech), false)
	if err != nil || c.Agree("cover.example.com", 443) != nil || c.Agree("hidden.example.com", 443) == nil {
		t.Errorf("%v %v", c, err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(made(sni("a.example.com")))
	f.Add(hello(f, &tls.Config{ServerName: "a.example.com"}))
	f.Add(made(sni("a.example.com", "b")))
	f.Add(append([]byte{21, 3, 1, 0, 2, 1, 90}, made(sni("a.example.com"))...))
	f.Add(append(record(message(sni("a"))[:9]), record(message(sni("a"))[9:])...))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, need, err := Read(b, false)
		if err != nil {
			return
		}
		if need != 0 {
			if need <= len(b) || need > Max {
				t.Errorf("%d bytes needed after %d", need, len(b))
			}
			return
		}
		if c.Protocol == Opaque && len(b) > 0 && seenByServer(b) != "" {
			t.Errorf("Go's server reads a hello for %q where we see none", seenByServer(b))
		}
		if c.Protocol != TLS || len(c.Hosts) == 0 {
			return
		}
		// What we read, Go's own server reads as well, unless it refuses the hello.
		if got := seenByServer(b); got != "" && !strings.EqualFold(got, c.Hosts[0].Name) {
			t.Errorf("Go's server reads %q where we read %q", got, c.Hosts[0].Name)
		}
	})
}

// seenByServer is the name that crypto/tls reads.
func seenByServer(b []byte) (name string) {
	client, server := net.Pipe()
	go func() {
		client.Write(b)
		client.Close()
	}()
	go func() {
		var sink [512]byte
		for {
			if _, err := client.Read(sink[:]); err != nil {
				return
			}
		}
	}()
	tls.Server(server, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name = h.ServerName
		return nil, net.ErrClosed
	}}).Handshake()
	server.Close()
	return name
}
