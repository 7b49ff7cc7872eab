package workspace

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"casemate.dev/internal/policy"
)

// fiftyPatterns are half exact names and half wildcards.
func fiftyPatterns(tb testing.TB) *policy.Paths {
	patterns := []string{".env", ".env.*", "!.env.example", "*.pem", "*.key", "secrets/", "config/master.key", "**/.aws/credentials"}
	for i := range 21 {
		patterns = append(patterns, fmt.Sprintf(".secret%d", i), fmt.Sprintf("*.k%d", i))
	}
	return mustCompile(tb, patterns...)
}

func mustCompile(tb testing.TB, patterns ...string) *policy.Paths {
	tb.Helper()
	p, err := policy.CompilePaths(patterns)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// largeTree has 100,000 files in 5,551 directories, all tracked by git.
func largeTree(b *testing.B) string {
	root := filepath.Join(b.TempDir(), "project")
	for i := range 50 {
		for j := range 10 {
			for k := range 10 {
				dir := filepath.Join(root, fmt.Sprintf("pkg%d/mod%d/d%d", i, j, k))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					b.Fatal(err)
				}
				for f := range 20 {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file_%d.go", f)), []byte("package p\n"), 0o644); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"}} {
		run(b, root, "git", args...)
	}
	if err := os.WriteFile(filepath.Join(root, "pkg1", ".env"), []byte("secret"), 0o600); err != nil {
		b.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error { return os.Chtimes(path, old, old) })
	run(b, root, "git", "status")
	time.Sleep(racyWindow) // a benchmark of what is not racy
	return root
}

func run(tb testing.TB, dir, name string, args ...string) string {
	tb.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// BenchmarkMask compares with `git status` in the same tree: the goal is at most 2 for a first start, 0.5 for later ones.
func BenchmarkMask(b *testing.B) {
	root := largeTree(b)
	hide := fiftyPatterns(b)
	states := b.TempDir()
	o := MaskOptions{ScanOptions: ScanOptions{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}
	var first, filling, later, status, walk, find time.Duration
	clock := func(total *time.Duration, f func()) {
		t := time.Now()
		f()
		*total += time.Since(t)
	}
	n := 0
	for b.Loop() {
		n++
		clock(&status, func() { run(b, root, "git", "status") })
		clock(&find, func() { run(b, root, "find", ".", "-name", "zzz") })
		o.Dir = filepath.Join(states, fmt.Sprint(n)) // not removed before the next: ext4 is slow to make directories for minutes after a mass deletion
		var m *Mask
		prepare := func() {
			var err error
			if m, err = PrepareMask(root, hide, o); err != nil {
				b.Fatal(err)
			}
		}
		clock(&first, prepare)
		clock(&filling, func() {
			if err := m.Fill(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
		m.Close()
		clock(&walk, func() {
			if _, err := Scan(root, hide, o.ScanOptions); err != nil {
				b.Fatal(err)
			}
		})
		clock(&later, prepare)
		if !m.Incremental || m.Pending > 0 {
			b.Fatalf("incremental %v, pending %d", m.Incremental, m.Pending)
		}
		m.Close()
	}
	ms := func(d time.Duration) float64 { return float64(d.Milliseconds()) / float64(n) }
	b.ReportMetric(ms(status), "ms-git-status")
	b.ReportMetric(ms(find), "ms-find")
	b.ReportMetric(ms(walk), "ms-scan")
	b.ReportMetric(ms(first), "ms-first")
	b.ReportMetric(ms(filling), "ms-fill-later")
	b.ReportMetric(ms(later), "ms-later")
	b.ReportMetric(float64(first)/float64(status), "first/status")
	b.ReportMetric(float64(later)/float64(status), "later/status")
}
