package policy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMatchHost(t *testing.T) {
	for _, c := range []struct {
		pattern, host string
		want          bool
	}{
		{"example.com", "example.com", true},
		{"example.com", "EXAMPLE.com.", true},
		{"Example.COM.", "example.com", true},
		{"example.com", "www.example.com", false},
		{"example.com", "example.com.evil.org", false},
		{"*.example.com", "www.example.com", true},
		{"*.example.com", "a.b.example.com.", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", "evilexample.com", false},
		{"*.example.com", "www.example.com.evil.org", false},
		{"*.example.com", "_x.example.com", true},
		{"xn--mnchen-3ya.example", "XN--MNCHEN-3YA.example", true},
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"::ffff:a00:1", "10.0.0.1", true},
		{"2001:db8::1", "[2001:DB8:0:0::1]", true},
		{"::1", "127.0.0.1", false},
		{"*.1.example", "10.1.example", true},
		{"localhost", "localhost", true},
		{"*.ab", "a.ab", true},
	} {
		got, err := MatchHost(c.pattern, c.host)
		if err != nil || got != c.want {
			t.Errorf("%s covers %s: %v, %v", c.pattern, c.host, got, err)
		}
	}
}

// TestHostInvalid: what is not a host is an error, because "no match" would let a caller go on with it.
func TestHostInvalid(t *testing.T) {
	for name, host := range map[string]string{
		"empty":                       "",
		"dot":                         ".",
		"empty label":                 "a..b",
		"leading dot":                 ".example.com",
		"two trailing dots":           "example.com..",
		"NUL":                         "example.com\x00.evil.org",
		"CR":                          "example.com\r",
		"LF":                          "example.com\nHost: evil.org",
		"space":                       "exam ple.com",
		"percent":                     "example%2ecom",
		"slash":                       "example.com/",
		"backslash":                   `example.com\`,
		"user":                        "user@example.com",
		"port":                        "example.com:443",
		"fragment":                    "example.com#",
		"wildcard as a host":          "*.example.com",
		"label of 64":                 strings.Repeat("a", 64) + ".com",
		"name of 254":                 strings.Repeat(strings.Repeat("a", 62)+".", 4) + "aa",
		"hyphen first":                "-a.com",
		"hyphen last":                 "a-.com",
		"outside ASCII":               "münchen.example",
		"dotless i":                   "gıthub.com",
		"full-width dot":              "example。com",
		"soft hyphen":                 "exam\u00adple.com",
		"invalid UTF-8":               "a\xff.com",
		"one number (inet_aton)":      "2130706433",
		"two numbers (inet_aton)":     "127.1",
		"hexadecimal (inet_aton)":     "0x7f.0.0.1",
		"hexadecimal last":            "127.0.0.0x1",
		"empty hexadecimal last":      "a.0x",
		"octal (inet_aton)":           "0177.0.0.1",
		"five numbers":                "1.2.3.4.5",
		"number too large":            "256.0.0.1",
		"number as top-level domain":  "example.123",
		"address with a trailing dot": "127.0.0.1.",
		"zone":                        "fe80::1%eth0",
		"bracketed name":              "[example.com]",
		"bracketed IPv4":              "[127.0.0.1]",
		"open bracket":                "[::1",
		"address and port":            "[::1]:443",
		"short IPv6":                  "1:2:3",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := NormalizeHost(host); err == nil {
				t.Errorf("%q is taken as %q", host, got)
			}
			if _, err := MatchHost("example.com", host); err == nil {
				t.Errorf("%q does not match, instead of being an error", host)
			}
		})
	}
	for _, pattern := range []string{"*", "*.", "*.*", "*.*.com", "a.*.com", "*a.com", "a*.com", "**.a.com", "*.127.0.0.1", "*.::1", "*.[::1]", "*..a.com", "*.a" + strings.Repeat(strings.Repeat("a", 62)+".", 4)} {
		if ok, err := MatchHost(pattern, "a.com"); err == nil {
			t.Errorf("pattern %q is taken: %v", pattern, ok)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range [][2]string{{"example.com", "EXAMPLE.com."}, {"*.a.b", "x.y.a.b"}, {"::1", "[::1]"}, {"10.0.0.1", "::ffff:10.0.0.1"}, {"*.a.b", "evila.b"}, {"a.b", "a.b\x00"}, {"a%b", "a"}, {"0x7f.1", "127.1"}, {"xn--a", "a_b"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, host string) {
		h, err := NormalizeHost(host)
		if err == nil {
			checkNormal(t, h)
		}
		covered, matchErr := MatchHost(pattern, host)
		if (err != nil) && matchErr == nil {
			t.Errorf("invalid %q was compared", host)
		}
		if matchErr != nil && covered {
			t.Errorf("%q covers %q with an error", pattern, host)
		}
		if !covered {
			return
		}
		// Whatever covers, covers by the labels from the right, and nothing but a whole name or a whole domain.
		p := strings.ToLower(strings.TrimSuffix(pattern, "."))
		if domain, wild := strings.CutPrefix(p, "*."); wild {
			if !strings.HasSuffix(h, "."+domain) || len(h) < len(domain)+2 {
				t.Errorf("%q covers %q", pattern, host)
			}
		} else if n, err := NormalizeHost(p); err != nil || n != h {
			t.Errorf("%q covers %q", pattern, host)
		}
	})
}

func checkNormal(t *testing.T, h string) {
	t.Helper()
	again, err := NormalizeHost(h)
	if err != nil || again != h {
		t.Errorf("%q normalises to %q, %v", h, again, err)
	}
	if len(h) > 253 || h != strings.ToLower(h) || strings.ContainsAny(h, "\x00\r\n%/@ []*") || strings.HasSuffix(h, ".") {
		t.Errorf("%q is not normal", h)
	}
	if addr, err := netip.ParseAddr(h); err == nil && addr.Is4In6() {
		t.Errorf("%q has a second spelling", h)
	}
}
