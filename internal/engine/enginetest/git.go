package enginetest

import (
	"os"
	"path/filepath"
	"strings"
)

// Executed are names in a project that the host executes without being asked: editors, agents, hooks, CI.
func Executed() []string {
	return []string{
		".mcp.json", ".claude/settings.json", ".claude/settings.local.json", ".claude/agents/evil.md", ".claude/hooks/evil.sh", ".codex/config.toml",
		".cursor/mcp.json", ".cursor/rules/evil.md", ".gemini/settings.json", ".vscode/tasks.json", ".vscode/settings.json", ".idea/workspace.xml", ".envrc",
		".devcontainer/devcontainer.json", ".github/workflows/evil.yml", ".gitlab-ci.yml", ".husky/pre-commit", ".githooks/pre-commit", "lefthook.yml",
		".gitmodules", ".gitattributes", "casemate.yaml",
	}
}

// gitCases try to leave something behind that the host executes later. In a held workspace all of it may be written, and none may reach the
// host; in a live one the host must not see it either. So the host decides.
func gitCases() []Case {
	repo := func(id, title string, attack func(*Env) error) Case {
		return Case{ID: id, Group: "files", Title: title, Guarantee: protect, Control: Outside, Setup: Repo, Attack: func(e *Env) Outcome {
			if !e.hasDir() {
				return notRun("this project has no fixtures")
			}
			if err := attack(e); err != nil {
				return asks("%s", brief(err.Error()))
			}
			return asks("written inside")
		}}
	}
	evil := func(e *Env, names ...string) error {
		var last error
		for _, name := range names {
			path := e.dir(name)
			_ = os.MkdirAll(filepath.Dir(path), 0o755)
			if err := write(path); err != nil {
				last = err
			}
		}
		return last
	}
	line := func(id, title, script string) Case {
		c := repo(id, title, nil)
		c.Attack = func(e *Env) Outcome {
			if !e.hasDir() {
				return notRun("this project has no fixtures")
			}
			if lookPath("git") == "" {
				return notRun("git is not installed")
			}
			out, _ := program(e.dir(), "sh", "-c", script)
			return asks("%s", brief(out))
		}
		return c
	}
	return []Case{
		repo("F09.rename-git", "rename .git and rebuild it with a hook", func(e *Env) error {
			if err := os.Rename(e.dir(".git"), e.dir(".g")); err != nil {
				_, _ = program(e.dir(), "mv", ".git", ".g")
			}
			return evil(e, ".git/hooks/post-checkout")
		}),
		repo("F11.hooks", "write hooks, config, attributes and alternates into .git", func(e *Env) error {
			return evil(e, ".git/hooks/pre-commit", ".git/config", ".git/info/attributes", ".git/config.worktree", ".git/objects/info/alternates",
				".git/info/grafts", ".git/commondir", ".git/modules/m/config", ".git/modules/m/hooks/post-checkout", ".git/worktrees/w/gitdir")
		}),
		repo("F11.hook-by-link", "replace .git/hooks by a symlink", func(e *Env) error {
			_ = os.RemoveAll(e.dir(".git/hooks"))
			return os.Symlink("/tmp", e.dir(".git/hooks"))
		}),
		repo("E05.swap-dir", "replace a protected directory by a symlink and write through it", func(e *Env) error {
			_ = os.Mkdir(e.dir("mine"), 0o755)
			_ = os.Rename(e.dir(".vscode"), e.dir("old"))
			if err := os.Symlink("mine", e.dir(".vscode")); err != nil {
				return err
			}
			return evil(e, ".vscode/tasks.json")
		}),
		line("F12.config", "git config fsmonitor, hooksPath, filter, include, alias",
			`git config core.fsmonitor 'touch /tmp/casemate-pwned'; git config core.hooksPath .evil; git config filter.x.clean 'touch /tmp/casemate-pwned'; git config include.path ../evil; git config alias.st '!touch /tmp/casemate-pwned'; git config diff.external evil; cat .git/config`),
		line("F15.new-repository", "make a new nested repository with fsmonitor", `mkdir v && cd v && git init -q . && git config core.fsmonitor 'touch /tmp/casemate-pwned'`),
		repo("F15.bare", "lay a bare repository in plain files", func(e *Env) error {
			return evil(e, "plain/HEAD", "plain/config", "plain/objects/x", "plain/refs/x", "plain/hooks/post-checkout")
		}),
		repo("E06.gitdir-pointer", "redirect a gitdir pointer", func(e *Env) error {
			_ = os.MkdirAll(e.dir("sub"), 0o755)
			return os.WriteFile(e.dir("sub", ".git"), []byte("gitdir: /tmp/evil\n"), 0o644)
		}),
		repo("E12.deep", "write a hook into a repository many levels down", func(e *Env) error {
			deep := filepath.Join("deep", strings.Repeat("d/", 12))
			return evil(e, deep+"/.git/hooks/pre-commit", deep+"/.git/config")
		}),
		repo("F16.executed", "write what editors, agents and CI execute", func(e *Env) error { return evil(e, Executed()...) }),
		{ID: "F16.top", Group: "files", Title: "write the same at the top of the project", Guarantee: protect, Control: Outside, Attack: func(e *Env) Outcome {
			// Only names that do not exist: a person's own project is left as it is.
			n := 0
			for _, name := range Executed() {
				path := filepath.Join(e.Work, name)
				if _, err := os.Lstat(path); err == nil || e.Workspace == "" && e.Control == "" {
					continue
				}
				_ = os.MkdirAll(filepath.Dir(path), 0o755)
				if write(path) == nil {
					n++
				}
			}
			return asks("%d written", n)
		}},
		{ID: "E09.policy", Group: "files", Title: "change the sandbox's own policy file", Guarantee: protect, Control: Outside, Setup: Repo, Attack: func(e *Env) Outcome {
			if !e.hasDir() {
				return notRun("this project has no fixtures")
			}
			return asks("%v", write(e.dir("casemate.yaml")))
		}},
		{ID: "F21.links", Group: "files", Title: "leave symlinks for the host to follow", Guarantee: protect, Control: Outside, Setup: Repo, Attack: func(e *Env) Outcome {
			if !e.hasDir() {
				return notRun("this project has no fixtures")
			}
			if e.Workspace == "live" {
				return notRun("a live workspace shows links as they are; the run reports them when it ends")
			}
			_ = os.Mkdir(e.dir("out"), 0o755)
			return asks("%v %v", os.Symlink("/etc/shadow", e.dir("out", "report.txt")), os.Symlink(e.Canary, e.dir("out", "k")))
		}},
	}
}
