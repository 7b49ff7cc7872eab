package workspace

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// indexRepository is a repository of files that git itself has indexed.
type indexRepository struct {
	t   *testing.T
	dir string
}

func newIndexRepository(t *testing.T, files []string, init ...string) indexRepository {
	t.Helper()
	r := indexRepository{t, t.TempDir()}
	r.git(append([]string{"init", "-q"}, init...)...)
	for _, f := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(r.dir, f)), 0o755))
		must(t, os.WriteFile(filepath.Join(r.dir, f), []byte(f), 0o644))
	}
	return r
}

func (r indexRepository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (r indexRepository) index() []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, ".git", "index"))
	must(r.t, err)
	return b
}

// edit replaces the index by ours, and returns what git reads from it.
func (r indexRepository) edit(paths ...string) string {
	r.t.Helper()
	out, _, err := skipWorktree(r.index(), paths)
	must(r.t, err)
	must(r.t, os.WriteFile(filepath.Join(r.dir, ".git", "index"), out, 0o644))
	return r.git("ls-files", "-v", "-s", "--debug")
}

// Git is the oracle: what it reads from our index is what it reads from its own after update-index --skip-worktree.
func TestSkipWorktreeIsWhatGitDoes(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		for _, version := range []string{"2", "3", "4"} {
			for _, settings := range [][]string{nil, {"index.skipHash", "true"}, {"index.threads", "4"}, {"core.untrackedCache", "true"}, {"feature.manyFiles", "true"}, {"core.fsmonitor", `printf "token\000/\000"; :`}} {
				t.Run(strings.Join(append([]string{format, version}, settings...), " "), func(t *testing.T) {
					r := newIndexRepository(t, nil, "--object-format="+format)
					if settings != nil {
						r.git(append([]string{"config"}, settings...)...)
					}
					rng := rand.New(rand.NewPCG(1, uint64(len(version)+len(settings))))
					var names []string
					for i := range 40 {
						name := fmt.Sprintf("%s%d", strings.Repeat("d/", rng.IntN(3))+strings.Repeat("n", rng.IntN(20)), i)
						names = append(names, name)
						must(t, os.MkdirAll(filepath.Dir(filepath.Join(r.dir, name)), 0o755))
						must(t, os.WriteFile(filepath.Join(r.dir, name), []byte(name), 0o644))
					}
					r.git("update-index", "--index-version", version)
					r.git("add", ".")
					r.git("commit", "-qm", "one") // and a TREE extension
					r.git("update-index", "--skip-worktree", names[7])
					r.git("status", "--porcelain")
					before := r.index()
					for setting, extension := range map[string]string{"core.fsmonitor": "FSMN", "core.untrackedCache": "UNTR", "index.threads": "EOIE"} {
						if settings != nil && settings[0] == setting && !bytes.Contains(before, []byte(extension)) {
							t.Fatalf("git wrote no %s", extension)
						}
					}
					var chosen []string
					for _, n := range names {
						if rng.IntN(3) == 0 {
							chosen = append(chosen, n)
						}
					}
					chosen = append(chosen, names[7])
					r.git(append([]string{"update-index", "--skip-worktree", "--"}, chosen...)...)
					want := r.git("ls-files", "-v", "-s", "--debug")
					must(t, os.WriteFile(filepath.Join(r.dir, ".git", "index"), before, 0o644))
					if got := r.edit(chosen...); got != want {
						t.Errorf("git reads\n%s\nwant\n%s", got, want)
					}
					for _, n := range chosen {
						must(t, os.Remove(filepath.Join(r.dir, n)))
					}
					if got := r.git("status", "--porcelain"); got != "" {
						t.Errorf("status: %q", got)
					}
					r.git("fsck", "--strict")
				})
			}
		}
	}
}

func TestSkipWorktreeOfDirectories(t *testing.T) {
	r := newIndexRepository(t, []string{".env", "config/.env", "config/prod/key.pem", "config.txt", "configs/x"})
	r.git("add", ".")
	r.edit("config", ".env", "absent")
	if got, want := r.git("ls-files", "-v"), "S .env\nH config.txt\nS config/.env\nS config/prod/key.pem\nH configs/x\n"; got != want {
		t.Errorf("flags\n%s\nwant\n%s", got, want)
	}
	again, set, err := skipWorktree(r.index(), []string{"config"})
	must(t, err)
	if set != 0 || !bytes.Equal(again, r.index()) {
		t.Errorf("a second time: %d set", set)
	}
}

// In a sparse index a directory may be one entry; what is hidden and lies in one is not in the working tree anyway.
func TestSkipWorktreeOfSparseIndexes(t *testing.T) {
	r := newIndexRepository(t, []string{".env", "in/.env", "in/x", "out/.env", "out/deep/x"})
	r.git("add", ".")
	r.git("commit", "-qm", "one")
	r.git("sparse-checkout", "set", "--cone", "--sparse-index", "in")
	r.edit(".env", "in/.env", "out/.env")
	must(t, os.Remove(filepath.Join(r.dir, ".env")))
	must(t, os.Remove(filepath.Join(r.dir, "in/.env")))
	if got, want := r.git("ls-files", "--sparse", "-v"), "S .env\nS in/.env\nH in/x\nS out/\n"; got != want {
		t.Errorf("flags\n%s\nwant\n%s", got, want)
	}
	if got := r.git("status", "--porcelain"); got != "" {
		t.Errorf("status: %q", got)
	}
}

// Names of 4095 bytes and more do not fit into the flags.
func TestSkipWorktreeOfLongNames(t *testing.T) {
	for _, length := range []int{4094, 4095, 4096, 5000} {
		r := newIndexRepository(t, []string{"a"})
		r.git("add", ".")
		blob := strings.Fields(r.git("ls-files", "-s"))[1]
		name := strings.Repeat("n", length)
		r.git("update-index", "--add", "--cacheinfo", "100644,"+blob+","+name)
		if got, want := r.edit(name), "S 100644 "+blob+" 0\t"+name; !strings.Contains(got, want) {
			t.Errorf("%d bytes: %.100q", length, got)
		}
	}
}

func TestSkipWorktreeLeavesConflictsAlone(t *testing.T) {
	r := newIndexRepository(t, []string{".env", "x"})
	r.git("add", ".")
	r.git("commit", "-qm", "base")
	r.git("checkout", "-qb", "side")
	must(t, os.WriteFile(filepath.Join(r.dir, ".env"), []byte("side"), 0o644))
	r.git("commit", "-qam", "side")
	r.git("checkout", "-q", "-")
	must(t, os.WriteFile(filepath.Join(r.dir, ".env"), []byte("main"), 0o644))
	r.git("commit", "-qam", "main")
	cmd := exec.Command("git", "merge", "side")
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b"}
	_ = cmd.Run() // a conflict
	before := r.git("ls-files", "-v", "-s")
	if !strings.Contains(before, " 3\t.env") {
		t.Fatalf("no conflict:\n%s", before)
	}
	if r.edit(".env"); r.git("ls-files", "-v", "-s") != before {
		t.Error("an unmerged entry was changed")
	}
}

func TestSkipWorktreeRefuses(t *testing.T) {
	r := newIndexRepository(t, []string{".env", "a"})
	r.git("add", ".")
	good := r.index()
	broken := bytes.Clone(good)
	broken[20] ^= 1
	r.git("update-index", "--split-index")
	for name, index := range map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "broken": broken, "split": r.index(), "text": []byte(strings.Repeat("x", 200))} {
		if _, _, err := skipWorktree(index, []string{".env"}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Whatever the bytes are, the result is an index of the same entries, in which nothing but the wanted bits differ, and stays as it is when edited
// again.
func FuzzSkipWorktree(f *testing.F) {
	for _, format := range []string{"sha1", "sha256"} {
		for _, version := range []string{"2", "3", "4"} {
			index, err := os.ReadFile(filepath.Join(fuzzRepository(f, format, version), ".git", "index"))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(index[:len(index)-map[string]int{"sha1": 20, "sha256": 32}[format]], format == "sha1")
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, short bool) {
		size := 32
		if short {
			size = 20
		}
		index := append(bytes.Clone(body), indexSum(body, size)...)
		paths := []string{".env", "config"}
		out, set, err := skipWorktree(index, paths)
		if err != nil {
			return
		}
		if len(out) > len(index)+set*(2+indexAlignment) {
			t.Errorf("%d bytes became %d with %d bits", len(index), len(out), set)
		}
		again, more, err := skipWorktree(out, paths)
		if err != nil || more != 0 || !bytes.Equal(again, out) {
			t.Errorf("edited again: %d set, %v", more, err)
		}
		was, _, err1 := matchIndexOf(index, []string{".env", "config"}, size)
		is, _, err2 := matchIndexOf(out, []string{".env", "config"}, size)
		if (err1 == nil) != (err2 == nil) || strings.Join(was, "\n") != strings.Join(is, "\n") {
			t.Errorf("entries %q (%v) became %q (%v)", was, err1, is, err2)
		}
	})
}

func fuzzRepository(f *testing.F, format, version string) string {
	dir := f.TempDir()
	for _, args := range [][]string{{"init", "-q", "--object-format=" + format}, {"update-index", "--index-version", version}, {"add", "."}, {"update-index", "--skip-worktree", "a"}} {
		for _, name := range []string{".env", "a", "config/x", "config/y", "z"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				f.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
				f.Fatal(err)
			}
		}
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere"}
		if out, err := cmd.CombinedOutput(); err != nil {
			f.Fatalf("git %v: %s", args, out)
		}
	}
	return dir
}
