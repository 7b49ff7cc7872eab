package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"casemate.dev/internal/guest"
)

const aCertificate = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"

// TestTrustedFiles: each file is what it was, and the authority; a run that follows has new files, and who holds an old one keeps it.
func TestTrustedFiles(t *testing.T) {
	host := t.TempDir()
	for name, text := range map[string]string{"a": "# no line end at its end\n" + strings.TrimSpace(aCertificate), "b": "other\n"} {
		if err := os.WriteFile(filepath.Join(host, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tr := &trusted{
		dir: filepath.Join(t.TempDir(), "trust"), files: []string{bundleFile, "bundle-1.pem", "cacerts-2"},
		over: []guest.Trusted{{Target: "/etc/a", Source: filepath.Join(host, "a")}, {Target: "/etc/b", Source: filepath.Join(host, "b")}, {Target: "/etc/c", Source: filepath.Join(host, "b"), Java: true}},
	}
	if err := tr.make(); err != nil {
		t.Fatal(err)
	}
	first, err := os.Open(filepath.Join(tr.dir, authorityFile))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := tr.fill(aCertificate); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{authorityFile: aCertificate, bundleFile: "# no line end at its end\n" + aCertificate + aCertificate, "bundle-1.pem": "other\n" + aCertificate} {
		got, err := os.ReadFile(filepath.Join(tr.dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
		if st, err := os.Stat(filepath.Join(tr.dir, name)); err != nil || st.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v %v: the sandbox's user could not read it", name, st.Mode(), err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(tr.dir, "cacerts-2")); err != nil || !strings.Contains(string(got), "\x00\x00\x00\x03\x01\x02\x03") || !strings.Contains(string(got), "system-1") {
		t.Errorf("Java's: %q %v", got, err)
	}
	if err := tr.make(); err != nil {
		t.Fatal(err)
	}
	if err := tr.fill(strings.Replace(aCertificate, "AQID", "BAUG", 1)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	n, _ := first.Read(got)
	if now, _ := os.ReadFile(filepath.Join(tr.dir, authorityFile)); string(got[:n]) != aCertificate || string(now) == aCertificate {
		t.Errorf("the file of the run before is now %q, and the new one %q", got[:n], now)
	}
	tr.remove()
	if _, err := os.Lstat(tr.dir); !os.IsNotExist(err) {
		t.Errorf("after the run: %v", err)
	}
}

// TestTrustedNeedsOne: a gate that says nothing of an authority is a failed start, and so is a bundle that cannot be read.
func TestTrustedNeedsOne(t *testing.T) {
	tr := &trusted{dir: filepath.Join(t.TempDir(), "trust")}
	if err := tr.make(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "x", aCertificate + aCertificate} {
		if err := tr.fill(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	tr.over, tr.files = []guest.Trusted{{Source: "/nonexistent"}}, []string{authorityFile}
	if err := tr.fill(aCertificate); err == nil {
		t.Error("a bundle that cannot be read was taken for an empty one")
	}
	tr.over, tr.files = nil, nil
	if err := tr.fill(aCertificate); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(tr.dir, bundleFile)); string(got) != aCertificate {
		t.Errorf("without a bundle on the host: %q", got)
	}
}
