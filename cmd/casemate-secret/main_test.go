package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
	"golang.org/x/sys/unix"
)

func TestGuard(t *testing.T) {
	if err := guard(); err != nil {
		t.Fatal(err)
	}
	var core unix.Rlimit
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 || unix.Getrlimit(unix.RLIMIT_CORE, &core) != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("dumpable %d, core %+v, %v", dumpable, core, err)
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "90d": now.AddDate(0, 0, 90), "12h": now.Add(12 * time.Hour), "2030-01-31T00:00:00Z": time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC)} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"d", "-1d", "0d", "1e3d", "+1d", "1 d", "-5h", "0h", "2020-01-01", "soon", "1"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestReadValue(t *testing.T) {
	for in, want := range map[string]string{"abc\n": "abc", "abc\r\n": "abc", "abc": "abc", "abc\n\n": "abc\n", " abc ": " abc ", "": "", "\n": "", strings.Repeat("x", secret.MaxValue+9): ""} {
		v, err := readValue(strings.NewReader(in))
		got := ""
		if err == nil {
			v.Use(func(b []byte) error { got = string(b); return nil })
		}
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q is %.20q, %v", in, got, err)
		}
	}
}

// TestHelp: each verb has what casemate's own commands have.
func TestHelp(t *testing.T) {
	for _, v := range verbs() {
		if v.summary == "" || v.help == "" || !strings.HasPrefix(v.example, "casemate secret "+v.name) {
			t.Errorf("%s: %+v", v.name, v)
		}
		var b bytes.Buffer
		fs := flag.NewFlagSet(v.name, flag.ContinueOnError)
		v.flags(fs, &desk{})
		v.printHelp(&b, fs)
		for line := range strings.Lines(b.String()) {
			if len(line) > 81 {
				t.Errorf("%s: a line of more than 80 columns: %s", v.name, line)
			}
		}
	}
}

func TestPassphraseFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &desk{getenv: func(string) string { return file }}
	v, err := d.passphrase()()
	if err != nil || v.Len() != len("correct horse") {
		t.Errorf("%d, %v", v.Len(), err)
	}
}

// TestWords: a grant's project is shown as a terminal may see it.
func TestWords(t *testing.T) {
	if got := words(book.Grant{Project: "/p/\x1b[2Jx", Hosts: []string{"a.example"}, Ports: []int{443}}); got != `project /p/\x1b[2Jx at a.example` {
		t.Errorf("%q", got)
	}
}
