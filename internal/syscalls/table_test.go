package syscalls

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryRowIsWhole(t *testing.T) {
	for i := range table {
		r := &table[i]
		if r.Reason == "" || r.Source == "" {
			t.Errorf("row %q %q gives no reason or no source", r.Calls, r.When)
		}
		if (r.When == "") != r.always() {
			t.Errorf("row %q %q: the words and the conditions disagree about whether there are any", r.Calls, r.When)
		}
		if Options.has(Options{}, r.With) && r.With != "" {
			t.Errorf("row %q is for %q, but holds without it", r.Calls, r.With)
		}
		for name := range strings.FieldsSeq(r.Calls) {
			_, intel := x86_64.number(name)
			_, arm := aarch64.number(name)
			if !intel && !arm {
				t.Errorf("row %q: no machine has a call %q", r.Calls, name)
			}
		}
		for _, c := range r.args {
			if c.arg > 5 || len(c.in) == 0 && (c.mask == 0 || c.not) {
				t.Errorf("row %q %q has a condition that means nothing: %+v", r.Calls, r.When, c)
			}
			for _, v := range c.in {
				if c.mask != 0 && v&^c.mask != 0 {
					t.Errorf("row %q %q compares %#x, which its mask %#x cannot give", r.Calls, r.When, v, c.mask)
				}
			}
		}
	}
}

func TestListsAreSortedAndReviewed(t *testing.T) {
	for name, m := range machines {
		if !slices.IsSortedFunc(m.calls, func(a, b call) int { return strings.Compare(a.name, b.name) }) {
			t.Errorf("%s: the list is not sorted by name, so calls are not found", name)
		}
		seen := map[uint32]string{}
		for _, c := range m.calls {
			if other, twice := seen[c.number]; twice || c.number > newest {
				t.Errorf("%s: %s has number %d, as has %q; the newest is %d", name, c.name, c.number, other, newest)
			}
			seen[c.number] = c.name
		}
		if seen[newest] == "" {
			t.Errorf("%s: no call has the newest number", name)
		}
	}
	if !strings.Contains(unreviewed.When, strconv.Itoa(newest)) {
		t.Errorf("the row for unreviewed calls says %q, but the newest is %d", unreviewed.When, newest)
	}
}

// TestNumbersAreTheKernels compares both lists with those of golang.org/x/sys, which are generated from the kernel's headers.
func TestNumbersAreTheKernels(t *testing.T) {
	source, _ := runtime.FuncForPC(reflect.ValueOf(unix.Getpid).Pointer()).FileLine(reflect.ValueOf(unix.Getpid).Pointer())
	definition := regexp.MustCompile(`(?m)^\tSYS_(\w+) += (\d+)$`)
	for name, m := range machines {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(source), "zsysnum_linux_"+name+".go"))
		if err != nil {
			t.Skipf("needs to read the source of golang.org/x/sys: %v", err)
		}
		theirs := map[string]uint32{}
		for _, d := range definition.FindAllStringSubmatch(string(text), -1) {
			number, err := strconv.ParseUint(d[2], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			theirs[strings.ToLower(d[1])] = uint32(number)
		}
		delete(theirs, "arch_specific_syscall") // a mark in the list, not a call
		for _, c := range m.calls {
			if n, known := theirs[c.name]; !known || n != c.number {
				t.Errorf("%s: %s is %d here and %d there", name, c.name, c.number, n)
			}
			delete(theirs, c.name)
		}
		for call, number := range theirs {
			t.Errorf("%s: %s, %d, is not in the list: review it", name, call, number)
		}
	}
}

func TestRows(t *testing.T) {
	for name, m := range machines {
		for _, opts := range choices() {
			rows := m.table(opts)
			if last := rows[len(rows)-1]; last.Answer != Allow || last.Reason != rest.Reason {
				t.Errorf("%s %+v: the table ends with %+v, not with what becomes of other calls", name, opts, last)
			}
			text := ""
			for _, r := range rows {
				text += " " + r.Calls + " "
				for call := range strings.FieldsSeq(r.Calls) {
					if _, known := m.number(call); !known && !strings.HasPrefix(r.Calls, "(") {
						t.Errorf("%s: a row names %s, which this machine does not have", name, call)
					}
				}
			}
			for call, with := range map[string]bool{" shmat ": opts.Fallback, " utimensat ": opts.Fallback, " renameat ": opts.RenameHook} {
				if strings.Contains(text, call) != with {
					t.Errorf("%s %+v: a row about%s: %t, want %t", name, opts, call, !with, with)
				}
			}
		}
	}
	if got := Rows(Options{}); !reflect.DeepEqual(got, native.table(Options{})) {
		t.Error("Rows is not the table of this machine")
	}
}

func TestAnswersHaveNames(t *testing.T) {
	for answer, want := range map[Answer]string{
		Allow: "ALLOW", Notify: "NOTIFY", Kill: "KILL_PROCESS",
		EPERM: "EPERM", ENOSYS: "ENOSYS", EAFNOSUPPORT: "EAFNOSUPPORT", EPROTONOSUPPORT: "EPROTONOSUPPORT",
	} {
		if answer.String() != want {
			t.Errorf("%#x is %q, want %q", uint32(answer), answer, want)
		}
	}
}

func TestDocsHoldEveryRow(t *testing.T) {
	docs := Docs()
	cells := 0
	for line := range bytes.Lines(docs) {
		if bytes.HasPrefix(line, []byte("| ")) {
			cells++
			if n := bytes.Count(line, []byte("|")); n != 6 {
				t.Errorf("a line of the table has %d bars, want 6: %s", n, line)
			}
		}
	}
	if want := len(table) + 4 + len(sections); cells != want { // the rows, those for no name, the headings
		t.Errorf("the tables have %d lines, want %d", cells, want)
	}
	for i := range table {
		if !bytes.Contains(docs, []byte("| "+table[i].Calls+" | "+table[i].When+" |")) {
			t.Errorf("row %q %q is missing", table[i].Calls, table[i].When)
		}
	}
}
