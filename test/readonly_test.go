package test

import (
	"path/filepath"
	"strings"
	"testing"
)

// renamedAway are attempts at a file of a read-only part of the project: to have what lies above it out of the way, and make it anew.
var renamedAway = []struct{ name, line string }{
	{"the directory above", `mv top/mid top/was; mkdir -p top/mid/dir; echo evil >top/mid/dir/f`},
	{"the topmost directory", `mv top was; mkdir -p top/mid/dir; echo evil >top/mid/dir/f`},
	{"a directory by its absolute path", `mv "$PWD/top" "$PWD/was"; mkdir -p top/mid/dir; echo evil >top/mid/dir/f`},
	{"all of it removed", `rm -rf top; mkdir -p top/mid/dir; echo evil >top/mid/dir/f`},
	{"a link in its place", `mkdir -p other/mid/dir; echo evil >other/mid/dir/f; mv top was; ln -s other top; mv -T other top`},
	{"another directory moved there", `mkdir -p new/mid/dir; echo evil >new/mid/dir/f; mv top was; mv -T new top`},
}

// TestReadonlyAncestorRenamed: a part of the project that is read-only stays as it is on the host, whatever is renamed above it inside, also when all that
// is held is applied. Without the line the same commands change it.
func TestReadonlyAncestorRenamed(t *testing.T) {
	const file = "top/mid/dir/f"
	for _, workspace := range []string{"live", "held"} {
		for _, part := range []string{"", "top/mid/dir/f", "top/mid/dir"} {
			name := part
			if part == "" {
				name = "control"
			}
			t.Run(workspace+"/"+name, func(t *testing.T) {
				namespaced(t, func(t *testing.T, s *site) {
					changed := 0
					for _, a := range renamedAway {
						shell(t, s.Work, "rm -rf top was other new")
						s.put(file, "specified\n", 0o644)
						s.giveAll(filepath.Join(s.Work, "top"))
						flags := []string{"--fresh", "--workspace", workspace}
						if part != "" {
							flags = append(flags, "--readonly", part)
						}
						out := s.run(append(flags, "--", "sh", "-c", a.line)...)
						said := s.do("apply", "--yes")
						got, _ := filepath.Glob(filepath.Join(s.Work, file))
						is := len(got) == 1 && read(t, got[0]) == "specified\n"
						if !is {
							changed++
						}
						if part != "" && !is {
							t.Errorf("%s: the host's file is changed: %v %v", a.name, out, said)
						}
						s.do("discard", "--yes")
					}
					if part == "" && changed != len(renamedAway) {
						t.Errorf("without the line %d of %d change the host: the case proves nothing", changed, len(renamedAway))
					}
				})
			})
		}
	}
}

// TestReadonlyBesideStaysWritable: what lies beside a read-only part can be changed, and directories there renamed.
func TestReadonlyBesideStaysWritable(t *testing.T) {
	for _, workspace := range []string{"live", "held"} {
		t.Run(workspace, func(t *testing.T) {
			namespaced(t, func(t *testing.T, s *site) {
				s.put("top/mid/dir/f", "specified\n", 0o644)
				s.put("top/beside/x", "x\n", 0o644)
				s.giveAll(filepath.Join(s.Work, "top"))
				out := s.run("--workspace", workspace, "--readonly", "top/mid/dir", "--", "sh", "-c", `set -e; echo new >top/mid/new; mv top/beside top/moved; rm top/moved/x; echo y >top/moved/y; cat top/mid/dir/f; ! touch top/mid/dir/f`)
				if out.exit != 0 {
					t.Fatal(out)
				}
				has(t, "inside", out.stdout, "specified")
				s.do("apply", "--yes")
				for _, name := range []string{"top/mid/new", "top/moved/y", "top/mid/dir/f"} {
					if !exists(filepath.Join(s.Work, name)) {
						t.Errorf("%s is not there", name)
					}
				}
			})
		})
	}
}

// TestReadonlyAbsent: a path that is read-only and not there stops no run, and what is made there does not reach the host.
func TestReadonlyAbsent(t *testing.T) {
	for _, workspace := range []string{"live", "held", "readonly"} {
		t.Run(workspace, func(t *testing.T) {
			namespaced(t, func(t *testing.T, s *site) {
				out := s.run("--workspace", workspace, "--readonly", "top/gen", "--", "sh", "-c", `mkdir -p top/gen && echo made >top/gen/f; mkdir -p was/gen && echo moved >was/gen/g && mv was/gen top/gen2 && mv top top3 && mv top3 top; true`)
				if out.exit != 0 {
					t.Fatal(out)
				}
				has(t, "the notice", out.stderr, "files.readonly (command line")
				has(t, "the notice", out.stderr, "there is no top/gen")
				said := s.do("apply", "--yes")
				if exists(filepath.Join(s.Work, "top/gen")) {
					t.Errorf("top/gen is on the host: %v %v", out, said)
				}
				if workspace != "readonly" && !exists(filepath.Join(s.Work, "top/gen2/g")) {
					t.Errorf("what lies beside it did not arrive: %v %v", out, said)
				}
			})
		})
	}
}

// TestReadonlyDeletedInKeptChanges: a part that an earlier run removed in what is held stops no later run that has it read-only, and is not removed on the host.
func TestReadonlyDeletedInKeptChanges(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		s.put("top/dir/f", "specified\n", 0o644)
		s.giveAll(filepath.Join(s.Work, "top"))
		s.sh("rm -rf top; mkdir top")
		if out := s.run("--readonly", "top/dir", "--", "ls", "top"); out.exit != 0 || strings.Contains(out.stdout, "dir\n") {
			t.Error(out)
		}
		said := s.do("apply", "--yes")
		if !exists(filepath.Join(s.Work, "top/dir/f")) {
			t.Errorf("it is removed on the host: %v", said)
		}
	})
}

// TestReadonlyLink: a symbolic link cannot be made read-only, and the refusal names the line and the place it leads to.
func TestReadonlyLink(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		s.put("top/dir/f", "specified\n", 0o644)
		s.put("casemate.yaml", "version: 1\nfiles:\n  readonly: [link/dir]\n", 0o644)
		shell(t, s.Work, "ln -s top link")
		for _, command := range []string{"run", "plan"} {
			out := s.do(command, "--", "true")
			if out.exit != 125 && command == "run" || out.exit == 0 {
				t.Errorf("%s: %v", command, out)
			}
			for _, want := range []string{"casemate.yaml:3)", "link/dir", "symbolic link", "name the place that it leads to: top/dir"} {
				has(t, command, out.stdout+out.stderr, want)
			}
		}
	})
}

// TestLiveLeavesHiddenInPlace: what lies in a hidden directory of a live project is the person's, whatever its name, and stays there.
func TestLiveLeavesHiddenInPlace(t *testing.T) {
	inPlace(t, func(t *testing.T, s *site) {
		s.put("private/.vscode/tasks.json", "{}\n", 0o644)
		s.put("private/run.sh", "mine\n", 0o755)
		s.giveAll(filepath.Join(s.Work, "private"))
		for _, flag := range []string{"--protect", "--readonly"} {
			out := s.run("--workspace", "live", "--hide", "private/", flag, "private/run.sh", "--", "sh", "-c", "ls private; mkdir .vscode; echo {} >.vscode/tasks.json")
			for _, name := range []string{"private/.vscode/tasks.json", "private/run.sh"} {
				if !exists(filepath.Join(s.Work, name)) {
					t.Fatalf("%s is taken out of the project: %v", name, out)
				}
			}
			if exists(filepath.Join(s.Work, ".vscode")) {
				t.Errorf("what was made inside was not taken out, so the case proves nothing: %v", out)
			}
		}
	})
}
