package policy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func mustPaths(t testing.TB, patterns ...string) *Paths {
	t.Helper()
	p, err := CompilePaths(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPathsMatch(t *testing.T) {
	builtIn := []string{".env", ".env.*", "!.env.example", "*.pem", "secrets/", "/config/master.key", "**/.aws/credentials", "deploy/*.sh"}
	for _, c := range []struct {
		name     string
		patterns []string
		path     string // a trailing slash says directory
		hidden   bool
		pattern  int
	}{
		{"exact name at the top", builtIn, ".env", true, 0},
		{"exact name below", builtIn, "a/b/.env", true, 0},
		{"a name that only begins so", builtIn, ".environment", false, -1},
		{"prefix", builtIn, "a/.env.local", true, 1},
		{"prefix taken out", builtIn, "a/.env.example", false, 2},
		{"below a directory of a hidden name", builtIn, ".env/a/b", true, 0},
		{"nothing comes back below a hidden directory", builtIn, ".env.d/.env.example", true, 1},
		{"suffix", builtIn, "a/server.pem", true, 3},
		{"suffix of a directory", builtIn, "x.pem/readme", true, 3},
		{"directories only: a directory", builtIn, "secrets/", true, 4},
		{"directories only: its content", builtIn, "a/secrets/x", true, 4},
		{"directories only: a file", builtIn, "secrets", false, -1},
		{"anchored by a leading slash", builtIn, "config/master.key", true, 5},
		{"anchored: not below", builtIn, "a/config/master.key", false, -1},
		{"any depth", builtIn, "home/.aws/credentials", true, 6},
		{"any depth: also at the top", builtIn, ".aws/credentials", true, 6},
		{"an inner slash anchors", builtIn, "deploy/x.sh", true, 7},
		{"a star stops at a slash", builtIn, "deploy/a/x.sh", false, -1},
		{"case matters", builtIn, ".ENV", false, -1},
		{"a later pattern decides", []string{"!a", "a"}, "a", true, 1},
		{"escaped wildcard", []string{`\*`}, "*", true, 0},
		{"escaped wildcard is literal", []string{`\*`}, "a", false, -1},
		{"quoted trailing space", []string{`a\ `}, "a ", true, 0},
		{"class with slash never matches one", []string{"a[/]b"}, "a/b", false, -1},
		{"class without a name", []string{"[[:alpha]x]"}, "[x]", true, 0},
		{"double star in the middle", []string{"a/**/b"}, "a/x/y/b", true, 0},
		{"double star may be nothing", []string{"a/**/b"}, "a/b", true, 0},
		{"trailing double star: not the directory itself", []string{"a/**"}, "a/", false, -1},
		{"trailing double star", []string{"a/**"}, "a/x/y", true, 0},
		{"everything", []string{"*"}, "x", true, 0},
		{"newline in a name", []string{"a*b"}, "a\nb", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, isDir := strings.CutSuffix(c.path, "/")
			hidden, pattern := mustPaths(t, c.patterns...).Match(path, isDir)
			if hidden != c.hidden || pattern != c.pattern {
				t.Errorf("%q against %q: hidden %v by %d, want %v by %d", c.path, c.patterns, hidden, pattern, c.hidden, c.pattern)
			}
		})
	}
}

func TestPathsInvalid(t *testing.T) {
	for _, pattern := range []string{
		"", " ", "!", "/", "!/", "//", "a//b", "a//", "//a", ".", "..", "./a", "../a", "/../a", "a/..", "a/./b", `\../a`, "**//a", "a\x00b", "#a", "a ", `a\\ `,
		"[", "[a", "a[!", "[]", "[^]", "[a-", `[\`, "[[:nosuch:]]", "[[::]]", "[[:alpha:]", `a\`, `a\/`, strings.Repeat("a", MaxPattern+1),
	} {
		if _, err := CompilePaths([]string{"ok", pattern}); err == nil {
			t.Errorf("%q was taken", pattern)
		} else if !strings.Contains(err.Error(), "path pattern ") {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

func TestPathsExact(t *testing.T) {
	for _, c := range []struct {
		name       string
		patterns   []string
		everywhere string
		in         map[string]string // directory -> names hidden there
	}{
		{"names only", []string{".env", "*.pem", "secrets/", "a/b", "x?"}, ".env secrets", map[string]string{"": ".env secrets", "a": ".env secrets b"}},
		{"negated later", []string{".env", "!.env"}, "", map[string]string{"": ""}},
		{"negated earlier", []string{"!.env", ".env"}, ".env", nil},
		{"negated and repeated", []string{".env", "!.env", ".env"}, ".env", nil},
		{"negated by a wildcard", []string{".env", "!.e*"}, "", map[string]string{"": ""}},
		{"negated in one place", []string{".env", "!/test/.env"}, "", map[string]string{"": ".env", "a": ".env", "test": "", "test/b": ".env"}},
		{"any depth", []string{"**/.netrc"}, ".netrc", nil},
		{"exact paths", []string{"/top", "a/b/c"}, "", map[string]string{"": "top", "a": "", "a/b": "c"}},
		{"quoted", []string{`\#x\#`}, "#x#", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mustPaths(t, c.patterns...)
			if got := strings.Join(p.Exact(), " "); got != c.everywhere {
				t.Errorf("everywhere: %q, want %q", got, c.everywhere)
			}
			for dir, want := range c.in {
				if got := strings.Join(p.ExactIn(dir), " "); got != want {
					t.Errorf("in %q: %q, want %q", dir, got, want)
				}
			}
		})
	}
}

// TestPathsAsGit compares random patterns on random trees with `git check-ignore` and `git ls-files --ignored`.
func TestPathsAsGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal("git is missing: test/setup.sh installs it")
	}
	r := rand.New(rand.NewPCG(1, 2))
	rounds, perTree := 40, 12
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		g := gitTree(t, git, r)
		for range perTree {
			g.compare(t, randomPatterns(r))
			if t.Failed() {
				return
			}
		}
	}
}

type gitOracle struct {
	git, root, excludes string
	paths               []string // directories end in a slash
}

func gitTree(t *testing.T, git string, r *rand.Rand) *gitOracle {
	root := t.TempDir()
	g := &gitOracle{git: git, root: filepath.Join(root, "p"), excludes: filepath.Join(root, "excludes")}
	if err := os.Mkdir(g.root, 0o755); err != nil {
		t.Fatal(err)
	}
	g.run(t, "", "init", "-q")
	dirs := []string{""}
	for range 60 {
		path := dirs[r.IntN(len(dirs))] + randomName(r)
		if _, err := os.Lstat(filepath.Join(g.root, path)); err == nil || strings.EqualFold(filepath.Base(path), ".git") {
			continue
		}
		if r.IntN(3) == 0 {
			if err := os.Mkdir(filepath.Join(g.root, path), 0o755); err != nil {
				t.Fatal(err)
			}
			path += "/"
			dirs = append(dirs, path)
		} else if err := os.WriteFile(filepath.Join(g.root, path), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		g.paths = append(g.paths, path)
	}
	return g
}

func (g *gitOracle) run(t *testing.T, stdin string, args ...string) string {
	cmd := exec.Command(g.git, append([]string{"-C", g.root}, args...)...)
	cmd.Env = []string{"HOME=" + filepath.Dir(g.root), "GIT_CONFIG_NOSYSTEM=1", "PATH=/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if x, ok := err.(*exec.ExitError); ok && x.ExitCode() == 1 && args[0] != "init" {
		err = nil // check-ignore: nothing is ignored
	}
	if err != nil {
		t.Fatalf("git %v: %v", args, err)
	}
	return string(out)
}

func (g *gitOracle) compare(t *testing.T, patterns []string) {
	p := mustPaths(t, patterns...)
	if err := os.WriteFile(g.excludes, []byte(strings.Join(patterns, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	config := []string{"-c", "core.excludesFile=" + g.excludes, "-c", "core.ignoreCase=false"}
	in := &bytes.Buffer{}
	for _, path := range g.paths {
		fmt.Fprintf(in, "%s\x00", strings.TrimSuffix(path, "/"))
	}
	out := g.run(t, in.String(), append(config, "check-ignore", "--no-index", "-z", "-v", "-n", "--stdin")...)
	fields := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	if len(fields) != 4*len(g.paths) {
		t.Fatalf("git answered %d fields for %d paths", len(fields), len(g.paths))
	}
	var hidden []string
	for i, path := range g.paths {
		rel, isDir := strings.CutSuffix(path, "/")
		got, by := p.Match(rel, isDir)
		line, source := fields[4*i+1], fields[4*i+2]
		want := source != "" && !strings.HasPrefix(source, "!")
		wantBy := -1
		if line != "" {
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			wantBy = n - 1
		}
		if got != want || by != wantBy {
			t.Errorf("patterns %q, path %q: hidden %v by %d, git says %v by %d (%q)", patterns, path, got, by, want, wantBy, source)
		}
		if got && !isDir {
			hidden = append(hidden, path)
		}
	}
	listed := strings.Split(strings.TrimSuffix(g.run(t, "", append(config, "ls-files", "-z", "-oi", "--exclude-standard")...), "\x00"), "\x00")
	if listed[0] == "" {
		listed = nil
	}
	slices.Sort(hidden)
	slices.Sort(listed)
	if !slices.Equal(hidden, listed) {
		t.Errorf("patterns %q: hidden files %q, git lists %q", patterns, hidden, listed)
	}
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomName draws from few letters, so that patterns hit.
func randomName(r *rand.Rand) string {
	if r.IntN(3) == 0 {
		return pick(r, ".env", ".env.local", ".ENV", "a.pem", "secrets", "b*c", "a b", "[x]", `q\r`, "#h", "!n", "é", "...")
	}
	b := make([]byte, 1+r.IntN(3))
	for i := range b {
		b[i] = pick(r, []byte("aabbc.AB-")...)
	}
	if s := string(b); s != "." && s != ".." {
		return s
	}
	return "a"
}

func randomComponent(r *rand.Rand) string {
	switch r.IntN(8) {
	case 0:
		return "**"
	case 1:
		return strings.NewReplacer("#", `\#`, "!", `\!`, "[", `\[`, "*", `\*`, `\`, `\\`).Replace(randomName(r))
	case 2:
		return randomName(r)
	}
	var s strings.Builder
	for range 1 + r.IntN(4) {
		s.WriteString(pick(r, "a", "b", "c", ".", "*", "*", "?", "[ab]", "[!a]", "[^b-c]", "[[:alpha:]]", "[]a]", "[a-]", `\a`, `\*`, "**", "***", "-", "A", "[[:alpha]", "[a/b]", `[\]a]`))
	}
	return s.String()
}

// randomPatterns returns valid patterns only: git never matches the others.
func randomPatterns(r *rand.Rand) []string {
	var patterns []string
	for n := 1 + r.IntN(8); len(patterns) < n; {
		parts := make([]string, pick(r, 1, 1, 1, 2, 2, 3))
		for i := range parts {
			parts[i] = randomComponent(r)
		}
		s := pick(r, "", "", "", "!") + pick(r, "", "", "/") + strings.Join(parts, "/") + pick(r, "", "", "/")
		if _, err := CompilePaths([]string{s}); err == nil {
			patterns = append(patterns, s)
		}
	}
	return patterns
}

// naive is the definition of the wildcards, slow and obvious.
func naive(g glob, s string) bool {
	if len(g) == 0 {
		return s == ""
	}
	switch t := g[0]; t.op {
	case opStar, opDeep, opDirs:
		for i := 0; i <= len(s); i++ {
			if (t.op != opDirs || i == 0 || s[i-1] == '/') && naive(g[1:], s[i:]) {
				return true
			}
			if t.op == opStar && i < len(s) && s[i] == '/' {
				return false
			}
		}
		return false
	default:
		return s != "" && t.takes(s[0]) && naive(g[1:], s[1:])
	}
}

func FuzzPaths(f *testing.F) {
	for _, s := range []string{".env", "!.env.*", "*.pem", "a/**/b", "**/x", "[a-z]*?/", `\*`, "a**/b*c/**", "[[:alpha:]]", "**/*a*/b"} {
		f.Add(s, "a/x/b/.env")
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		p, err := CompilePaths([]string{pattern})
		if err != nil {
			return
		}
		hidden, by := p.Match(path, false)
		if hidden != (by == 0 && !p.patterns[0].negated) {
			t.Fatalf("hidden %v by %d", hidden, by)
		}
		p.ExactIn(path)
		c := p.patterns[0]
		body := strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(pattern, "!"), "/"), "/")
		onPath := strings.Contains(strings.TrimSuffix(strings.TrimPrefix(pattern, "!"), "/"), "/")
		if len(body) > 12 || len(path) > 24 {
			return // naive is exponential
		}
		g, err := parseGlob(body, onPath)
		if err != nil {
			t.Fatal(err)
		}
		dir, name := splitPath(path)
		subject := name
		if onPath {
			subject = path
		}
		if name != "" && !strings.HasPrefix(path, "/") && !strings.Contains(path, "//") && c.match(dir, name) != naive(g, subject) {
			t.Fatalf("%q against %q: %v, and %v by definition", path, pattern, c.match(dir, name), naive(g, subject))
		}
	})
}

func BenchmarkPaths(b *testing.B) {
	var patterns []string
	for i := range 20 {
		patterns = append(patterns, fmt.Sprintf(".secret%d", i), fmt.Sprintf("*.k%d", i), fmt.Sprintf("**/.tool%d/token", i))
	}
	p := mustPaths(b, append(patterns, ".env", ".env.*", "!.env.example")...)
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("module_%d.go", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, name := range names {
			if hidden, _ := p.MatchIn("internal/some/dir", name, false); hidden {
				b.Fatal(name)
			}
		}
	}
}
