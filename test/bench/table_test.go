package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestTableFits: the table can be read in a terminal of 80 columns and pasted into a mail.
func TestTableFits(t *testing.T) {
	long := row{What: "100,000 files / git status", Ours: "123.45ms", Peer: "99.99GB/s", Value: 123.456, P90: 123.45, Goal: 1.25, Then: 250, Note: strings.Repeat("word ", 100)}
	rows := make([]row, 9)
	for i := range rows {
		rows[i] = long
	}
	rows[3] = row{What: "system calls until exec", Ours: "12345", Peer: "482", Value: 12345, Goal: 600, Then: 250, Count: true}
	var out bytes.Buffer
	machine := "Linux 6.18.44-some-very-long-release-of-a-vendor, 128 x Some Processor With A Long Name @ 2.00GHz, load 1.00 1.00 1.00"
	table(&out, rows, machine, machine, "somebody")
	for l := range strings.Lines(out.String()) {
		if n := len(strings.TrimSuffix(l, "\n")); n > width {
			t.Errorf("%d columns: %s", n, l)
		}
	}
}
