package enginetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// snapshot is every file below the root with its kind, rights, owner and content.
func snapshot(root, except string) map[string]string {
	seen := map[string]string{}
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if path == except {
			return fs.SkipDir
		}
		if err != nil {
			seen[path] = "unreadable"
			return nil //nolint:nilerr // the difference is what counts
		}
		info, err := d.Info()
		if err != nil {
			seen[path] = "unreadable"
			return nil //nolint:nilerr // the same
		}
		text := info.Mode().String()
		switch {
		case d.Type() == fs.ModeSymlink:
			link, _ := os.Readlink(path)
			text += " " + link
		case d.Type().IsRegular():
			text += fmt.Sprintf(" %d %d %x", info.Size(), info.ModTime().UnixNano(), contentOf(path))
		}
		seen[path] = text
		return nil
	})
	return seen
}

func contentOf(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return []byte(err.Error())
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return []byte(err.Error())
	}
	return h.Sum(nil)
}

// Changed lists what is not as it was, below the project and beside it.
func (f *Fixtures) Changed() []string {
	now := snapshot(f.Dir, f.State)
	var changed []string
	for path, was := range f.before {
		if now[path] != was {
			changed = append(changed, path)
		}
	}
	for path := range now {
		if _, existed := f.before[path]; !existed {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	return changed
}

// Accept takes the tree as it is now for the state before the run.
func (f *Fixtures) Accept() { f.before = snapshot(f.Dir, f.State) }

// Verify completes the results by what the host saw: files that changed, listeners that were spoken to, signals that arrived, tokens in the
// output. What no attack can be blamed for becomes a result of its own.
func (f *Fixtures) Verify(results []Result, output string) []Result {
	out := slices.Clone(results)
	writable := f.Env.Workspace == "live"
	for _, path := range f.Changed() {
		i := f.blame(out, path)
		inside := strings.HasPrefix(path, f.Work+"/")
		switch {
		case i >= 0 && (!writable || !inside || out[i].Verdict != Held && f.executes(path)):
			out[i].Verdict, out[i].Detail = Open, "the host's "+path+" changed"
		case writable && inside || f.isParent(path):
		default:
			out = append(out, stray("files.unchanged", "files", denyWrite, "the host's "+path+" changed"))
		}
	}
	for _, said := range f.heard.said() {
		i := find(out, strings.TrimSpace(said[strings.LastIndex(said, "casemate ")+len("casemate "):]))
		if i < 0 {
			out = append(out, stray("network.silent", "network", netDeny, fmt.Sprintf("a service of the host's heard %q", said)))
			continue
		}
		out[i].Verdict, out[i].Detail = Open, "a service of the host's heard it"
	}
	if said := f.signals(); said != "" {
		out = append(out, stray("processes.signalled", "processes", signals, "the host's process got: "+brief(said)))
	}
	for name, token := range f.tokens {
		if strings.Contains(output, token) {
			out = append(out, stray("files.token", "files", denyRead, name+" is in the output"))
		}
	}
	for i := range out {
		if out[i].Verdict == Asks {
			out[i].Verdict, out[i].Detail = Held, "the host saw nothing of it ("+out[i].Detail+")"
		}
	}
	return out
}

func stray(id, group, guarantee, detail string) Result {
	return Result{ID: id, Group: group, Title: "what the host saw", Guarantee: guarantee, Verdict: Open, Detail: detail}
}

// executes says whether the host would execute what lies at a path of the project, or take away something that it executes. A live workspace
// may change everything else.
func (f *Fixtures) executes(path string) bool {
	if st, err := os.Lstat(path); err == nil && st.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		return !st.IsDir()
	}
	rel := strings.TrimPrefix(path, f.Work+"/")
	if rest, found := strings.CutPrefix(rel, "cases/"); found {
		_, rel, _ = strings.Cut(rest, "/")
	}
	if _, existed := f.before[path]; !existed {
		if st, err := os.Lstat(path); err != nil || st.IsDir() {
			return false
		}
	}
	if i := strings.LastIndex("/"+rel, "/.git/"); i >= 0 {
		return gitExecutes(("/" + rel)[i+len("/.git/"):])
	}
	if rest, bare := strings.CutPrefix(rel, "plain/"); bare {
		return gitExecutes(rest)
	}
	return filepath.Base(rel) == ".git" || slices.Contains(Executed(), rel) || strings.HasPrefix(rel, ".vscode") || strings.HasPrefix(rel, ".claude/")
}

// gitExecutes says so of a file in a git directory.
func gitExecutes(name string) bool {
	switch {
	case strings.HasSuffix(name, ".sample"):
		return false
	case strings.HasPrefix(name, "hooks/"), strings.HasPrefix(name, "modules/"):
		return true
	case strings.HasPrefix(name, "worktrees/"):
		return strings.Count(name, "/") > 1
	}
	return slices.Contains([]string{"hooks", "config", "config.worktree", "info/attributes", "objects/info/alternates", "commondir"}, name)
}

// isParent is true for the directories whose times change with what an attack leaves in them.
func (f *Fixtures) isParent(path string) bool {
	return path == f.Dir || path == f.Work || path == f.Home || path == filepath.Join(f.Work, "cases")
}

// blame finds the attack in whose directory the path lies, or whose id it bears.
func (f *Fixtures) blame(results []Result, path string) int {
	if rest, found := strings.CutPrefix(path, filepath.Join(f.Work, "cases")+"/"); found {
		id, _, _ := strings.Cut(rest, "/")
		return find(results, id)
	}
	for i, r := range results {
		if strings.HasSuffix(path, "-"+r.ID) {
			return i
		}
	}
	if rest, found := strings.CutPrefix(path, f.Work+"/"); found {
		top, _, _ := strings.Cut(rest, "/")
		if slices.ContainsFunc(Executed(), func(name string) bool { return name == rest || strings.HasPrefix(name, top+"/") }) {
			return find(results, "F16.top")
		}
	}
	return -1
}

func find(results []Result, id string) int {
	return slices.IndexFunc(results, func(r Result) bool { return r.ID == id })
}

// signals reads what the host's process said so far.
func (f *Fixtures) signals() string {
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		if err := f.said.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			return "unknown: " + err.Error()
		}
		n, err := f.said.Read(buf)
		b.Write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return b.String()
		}
		if err != nil {
			return b.String() + " and then it died: " + err.Error()
		}
	}
}
