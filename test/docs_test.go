package test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"casemate.dev/internal/engine/enginetest"
	"casemate.dev/internal/guest"
	"casemate.dev/internal/limits"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/syscalls"
)

var update = flag.Bool("update", false, "write docs/reference anew")

const generated = "<!-- Written by `make docs` from the program itself; do not edit. -->\n\n"

// TestReference keeps docs/reference as the program is. `make docs` writes it.
func TestReference(t *testing.T) {
	for name, text := range map[string]string{
		"policy.md": generated + string(policy.Reference()), "policy.schema.json": string(policy.Schema()), "syscalls.md": generated + string(syscalls.Docs()),
		"commands.md": generated + commandsPage(t), "protected.md": generated + protectedPage(t), "guarantees.md": generated + guaranteesPage(t),
		"trust.md": generated + guest.TrustReference(),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("..", "docs", "reference", name)
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			have, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(have) != text {
				t.Errorf("%s is not what the program says any more: make docs writes it anew\n%s", file, firstDifference(string(have), text))
			}
		})
	}
}

func firstDifference(have, want string) string {
	h, w := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range min(len(h), len(w)) {
		if h[i] != w[i] {
			return fmt.Sprintf("line %d\nfile:    %s\nprogram: %s", i+1, h[i], w[i])
		}
	}
	return fmt.Sprintf("file has %d lines, program says %d", len(h), len(w))
}

// commandsPage is the help of each command.
func commandsPage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Commands\n\nWhat `casemate COMMAND --help` prints. Flags may also be written with one dash.\n")
	names := strings.Fields(helpText(t, "__complete", ""))
	if len(names) < 10 {
		t.Fatalf("commands: %q", names)
	}
	for _, c := range names {
		fmt.Fprintf(&b, "\n## casemate %s\n\n```text\n%s```\n", c, helpText(t, c, "--help"))
		if c != "secret" {
			continue
		}
		for _, verb := range strings.Fields(helpText(t, "__complete", c, "")) {
			fmt.Fprintf(&b, "\n### casemate %s %s\n\n```text\n%s```\n", c, verb, helpText(t, c, verb, "--help"))
		}
	}
	return b.String()
}

func helpText(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(casemate, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return string(out)
}

// protectedPage is the list of what a host executes, read from the table's source: the table itself is nobody's business but its package's.
func protectedPage(t *testing.T) string {
	t.Helper()
	var decls []ast.Decl
	for _, name := range []string{"execlist_rows.go", "execlist_marked.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), "../internal/workspace/"+name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		decls = append(decls, f.Decls...)
	}
	why, rows := map[string]string{}, map[string][][2]string{}
	for _, d := range decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			v := s.(*ast.ValueSpec)
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				why[v.Names[0].Name] = unquote(t, lit)
			}
			if list, ok := v.Values[0].(*ast.CompositeLit); ok {
				for _, e := range list.Elts {
					pair := e.(*ast.CompositeLit).Elts
					reason := ""
					switch r := pair[1].(type) {
					case *ast.BasicLit:
						reason = unquote(t, r)
					case *ast.Ident:
						reason = why[r.Name]
					}
					rows[v.Names[0].Name] = append(rows[v.Names[0].Name], [2]string{unquote(t, pair[0].(*ast.BasicLit)), reason})
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString(`# What a host executes

Changes to these paths are **protected**: a sandbox may make them in its layer, and they reach the host only after a person has seen and approved each
(` + "`casemate apply --with-protected`" + `). In a live workspace they are refused. Patterns are those of gitignore, match at any depth, and are compared without case
and without what some file systems ignore in names.

In a git directory, wherever it is: ` + "`hooks`, `config`, `config.worktree`, `commondir`, `gitdir`, `info/attributes`, `objects/info/alternates`, `rebase-merge`, `rebase-apply`, `sequencer`" + `, and the
same in ` + "`modules` and `worktrees`" + `; and a file or link named ` + "`.git`" + `.

What your policy adds (` + "`files.protect`" + `) comes on top. Nothing is taken off the list.

## Protected

| pattern | why |
|---|---|
`)
	table := func(name string) {
		if len(rows[name]) < 10 {
			t.Fatalf("%s has %d rows", name, len(rows[name]))
		}
		for _, r := range rows[name] {
			fmt.Fprintf(&b, "| `%s` | %s |\n", r[0], r[1])
		}
	}
	table("protectedRows")
	b.WriteString("\n## Pointed out, not held\n\nBuilding, testing or opening the project executes these, or an agent takes them for instructions. `casemate diff` marks a change to one; `apply` takes it.\n" +
		"Go files with a `//go:generate` line are marked too.\n\n| pattern | why |\n|---|---|\n")
	table("markedRows")
	return b.String()
}

func unquote(t *testing.T, lit *ast.BasicLit) string {
	t.Helper()
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// meanings says what each guarantee promises, in the order of the page.
var meanings = [][2]string{
	{"files.deny-read", "No file of the host can be read but the tool chain, the project, and what the policy names."},
	{"files.deny-write", "No file of the host can be changed but what the policy writes through."},
	{"files.metadata", "Names, sizes, modes, owners and times of files outside can be neither seen nor changed."},
	{"files.hide", "Hidden files that exist when the command starts cannot be read."},
	{"files.hide-new", "Hidden files that the host makes or replaces while the command runs cannot be read."},
	{"files.protect", "Nothing that the host would execute by itself changes on the host without a person's consent."},
	{"net.default-deny", "Nothing outside of the sandbox can be reached over a network or a socket, the host's own ports included."},
	{"proc.isolation", "Processes of the host cannot be seen, read or changed."},
	{"proc.signals", "Processes of the host cannot be signalled."},
	{"proc.no-leftovers", "Every process of the sandbox ends with the run, also when casemate is killed."},
	{"privileges.none", "The command has no capability, and no program can give it one."},
	{"kernel.surface", "Calls that no developer's tool needs and attackers use are refused: [system calls](syscalls.md)."},
	{"keys.isolation", "The kernel's key rings of the host cannot be reached."},
	{"tty.injection", "Nothing can be typed into the user's terminal."},
	{"fds.closed", "The command has no open file of the host but its own pipes."},
	{"env.clean", "No variable of the host is passed but harmless ones and those that the policy names."},
	{"limits.memory", "Memory of all processes together."},
	{"limits.pids", "Processes and threads at once."},
	{"limits.cpu", "Processor time."},
	{"limits.disk", "What may be written."},
	{"limits.files", "Open files."},
	{"limits.core", "No core files."},
	{"limits.time", "How long the command runs."},
	{"limits.idle", "How long it does nothing."},
}

// guaranteesPage is what plans promise, for each mode and kind of workspace.
func guaranteesPage(t *testing.T) string {
	t.Helper()
	type column struct {
		title string
		holds map[string]plan.Guarantee
	}
	var columns []column
	for _, kind := range []policy.Workspace{policy.Held, policy.Live, policy.ReadOnly, policy.Scratch} {
		columns = append(columns, column{string(kind), promised(t, plan.Rootless, kind)})
	}
	columns = append(columns, column{"the fallback", promised(t, plan.Landlock, policy.Held)})

	var b strings.Builder
	b.WriteString(`# Guarantees

What a plan promises, by name. **enforced**: the kernel refuses, or the thing is not there. **watched**: casemate looks, and undoes or ends within the time that is
stated. **absent**: not kept. ` + "`casemate plan`" + ` prints the list for your machine and policy, ` + "`casemate validate`" + ` attacks it, and ` + "`require`" + ` in a policy (or ` + "`--require`" + `)
refuses to run unless a guarantee is enforced.

The columns are the kinds of workspace in the normal modes (an ordinary user's, and root's, which promise the same), and the
[fallback without namespaces](../why/landlock.md), which only a word in the policy allows.

| guarantee | means | held | live | readonly | none | the fallback |
|---|---|---|---|---|---|---|
`)
	known := map[string]bool{}
	var details strings.Builder
	for _, m := range meanings {
		name := m[0]
		known[name] = true
		if strings.HasPrefix(name, "limits.") {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s |", name, m[1])
		if slices.ContainsFunc(columns, func(c column) bool { _, ok := c.holds[name]; return ok }) {
			fmt.Fprintf(&details, "\n### %s\n\n", name)
		}
		by := ""
		for _, c := range columns {
			g, ok := c.holds[name]
			if !ok {
				b.WriteString(" with the one above |")
				continue
			}
			fmt.Fprintf(&b, " %s |", g.State)
			if g.By != by {
				by = g.By
				fmt.Fprintf(&details, "- %s: %s\n", c.title, by)
			}
		}
		b.WriteString("\n")
	}
	for _, c := range columns {
		for name := range c.holds {
			if !known[name] {
				t.Errorf("guarantee %q has no meaning in the reference", name)
			}
		}
	}
	for _, c := range enginetest.Cases() {
		if !known[c.Guarantee] {
			t.Errorf("attack %s breaks %q, which has no meaning in the reference", c.ID, c.Guarantee)
		}
	}
	b.WriteString("\n## By what\n" + details.String())
	b.WriteString("\n## Limits\n\nWhat holds a limit depends on what the machine offers; `casemate doctor` says what that is here.\n\n" +
		"| limit | means | cgroup v1 | cgroup v2 | systemd | none of them |\n|---|---|---|---|---|---|\n")
	held := holders()
	for _, m := range meanings {
		if name, ok := strings.CutPrefix(m[0], "limits."); ok {
			fmt.Fprintf(&b, "| `%s` | %s |", m[0], m[1])
			for _, h := range held {
				fmt.Fprintf(&b, " %s |", h[name])
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// promised is what the plan of an ordinary project says.
func promised(t *testing.T, mode plan.Mode, kind policy.Workspace) map[string]plan.Guarantee {
	t.Helper()
	source, err := policy.Flags{Workspace: string(kind)}.Source()
	if err != nil {
		t.Fatal(err)
	}
	merged, err := policy.Merge([]policy.Source{source})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(plan.Request{Policy: merged, Mode: mode, ABI: 7, Told: true, Project: "/p", Dir: "/p", Argv: []string{"true"}, Path: "/usr/bin/true", Home: "/h", Mask: "/m", Layer: "/l", Tmp: "/t", Etc: "/e"})
	if err != nil {
		t.Fatal(err)
	}
	holds := map[string]plan.Guarantee{}
	for _, g := range p.Guarantees {
		holds[g.Name] = g
	}
	return holds
}

// holders says for each kind of machine what holds each limit.
func holders() []map[string]string {
	all := []string{"memory", "pids", "cpu"}
	none := limits.Facts{Processes: math.MaxUint64, FileSize: math.MaxUint64}
	v1, v2, systemd := none, none, none
	for _, c := range all {
		v1.V1 = append(v1.V1, limits.Hierarchy{Controller: c, Dir: "/x"})
	}
	v2.V2, systemd.Systemd = &limits.Unified{Dir: "/x", Controllers: all}, &limits.Systemd{Socket: "/x", Controllers: all}
	set := limits.Set{Memory: 1 << 30, Pids: 4096, CPUs: 2, Disk: 1 << 30, Time: time.Hour, Idle: time.Hour}
	var out []map[string]string
	for _, f := range []limits.Facts{v1, v2, systemd, none} {
		by := map[string]string{}
		for _, l := range limits.By(f, set) {
			name := l.Name
			if name == "open files" {
				name = "files"
			}
			by[name] = string(l.Strength) + ": " + strings.TrimPrefix(l.By, "watched ")
		}
		out = append(out, by)
	}
	return out
}

// TestDocsRun executes what README and tutorial show: every line that begins with "$ " in a console block must succeed, unless the next one is
// `echo $?`, and print the lines that follow it, in that order; "..." at the end of a line, or alone, stands for anything.
func TestDocsRun(t *testing.T) {
	for name, before := range map[string]string{"README.md": scratch, "docs/tutorial.md": "", "docs/how-to/use-secrets.md": ""} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", name))
			if err != nil {
				t.Fatal(err)
			}
			shown := examples(string(text))
			if len(shown) == 0 {
				t.Fatal("there is no example in it")
			}
			runExamples(t, shown, before, nil)
		})
	}
}

// scratch makes the project that the README's examples run in.
const scratch = `mkdir project && cd project && git init -q
echo 'echo $(($1 + $2))' > total.sh
printf '#!/bin/sh\necho "agent: $1"\nsed -i "s/[+]/*/" total.sh\n' > agent.sh
chmod 755 agent.sh
`

// example is one command of a page and what it shows.
type example struct {
	line    int
	command string
	output  []string
}

func examples(page string) (list []example) {
	inside := false
	for i, l := range strings.Split(page, "\n") {
		command, isCommand := strings.CutPrefix(l, "$ ")
		more, goesOn := strings.CutPrefix(l, "> ")
		switch {
		case strings.HasPrefix(l, "```"):
			inside = l == "```console"
		case !inside:
		case isCommand:
			list = append(list, example{line: i + 1, command: command})
		case goesOn && len(list[len(list)-1].output) == 0:
			list[len(list)-1].command += "\n" + more
		default:
			list[len(list)-1].output = append(list[len(list)-1].output, l)
		}
	}
	return list
}

func runExamples(t *testing.T, list []example, before string, in *world) {
	t.Helper()
	const mark = "-- end of example --"
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	fmt.Fprintf(&script, "exec 2>&1\nmake() { bash %s/test/demo.sh %s; }\n%s", root, filepath.Dir(casemate), before)
	for _, e := range list {
		fmt.Fprintf(&script, "%s\n__status=$?; printf '\\n%s %%d\\n' $__status; (exit $__status)\n", e.command, mark)
	}
	cmd := exec.Command("bash", "--norc")
	cmd.Stdin = strings.NewReader(script.String())
	cmd.Dir = home
	cmd.Env = []string{
		"HOME=" + home, "USER=reader", "LANG=C.UTF-8", "TERM=dumb", "PATH=" + filepath.Dir(casemate) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main",
	}
	t.Cleanup(func() { removeAll(t, home) })
	if in != nil {
		in.enter(cmd, "bash", "--norc")
	}
	out, err := cmd.Output()
	if err != nil {
		t.Logf("bash: %v", err) // the status of the last example
	}
	for i, e := range list {
		said, rest, found := bytes.Cut(out, []byte("\n"+mark+" "))
		if !found {
			t.Fatalf("line %d: %s: no answer; the shell said: %s", e.line, e.command, out)
		}
		status, rest, _ := bytes.Cut(rest, []byte("\n"))
		out = rest
		asks := i+1 < len(list) && list[i+1].command == "echo $?"
		if string(status) != "0" && !asks {
			t.Errorf("line %d: %s: exit status %s\n%s", e.line, e.command, status, said)
		}
		if missing := notShown(strings.Split(string(said), "\n"), e.output); missing != "" {
			t.Errorf("line %d: %s does not print %q; it prints\n%s", e.line, e.command, missing, said)
		}
	}
}

// notShown is the first line of want that does not come in said, in order.
func notShown(said, want []string) string {
	for _, w := range want {
		if w == "" || w == "..." {
			continue
		}
		start, _, open := strings.Cut(w, "...")
		i := slices.IndexFunc(said, func(s string) bool {
			return strings.TrimRight(s, " ") == strings.TrimRight(w, " ") || open && strings.HasPrefix(s, start)
		})
		if i < 0 {
			return w
		}
		said = said[i+1:]
	}
	return ""
}

// TestDemoFails runs the demo with a casemate that confines nothing: it must say so of every attack.
func TestDemoFails(t *testing.T) {
	dir := t.TempDir()
	open := "#!/bin/sh\n[ \"$1\" = run ] || exit 0\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "casemate"), []byte(open), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("bash", "demo.sh", dir).CombinedOutput()
	if err == nil {
		t.Errorf("the demo is content with a sandbox that holds nothing:\n%s", out)
	}
	if n := strings.Count(string(out), "SUCCEEDS"); n < 10 {
		t.Errorf("%d attacks are said to succeed inside:\n%s", n, out)
	}
}

// TestLinks follows every link of the documents to a file or a heading of the tree.
func TestLinks(t *testing.T) {
	var pages []string
	for _, p := range []string{"README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		pages = append(pages, filepath.Join("..", p))
	}
	err := filepath.WalkDir("../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "](")[1:] {
			target, _, _ := strings.Cut(part, ")")
			u, err := url.Parse(target)
			if err != nil {
				t.Errorf("%s: link %q: %v", page, target, err)
				continue
			}
			if u.Scheme != "" || u.Path == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), u.Path)); err != nil {
				t.Errorf("%s: link %q leads nowhere", page, target)
			}
		}
	}
}
