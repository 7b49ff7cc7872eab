package workspace

import (
	"slices"
	"strings"
	"testing"

	"casemate.dev/internal/policy"
)

// example makes a name that a pattern of the lists matches.
func example(pattern string) string {
	r := strings.NewReplacer("/**", "/x/y", "**/", "", "*", "x")
	return r.Replace(pattern)
}

// twins are other spellings that some file system takes for the same name.
func twins(rel string) map[string]string {
	dir, name := parentOf(rel), rel[strings.LastIndexByte(rel, '/')+1:]
	return map[string]string{
		"upper case":            strings.ToUpper(rel),
		"last letter":           rel[:len(rel)-1] + strings.ToUpper(rel[len(rel)-1:]),
		"zero-width joiner":     join(dir, name[:1]+"\u200d"+name[1:]),
		"byte order mark":       join(dir, "\ufeff"+name),
		"soft hyphen":           join(dir, name+"\u00ad"),
		"trailing dot":          rel + ".",
		"trailing space":        rel + " ",
		"alternate data stream": rel + "::$INDEX_ALLOCATION",
		"kelvin sign":           strings.ReplaceAll(rel, "k", "\u212a"),
		"long s":                strings.ReplaceAll(rel, "s", "ſ"),
		"backslash":             strings.ReplaceAll(rel, "/", `\`),
	}
}

func TestProtectedRows(t *testing.T) {
	for _, row := range protectedRows {
		t.Run(row.pattern, func(t *testing.T) {
			name := example(row.pattern)
			paths := map[string]string{"itself": name, "nested": "a/b/" + name, "below": name + "/x"}
			for kind, twin := range twins(name) {
				paths[kind] = twin
			}
			for kind, path := range paths {
				if why, ok := ProtectedPath(path, nil); !ok || why == "" {
					t.Errorf("%s: %q is not protected", kind, path)
				}
			}
			if row.pattern != strings.ToLower(row.pattern) || strings.HasSuffix(row.pattern, "/") || row.why == "" {
				t.Error("rows are in lower case, end in no slash and have a reason")
			}
			if _, ok := ProtectedPath("x"+name, nil); ok && !strings.HasPrefix(row.pattern, "*") {
				t.Errorf("%q is protected", "x"+name)
			}
		})
	}
}

func TestProtectedInGitDirectories(t *testing.T) {
	for _, c := range []struct {
		name string
		path string
		ok   bool
	}{
		{"a link or file in the place of .git", ".git", true},
		{"the same, nested", "a/.git", true},
		{"hook", ".git/hooks/pre-commit", true},
		{"the hooks directory as a link", ".git/hooks", true},
		{"config", ".git/config", true},
		{"config of a worktree", ".git/config.worktree", true},
		{"attributes", ".git/info/attributes", true},
		{"exclude is harmless", ".git/info/exclude", false},
		{"alternates", ".git/objects/info/alternates", true},
		{"objects", ".git/objects/ab/cdef", false},
		{"refs", ".git/refs/heads/hooks", false},
		{"a branch called config", ".git/refs/heads/config", false},
		{"index", ".git/index", false},
		{"log of a branch called hooks", ".git/logs/refs/heads/hooks", false},
		{"pointer", ".git/commondir", true},
		{"rebase todo", ".git/rebase-merge/git-rebase-todo", true},
		{"submodule hook", ".git/modules/m/hooks/post-checkout", true},
		{"submodule in a directory", ".git/modules/vendor/lib/config", true},
		{"nested submodule", ".git/modules/a/modules/b/hooks/x", true},
		{"submodule objects", ".git/modules/m/objects/ab/cdef", false},
		{"worktree pointer", ".git/worktrees/w/gitdir", true},
		{"worktree config", ".git/worktrees/w/config.worktree", true},
		{"worktree index", ".git/worktrees/w/index", false},
		{"nested repository", "a/b/c/d/.git/hooks/x", true},
		{"bare repository by its usual name", "vendor/lib.git/config", true},
		{"bare repository's objects", "vendor/lib.git/objects/x", false},
		{"case twin (F24)", ".GIT/hooks/pre-commit", true},
		{"case twin inside", ".git/Hooks/pre-commit", true},
		{"case twin of config", ".Git/CONFIG", true},
		{"DOS short name", "GIT~1/hooks/x", true},
		{"DOS short name of another", "VSCODE~1/tasks.json", true},
		{"ignorable code point", ".g\u200cit/config", true},
		{"trailing dot", ".git./config", true},
		{"stream", ".git::$INDEX_ALLOCATION/config", true},
		{"backslash", `.git\config`, true},
		{"not a git directory", "git/config", false},
		{"a file name that ends so", "x.git", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why, ok := ProtectedPath(c.path, nil); ok != c.ok {
				t.Errorf("%q: protected %v (%s), want %v", c.path, ok, why, c.ok)
			}
		})
	}
}

// TestProtectedDemands are the files of the conformance cases F11, F15, F16 and of the escapes E07 and E08.
func TestProtectedDemands(t *testing.T) {
	for _, path := range []string{
		".mcp.json", ".claude/settings.json", ".claude/settings.local.json", ".claude/agents/x.md", ".claude/hooks/x", ".codex/config.toml", ".cursor/mcp.json",
		".vscode/tasks.json", ".idea/workspace.xml", ".envrc", ".devcontainer/devcontainer.json", ".github/workflows/ci.yml", ".husky/pre-commit", "lefthook.yml",
		".githooks/pre-push", "pyvenv.cfg", ".venv/pyvenv.cfg", ".npmrc", ".gemini/settings.json", "casemate.yaml", "fence.json", ".gitmodules", ".cargo/config.toml",
		".gitlab-ci.yml", "Jenkinsfile", "web/.npmrc", ".yarn/releases/yarn-4.cjs", "mise.toml", ".mise.local.toml", ".hg/hgrc",
		".bsp/sbt.json", "buildServer.json", "rust-project.json", ".python-version", "global.json", "lean-toolchain", "pnpm-workspace.yaml", ".repo/repo/main.py", ".gitreview",
		".github/lsp.json", ".github/agents/x.agent.md", ".github/skills/x/run.sh", "conductor.json", "azure-pipelines-release.yml", "build/deploy.gitlab-ci.yml", ".tangled/workflows/x.yml",
		".github/CODEOWNERS", "hk.pkl", "ios/ci_scripts/ci_post_clone.sh", "x/commondir", "pitchfork.toml", ".codebuddy/settings.json", "_opam/.opam-switch/environment",
	} {
		if _, ok := ProtectedPath(path, nil); !ok {
			t.Errorf("%q is not protected", path)
		}
	}
	for _, path := range []string{
		"main.go", "README.md", "src/config", "hooks/useThing.ts", "docs/claude.md", "git", "gitignore", ".gitignore", "vscode/x", "a~b", "x:y", "lib/mise/a.go", "config.toml",
		".claude/worktrees/fix/main.go", "a/.claude/worktrees/fix/b/.claude/worktrees/c/main.go", ".github/ISSUE_TEMPLATE/bug.md", "build/out.js", ".editorconfig", "model.pth", "package.json", "Makefile", "...", "~1", "x~1",
	} {
		if why, ok := ProtectedPath(path, nil); ok {
			t.Errorf("%q is protected: %s", path, why)
		}
	}
	for _, path := range []string{".github/workflows/.claude/worktrees/fix/ci.yml", ".claude/worktrees/fix/.husky/.claude/worktrees/b/c", ".vscode/.claude/worktrees/a/tasks.json",
		"x.claude/worktrees/.envrc/a", ".claude/worktrees/fix/.envrc", ".claude/worktrees/fix/.claude/settings.json", ".claude/worktrees/fix/.git"} {
		if _, ok := ProtectedPath(path, nil); !ok {
			t.Errorf("%q is not protected", path)
		}
	}
}

func TestProtectedByPolicy(t *testing.T) {
	extra, err := policy.CompilePaths([]string{"deploy/*.sh", "!deploy/ok.sh"})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"deploy/x.sh": true, "deploy/ok.sh": false, "x.sh": false} {
		if why, ok := ProtectedPath(path, extra); ok != want {
			t.Errorf("%q: protected %v (%s), want %v", path, ok, why, want)
		}
	}
}

func TestMarkedRows(t *testing.T) {
	for _, row := range markedRows {
		t.Run(row.pattern, func(t *testing.T) {
			name := example(row.pattern)
			for _, path := range []string{name, "a/b/" + name, strings.ToUpper(name)} {
				if why, ok := MarkedPath(path, nil); !ok || why == "" {
					t.Errorf("%q is not marked", path)
				}
			}
			if row.pattern != strings.ToLower(row.pattern) || row.why == "" {
				t.Error("rows are in lower case and have a reason")
			}
		})
	}
	for _, path := range []string{"main.go", "build/x.js", "README.md", "workspace/x"} {
		if why, ok := MarkedPath(path, nil); ok {
			t.Errorf("%q is marked: %s", path, why)
		}
	}
}

func TestMarkedGenerate(t *testing.T) {
	for _, c := range []struct {
		name, path, content string
		ok                  bool
	}{
		{"directive", "a.go", "package a\n//go:generate sh -c id\n", true},
		{"first line", "a.go", "//go:generate x", true},
		{"with a tab", "a.go", "\n//go:generate\tx", true},
		{"not at the start of a line", "a.go", "x //go:generate x\n", false},
		{"another word", "a.go", "//go:generated\n", false},
		{"second of two", "a.go", " //go:generate x\n//go:generate x\n", true},
		{"not Go", "a.txt", "//go:generate x\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, ok := MarkedPath(c.path, []byte(c.content)); ok != c.ok {
				t.Errorf("marked %v, want %v", ok, c.ok)
			}
		})
	}
}

func TestRowsAreListedOnce(t *testing.T) {
	var all []string
	for _, r := range protectedRows {
		all = append(all, r.pattern)
	}
	for _, r := range markedRows {
		all = append(all, r.pattern)
	}
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			t.Errorf("%q is listed twice", all[i])
		}
	}
}

func FuzzProtectedPath(f *testing.F) {
	for _, s := range []string{".git/hooks/x", "GIT~1", "a\u200db", ".claude/worktrees/a/.git", `.git\x`, "\xff~1", ".GIT::x/y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rel string) {
		_, ok := ProtectedPath(rel, nil)
		if _, again := ProtectedPath(canonicalPath(rel), nil); ok && !again {
			t.Fatalf("%q is protected, its canonical form %q is not", rel, canonicalPath(rel))
		}
		MarkedPath(rel, []byte(rel))
	})
}

// TestOwnPolicyIsProtected: who works on the files of their configuration works on what is believed about every project.
func TestOwnPolicyIsProtected(t *testing.T) {
	for _, path := range []string{"casemate/policy.yaml", ".config/casemate/policy.yaml", "dot_config/casemate/trusted.json", "casemate/.config/casemate/presets/npm.yaml"} {
		if _, ok := ProtectedPath(path, nil); !ok {
			t.Errorf("%s is not protected", path)
		}
	}
	for _, path := range []string{"policy.yaml", "casemate/main.go", "presets/npm.yaml"} {
		if why, ok := ProtectedPath(path, nil); ok {
			t.Errorf("%s is protected: %s", path, why)
		}
	}
}
