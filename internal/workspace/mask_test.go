package workspace

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMaskHoldsAgainst are the attacks of research/facts.md and of the conformance cases F04 to F07. Each succeeds without the mask.
func TestMaskHoldsAgainst(t *testing.T) {
	patterns := []string{".env", ".env.*", "*.pem", "secrets/"}
	for _, c := range []struct {
		name   string
		host   func(f *maskFixture, s *inside) // while the sandbox runs
		script string
	}{
		{"reading it", nil, "cat .env"},
		{"reading one below", nil, "cat a/b/.env"},
		{"finding all", nil, "find . -name '.env*' -exec cat {} +; grep -r secret .env a/b/.env a/.env.local"},
		{"reading what a pattern hides", nil, "cat x.pem a/.env.local"},
		{"reading in a hidden directory", nil, "cat secrets/deep/key; cat secrets/*"},
		{"another name of the same file", nil, "cat innocent"},
		{"copying the directory", nil, "cp -r a copy; cat copy/b/.env"},
		{"renaming the directory", nil, "mv a moved; cat moved/b/.env a/b/.env"},
		{"the host creates it", func(f *maskFixture, s *inside) { f.put("c/.env", "secret") }, "cat c/.env"},
		{"the host creates it where its absence was seen", func(f *maskFixture, s *inside) {
			s.sh("cat c/.env; ls -la c")
			f.put("c/.env", "secret")
		}, "cat c/.env; ls c"},
		{"the host replaces it by rename, as editors save", func(f *maskFixture, s *inside) {
			s.sh("cat .env")
			f.put("tmp", "secret")
			must(f, os.Rename(filepath.Join(f.project, "tmp"), filepath.Join(f.project, ".env")))
		}, "cat .env"},
		{"deleting the whiteout by making and removing the name", func(f *maskFixture, s *inside) {
			s.sh("touch c/.env; rm c/.env; touch .env; rm .env")
			f.put("c/.env", "secret")
			f.put("tmp", "secret")
			must(f, os.Rename(filepath.Join(f.project, "tmp"), filepath.Join(f.project, ".env")))
		}, "cat c/.env .env"},
		{"making a directory of the name", func(f *maskFixture, s *inside) {
			s.sh("mkdir c/.env; rmdir c/.env")
			f.put("c/.env", "secret")
		}, "cat c/.env"},
	} {
		t.Run(c.name, func(t *testing.T) {
			attack := func(t *testing.T, masked bool) string {
				f := newMaskFixture(t, patterns, ".env", "a/b/.env", "a/.env.local", "x.pem", "secrets/deep/key", "c/main.go")
				f.put("c/main.go", "public")
				must(t, os.Link(filepath.Join(f.project, "secrets/deep/key"), filepath.Join(f.project, "innocent")))
				f.prepare()
				mask := ""
				if masked {
					mask = f.m.Dir
				}
				s := f.enter(mask)
				if c.host != nil {
					c.host(f, s)
				}
				return s.sh(c.script)
			}
			if got := attack(t, true); strings.Contains(got, "secret ") || strings.HasSuffix(got, "secret") {
				t.Errorf("inside: %q", got)
			}
			if strings.Contains(c.name, "absence was seen") {
				return // overlayfs itself keeps showing what it has seen, so there is nothing to compare with
			}
			if got := attack(t, false); !strings.Contains(got, "secret") {
				t.Errorf("the attack does not succeed without a mask either: %q", got)
			}
		})
	}
}

func TestMaskLeavesTheRest(t *testing.T) {
	f := newMaskFixture(t, []string{".env", "secrets/", "!keep/.env"}, "a/.env", "a/main.go", "keep/.env", "secrets", "b/")
	must(t, os.Chmod(filepath.Join(f.project, "b"), 0o2750))
	must(t, os.Chtimes(filepath.Join(f.project, "b"), time.Unix(1e9, 5), time.Unix(1e9, 5)))
	s := f.enter(f.prepare().Dir)
	for _, c := range [][2]string{
		{"ls -A", "a\nb\nkeep\nsecrets"},
		{"ls -A a", "main.go"},
		{"cat keep/.env", "secret keep/.env"},
		{"cat secrets", "secret secrets"},
		{"stat -c '%a %Y %u' b", fmt.Sprintf("750 1000000000 %d", f.o.UID)},
		{"echo mine > .env; cat .env", "mine"},
		{"mkdir -p a/secrets; echo mine > a/secrets/x; cat a/secrets/x", "mine"},
		{"echo new > a/main.go; cat a/main.go; rm a/main.go; ls -A a", "new\nsecrets"},
	} {
		if got := s.sh(c[0]); got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
	}
	if _, err := os.Stat(filepath.Join(f.project, ".env")); err == nil {
		t.Error("the sandbox's own .env reached the host")
	}
	wantPaths(t, "project afterwards", names(t, f.project), "a", "b", "keep", "secrets")
}

func names(t testing.TB, dir string) []string {
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestMaskIncremental makes random changes and compares the mask that was brought up to date with one made afresh.
func TestMaskIncremental(t *testing.T) {
	patterns := []string{".env", ".env.*", "!.env.example", "s/", "/a/b/k", "*.pem", ".env2", "!b/.env2"}
	f := newMaskFixture(t, patterns, "a/b/c/x", "b/.env", "c/s/x", ".git/HEAD", ".git/refs/heads/s/x")
	r := rand.New(rand.NewPCG(3, 4))
	f.prepare()
	incremental := 0
	for round := range 120 {
		for range 1 + r.IntN(4) {
			randomHostEdit(f, r)
		}
		m := f.prepare()
		if m.Incremental {
			incremental++
		}
		got := treeOf(t, m.Dir)
		fresh := &maskFixture{TB: t, dir: f.dir, project: f.project, patterns: patterns, o: f.o}
		fresh.o.Dir = filepath.Join(t.TempDir(), "state")
		want := treeOf(t, fresh.prepare().Dir)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: mask differs from a fresh one:\n%s", round, strings.Join(onlyIn(got, want), "\n"))
		}
		if a, b := fmt.Sprint(m.Survey.Hidden, m.Survey.Findings), fmt.Sprint(fresh.m.Survey.Hidden, fresh.m.Survey.Findings); a != b {
			t.Fatalf("round %d: survey %s, a fresh one says %s", round, a, b)
		}
	}
	if incremental < 60 {
		t.Errorf("only %d of 120 scans were incremental", incremental)
	}
}

func onlyIn(a, b []string) (lines []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			lines = append(lines, "- "+s)
		}
	}
	for _, s := range b {
		if !slices.Contains(a, s) {
			lines = append(lines, "+ "+s)
		}
	}
	return lines
}

func randomHostEdit(f *maskFixture, r *rand.Rand) {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	path := func() string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = pick("a", "b", "c", "s", ".env", "x", "k", ".env2", "y.pem", ".env.example")
		}
		return filepath.Join(f.project, filepath.Join(parts...))
	}
	p := path()
	switch r.IntN(8) {
	case 0, 1:
		os.MkdirAll(p, 0o755)
	case 2, 3:
		os.MkdirAll(filepath.Dir(p), 0o755)
		os.WriteFile(p, []byte("x"), 0o644)
	case 4:
		os.RemoveAll(p)
	case 5:
		os.Rename(p, path())
	case 6:
		os.Link(p, path())
	case 7:
		os.Chmod(p, os.FileMode([]uint32{0o755, 0o700, 0o711}[r.IntN(3)]))
	}
}

func TestMaskReadsOnlyWhatChanged(t *testing.T) {
	f := newMaskFixture(t, []string{".env"}, "a/.env", "b/x", "c/d/x")
	f.prepare()
	m := f.prepare()
	if !m.Incremental {
		t.Error("nothing changed, and everything was read")
	}
	wantPaths(t, "hidden", f.hidden(), "a/.env")

	// Within the racy window a directory is read again, because its times may not show a change.
	m, err := prepareMask(f.project, mustCompile(t, ".env"), f.o, time.Now())
	must(t, err)
	defer m.Close()
	old := m.load()
	if len(old.dirs) == 0 || old.dirs[0].has(isRacy) {
		t.Error("a directory that was not read became racy")
	}
	f.put("b/.env", "secret")
	m, err = prepareMask(f.project, mustCompile(t, ".env"), f.o, time.Now())
	must(t, err)
	m.Close()
	for _, d := range m.Survey.dirs {
		if d.path == "b" && !d.has(isRacy) {
			t.Error("a directory that changed just now is not racy")
		}
	}
}

func TestMaskIsMendedWhenItsIndexIs(t *testing.T) {
	f := newMaskFixture(t, []string{".env", "*.pem"}, "a/.env", "b/x.pem", "c/d/x")
	want := treeOf(t, f.prepare().Dir)
	index, err := os.ReadFile(f.m.index)
	must(t, err)
	for _, c := range []struct {
		name  string
		spoil func()
	}{
		{"index removed", func() { os.Remove(f.m.index) }},
		{"index empty", func() { os.WriteFile(f.m.index, nil, 0o600) }},
		{"index cut off", func() { os.WriteFile(f.m.index, index[:len(index)/2], 0o600) }},
		{"one bit of the index", func() {
			spoiled := slices.Clone(index)
			spoiled[len(spoiled)/2] ^= 4
			os.WriteFile(f.m.index, spoiled, 0o600)
		}},
		{"mask removed", func() { os.RemoveAll(f.m.Dir) }},
		{"whiteout of something hidden removed", func() { os.Remove(filepath.Join(f.m.Dir, "b/x.pem")) }},
		{"directory with something hidden removed", func() { os.RemoveAll(filepath.Join(f.m.Dir, "a")) }},
		{"something added, index removed", func() {
			os.Remove(f.m.index)
			os.WriteFile(filepath.Join(f.m.Dir, "a/stale"), nil, 0o600)
			os.MkdirAll(filepath.Join(f.m.Dir, "gone/deep/er"), 0o700)
			os.Remove(filepath.Join(f.m.Dir, "a/.env"))
			os.MkdirAll(filepath.Join(f.m.Dir, "a/.env/x"), 0o700)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spoil()
			f.TB = t
			if got := treeOf(t, f.prepare().Dir); !slices.Equal(got, want) {
				t.Errorf("mask:\n%s", strings.Join(onlyIn(got, want), "\n"))
			}
		})
	}
}

func TestMaskOfTwoStartsAtOnce(t *testing.T) {
	f := newMaskFixture(t, []string{".env"}, "a/.env", "b/c/d/x")
	hide := mustCompile(t, f.patterns...)
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() {
			m, err := PrepareMask(f.project, hide, f.o)
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Close()
			if err := m.Fill(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	got := treeOf(t, f.prepare().Dir)
	f.o.Dir = filepath.Join(t.TempDir(), "state")
	if want := treeOf(t, f.prepare().Dir); !slices.Equal(got, want) {
		t.Errorf("mask:\n%s", strings.Join(onlyIn(got, want), "\n"))
	}
}

// TestMaskFillsLater stops after few links, as in a large project.
func TestMaskFillsLater(t *testing.T) {
	f := newMaskFixture(t, []string{".env", ".env2"}, "a/b/c/x", "d/e/f/g/x")
	f.o.Links = 5
	m, err := PrepareMask(f.project, mustCompile(t, f.patterns...), f.o)
	must(t, err)
	defer m.Close()
	if m.Pending != 6 {
		t.Errorf("%d directories pending, want 6 of 8", m.Pending)
	}
	masked := func(name string) bool {
		st, err := os.Lstat(filepath.Join(m.Dir, name))
		return err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	if !masked(".env") || masked("d/e/f/g/.env") {
		t.Error("the directories nearest to the root come first")
	}
	s := f.enter(m.Dir) // the rest is added under the mounted overlay
	must(t, m.Fill(t.Context()))
	f.put("d/e/f/g/.env", "secret")
	if got := s.sh("cat d/e/f/g/.env"); strings.Contains(got, "secret") || !masked("d/e/f/g/.env2") {
		t.Errorf("inside: %q", got)
	}
	// A start that takes over ends an earlier one's filling.
	f.o.Dir = filepath.Join(t.TempDir(), "state")
	m, err = PrepareMask(f.project, mustCompile(t, f.patterns...), f.o)
	must(t, err)
	defer m.Close()
	f.prepare()
	must(t, m.Fill(t.Context()))
	if m.Pending != 0 {
		t.Errorf("%d directories pending", m.Pending)
	}
}

// TestMaskFillsAtEachStart: what the first start left is masked a little at each later one, a fifth of what the first may take but a directory at least.
func TestMaskFillsAtEachStart(t *testing.T) {
	f := newMaskFixture(t, []string{".env", ".env2"}, "a/b/c/x", "d/e/f/g/x")
	f.o.Links = 6
	for start, want := range []int{5, 4, 3, 2, 1, 0, 0} {
		m, err := prepareMask(f.project, mustCompile(t, f.patterns...), f.o, time.Now().Add(time.Hour)) // when what was just made is believed
		must(t, err)
		if m.Pending != want {
			t.Errorf("start %d: %d directories pending, want %d", start, m.Pending, want)
		}
		m.Close()
	}
}

// TestMaskFillEnds: a directory with more absent names than are masked at a time is one step all the same. A project chooses how many it hides.
func TestMaskFillEnds(t *testing.T) {
	names := make([]string, 2500)
	for i := range names {
		names[i] = fmt.Sprintf(".absent%d", i)
	}
	f := newMaskFixture(t, names, "a/x", "b/x")
	f.o.Links = 1
	m, err := PrepareMask(f.project, mustCompile(t, f.patterns...), f.o)
	must(t, err)
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, m.Fill(ctx))
	if m.Pending != 0 {
		t.Errorf("%d directories pending", m.Pending)
	}
}

// TestWhiteoutInodesFillUp makes more names than one inode can have on ext4.
func TestWhiteoutInodesFillUp(t *testing.T) {
	dir := t.TempDir()
	base, err := openRooted(dir)
	must(t, err)
	defer base.close()
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	d, err := base.openChild("d")
	must(t, err)
	defer d.close()
	w := whiteouts{base: base}
	const many = 66_000
	for i := range many {
		must(t, w.link(d.fd, fmt.Sprint(i)))
	}
	all, err := namesIn(d.fd)
	must(t, err)
	if len(all) != many {
		t.Errorf("%d names, want %d", len(all), many)
	}
	var st unix.Stat_t
	must(t, unix.Fstatat(d.fd, fmt.Sprint(many-1), &st, unix.AT_SYMLINK_NOFOLLOW))
	if !isWhiteout(&st) {
		t.Error("the last one is no whiteout")
	}
}

func TestMaskCopiesWhatBelongsToOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away (CAP_CHOWN)")
	}
	f := newMaskFixture(t, []string{".env"}, "mine", "staff", "roots/x", "roots/.env", "private")
	f.o.UID, f.o.GID = 2000, 2000
	for name, id := range map[string][2]int{"": {2000, 2000}, "mine": {2000, 2000}, "staff": {2000, 50}, "roots": {0, 0}, "roots/x": {0, 0}, "private": {0, 0}} {
		must(t, os.Chown(filepath.Join(f.project, name), id[0], id[1]))
	}
	must(t, os.Symlink("mine", filepath.Join(f.project, "link")))
	must(t, os.Chmod(filepath.Join(f.project, "private"), 0o600))
	must(t, os.Chmod(filepath.Join(f.project, "staff"), 0o4664))
	must(t, os.Mkdir(filepath.Join(f.project, "closed"), 0o700))
	for d := f.project; d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	f.prepare()
	wantPaths(t, "owner", f.finding("owner"), " handled")
	wantPaths(t, "unreadable", f.finding("unreadable"), "closed handled", "private reported")
	wantPaths(t, "hidden", f.hidden(), "closed", "roots/.env")

	for name, want := range map[string]string{"staff": "-rw-rw-r-- 2000", "roots/x": "-rw-r--r-- 2000", "roots": "drwxr-xr-x 2000", "link": "Lrwxrwxrwx 2000", "roots/.env": "Dcrw------- 0"} {
		st, err := os.Lstat(filepath.Join(f.m.Dir, name))
		must(t, err)
		var id unix.Stat_t
		must(t, unix.Lstat(filepath.Join(f.m.Dir, name), &id))
		if got := fmt.Sprintf("%v %d", st.Mode(), id.Uid); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	// The copy follows the original, and goes when it is no longer needed.
	f.put("staff", "changed")
	must(t, os.Chown(filepath.Join(f.project, "roots/x"), 2000, 2000))
	f.prepare()
	if got, err := os.ReadFile(filepath.Join(f.m.Dir, "staff")); string(got) != "changed" {
		t.Errorf("copy: %q, %v", got, err)
	}
	must(t, os.Chmod(filepath.Join(f.project, "roots"), 0o711))
	f.prepare()
	if _, err := os.Lstat(filepath.Join(f.m.Dir, "roots/x")); err == nil {
		t.Error("the copy of a file that is not foreign any more is still there")
	}
}

func TestMaskRefusesToCopyHalfADisk(t *testing.T) {
	f := newMaskFixture(t, []string{".env"}, "big")
	must(t, os.Truncate(filepath.Join(f.project, "big"), maxForeignBytes+1))
	f.o.GID += 7
	_, err := PrepareMask(f.project, nil, f.o)
	if err == nil || !strings.Contains(err.Error(), `"big"`) || !strings.Contains(err.Error(), "chown") {
		t.Errorf("error: %v", err)
	}
}

func TestMasksArePruned(t *testing.T) {
	f := newMaskFixture(t, nil, "a/x")
	must(t, os.Chmod(f.project+"/a", 0o500))
	masks := func() int { return len(names(t, filepath.Join(f.o.Dir, "mask"))) }
	var used *Mask
	for i := range 8 {
		m, err := PrepareMask(f.project, mustCompile(t, fmt.Sprint(".env", i)), f.o)
		must(t, err)
		if i == 0 {
			used = m
			defer m.Close()
		} else {
			m.Close()
		}
		laterThan(t, f.project)
	}
	if got := masks(); got != keptMasks+2 {
		t.Errorf("%d masks, want %d and the new one and the used one", got, keptMasks)
	}
	if _, err := os.Lstat(filepath.Join(used.Dir, ".env0")); err != nil {
		t.Errorf("a mask in use was pruned: %v", err)
	}
}
