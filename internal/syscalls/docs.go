package syscalls

import (
	"bytes"
	"fmt"
)

// sections are the groups of rows, in the order in which a reader wants them.
var sections = [...]struct{ with, title, text string }{
	{"", "Every sandbox", ""},
	{withDevel, "With debuggers allowed (`devel`)", "These rows are asked before those above."},
	{withFallback, "Without namespaces (the Landlock-only fallback)",
		"These rows are asked first. Signals, tracing and abstract sockets are not here: Landlock stops them (ABI 6)."},
	{withMetadata, "Without namespaces, where the supervisor can be told of calls", "Asked last: a set-user-ID mode is refused before.\n\n" +
		"The fallback does not stop what only asks about a path outside: stat, access, readlink, getxattr, chdir, statfs."},
	{withoutHook, "Without namespaces, where it cannot", "Where another listener has the calls already, such as a container's. These rows are asked first."},
	{withRename, "With renames supervised", ""},
	{withAffinity, "With cores held by affinity", ""},
	{withWatched, "With disk watched", ""},
}

// Docs returns the table as Markdown, all machines and options together, for the reference.
func Docs() []byte {
	var b bytes.Buffer
	b.WriteString("# System calls\n\n" +
		"The filter that every process of a sandbox has, pid 1 included. For a call the rows are asked in order and the first that matches answers. " +
		"Arguments are compared by their low 32 bits, as the kernel reads them.\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		if s.text != "" {
			fmt.Fprintf(&b, "%s\n\n", s.text)
		}
		b.WriteString("| calls | when | answer | why | source |\n|---|---|---|---|---|\n")
		for i := range table {
			if table[i].With == s.with {
				table[i].markdown(&b)
			}
		}
		if s.with == "" {
			for _, r := range []*Row{&foreign, &x32, &unreviewed, &rest} {
				r.markdown(&b)
			}
		}
	}
	return b.Bytes()
}

func (r *Row) markdown(b *bytes.Buffer) {
	fmt.Fprintf(b, "| %s | %s | %v | %s | %s |\n", r.Calls, r.When, r.Answer, r.Reason, r.Source)
}
