package main

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"casemate.dev/internal/secret/book"
)

func overview(w io.Writer) {
	fmt.Fprint(w, `casemate secret keeps credentials outside of sandboxes. Inside, a variable holds
a placeholder; the gate puts the value in, at the hosts that a grant names.

  casemate secret set anthropic     ask for the value, without showing it

`)
	for _, v := range verbs() {
		fmt.Fprintf(w, "  %-8s %s\n", v.name, v.summary)
	}
	fmt.Fprint(w, "\ncasemate secret VERB --help explains one, with an example and its exit statuses.\n")
}

func (v verb) printHelp(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "casemate secret %s: %s\n\nUsage: casemate secret %s\n\n%s\n\nFlags:\n", v.name, v.summary, strings.TrimSpace(v.name+" [flags] "+v.args), strings.TrimSpace(v.help))
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		name := "--" + f.Name
		if value != "" {
			name += " " + strings.ToUpper(value)
		}
		fmt.Fprintf(w, "  %-24s %s\n", name, wrap(text, 52, strings.Repeat(" ", 27)))
	})
	fmt.Fprintf(w, "\nExample:\n  %s\n\nExit statuses:\n  0    success\n", v.example)
	for line := range strings.SplitSeq(v.exits, "\n") {
		if line != "" {
			fmt.Fprintln(w, "  "+line)
		}
	}
	fmt.Fprint(w, "  2    the command line could not be understood\n  125  it could not be done; nothing was changed\n")
}

// wrap breaks text at blanks so that lines fit, and indents all but the first.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	col := 0
	for i, w := range strings.Fields(text) {
		switch {
		case i == 0:
		case col+1+len(w) > width:
			b.WriteString("\n" + indent)
			col = 0
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(w)
		col += len(w)
	}
	return b.String()
}

// complete prints the words that the last one may become.
func (d *desk) complete(words []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	for _, w := range d.candidates(words, last) {
		if strings.HasPrefix(w, last) {
			fmt.Fprintln(d.out, w)
		}
	}
}

func (d *desk) candidates(words []string, last string) (list []string) {
	if len(words) == 1 {
		return names()
	}
	for _, v := range verbs() {
		if v.name != words[0] {
			continue
		}
		switch before := words[len(words)-2]; {
		case before == "--from":
			return book.Stores()
		case before == "--kind":
			return kinds()
		case strings.HasPrefix(last, "-"):
			fs := flag.NewFlagSet(v.name, flag.ContinueOnError)
			fs.Bool("json", false, "")
			v.flags(fs, d)
			fs.VisitAll(func(f *flag.Flag) { list = append(list, "--"+f.Name) })
		case v.name == "set" && len(words) == 2:
			return kinds()
		case v.name != "set" && v.name != "init" && len(words) == 2:
			return d.entryNames()
		}
	}
	return list
}
