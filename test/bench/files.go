package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// slow is the number of rounds of what takes half a second.
func (b *bench) slow() int { return max(3, b.rounds*3/10) }

// hide measures what 50 patterns in a project of 100,000 files add to a start.
func hide(b *bench) ([]row, error) {
	big := filepath.Join(b.dir, "big")
	if err := manyFiles(big); err != nil {
		return nil, err
	}
	if err := b.give(big); err != nil {
		return nil, err
	}
	status := b.plain("/usr/bin/git", "status", "--porcelain")
	small, large := b.ours("true"), b.ours("true")
	status.dir, large.dir = big, big
	if _, err := status.once(); err != nil { // the first refreshes git's index
		return nil, err
	}
	var first, again, git, firstX, againX []float64
	for i := range b.slow() {
		large.home = filepath.Join(b.dir, fmt.Sprintf("home-%d", i)) // an index is kept per project in the state directory: none here yet
		if err := os.Mkdir(large.home, 0o755); err != nil {
			return nil, err
		}
		if err := b.give(large.home); err != nil {
			return nil, err
		}
		var took [4]float64
		for k, w := range []way{small, large, large, status} {
			u, err := w.once()
			if err != nil {
				return nil, err
			}
			took[k] = u.wall.Seconds()
		}
		f, a := took[1]-took[0], took[2]-took[0]
		first, again, git = append(first, f), append(again, a), append(git, took[3])
		firstX, againX = append(firstX, f/took[3]), append(againX, a/took[3])
	}
	note := fmt.Sprintf("What a start in 100,000 files with 50 more hide patterns takes longer than one in two files; %d rounds. The first one has no index yet.", b.slow())
	return []row{
		{What: "100,000 files / git status", Ours: ms(median(first)), Peer: ms(median(git)), Value: median(firstX), P90: quantile(firstX, 0.9), Goal: 2, Rounds: b.slow(), Note: note},
		{What: "the same, with the index", Ours: ms(median(again)), Peer: ms(median(git)), Value: median(againX), P90: quantile(againX, 0.9), Goal: 0.5, Rounds: b.slow()},
	}, nil
}

func manyFiles(dir string) error {
	var patterns []string
	for i := range 50 {
		patterns = append(patterns, fmt.Sprintf("%q", fmt.Sprintf("*.hidden%d", i)))
	}
	files := map[string]string{"casemate.yaml": "version: 1\nfiles:\n  hide: [" + strings.Join(patterns, ", ") + "]\n"}
	for d := range 1000 {
		for f := range 100 {
			files[fmt.Sprintf("d%d/s%d/file%d.txt", d/25, d, f)] = "content\n"
		}
	}
	if err := write(dir, files); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"}} {
		if err := quiet(exec.Command("git", append([]string{"-C", dir}, args...)...)); err != nil {
			return err
		}
	}
	return nil
}

// files measures work in the workspace; the work times itself, inside and bare.
func files(b *bench) ([]row, error) {
	work := filepath.Join(b.dir, "work")
	if err := workspaceOf(work); err != nil {
		return nil, err
	}
	if err := copyFile(b.self, filepath.Join(work, "bench")); err != nil {
		return nil, err
	}
	if err := b.give(work); err != nil {
		return nil, err
	}
	me := filepath.Join(work, "bench")
	bare, inside := b.plain(me, "-inside", "files"), b.ours(me, "-inside", "files")
	bare.dir, inside.dir = work, work
	if _, _, err := timed(bare); err != nil { // fills the build cache, which the sandbox sees as it is
		return nil, err
	}
	ours, peer := map[string][]float64{}, map[string][]float64{}
	for range b.slow() {
		for _, side := range []struct {
			w    way
			into map[string][]float64
		}{{inside, ours}, {bare, peer}} {
			names, took, err := timed(side.w)
			if err != nil {
				return nil, err
			}
			for i, n := range names {
				side.into[n] = append(side.into[n], took[i])
			}
		}
	}
	var rows []row
	for _, goal := range []struct {
		name, what string
		max        float64
	}{{"git", "git status / bare", 1.05}, {"go", "go build / bare", 1.05}, {"storm", "create, stat, unlink / bare", 1.5}, {"dd", "dd bs=1 / bare", 1.25}} {
		rows = append(rows, compare(goal.what, ours[goal.name], peer[goal.name], goal.max, 0))
	}
	rows[0].Note = fmt.Sprintf("In the held workspace (overlay); taken by the work itself, start excluded; %d rounds, in each of which every work is done three times and the middle counts.", b.slow())
	return rows, nil
}

func workspaceOf(dir string) error {
	files := map[string]string{
		"go.mod": "module tiny\n\ngo 1.26\n", "main.go": "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(1) }\n", ".gitignore": "bench\n.cache/\nstorm/\n",
	}
	for i := range 2000 {
		files[fmt.Sprintf("data/%d/%d.txt", i/50, i)] = "content\n"
	}
	if err := write(dir, files); err != nil {
		return err
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"}} {
		if err := quiet(exec.Command("git", append([]string{"-C", dir}, args...)...)); err != nil {
			return err
		}
	}
	return nil
}

// timed runs a workload and reads the times that it prints.
func timed(w way) (names []string, seconds []float64, err error) {
	var out bytes.Buffer
	w.stdout = &out
	if _, err := w.once(); err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(out.String()) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		s, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return nil, nil, err
		}
		names, seconds = append(names, name), append(seconds, s)
	}
	return names, seconds, nil
}

// workload is what the measured program does when it is this one.
func workload(name string, args []string) error {
	switch name {
	case "spin": // bounded, should nobody end it
		for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
			for range 1_000_000 {
			}
		}
		return nil
	case "files":
		return fileWork()
	case "look":
		return look(args[0])
	case "build":
		return storm(args[0], 1000)
	case "hosts":
		return serveHosts(args[0])
	case "requests":
		return requests(strings.Join(args, ""))
	case "keyed":
		return keyedRequests(args[0], args[1], strings.Join(args[2:], ""))
	}
	return fmt.Errorf("no workload %q", name)
}

func fileWork() error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, w := range []struct {
		name string
		run  func(i int) error
	}{
		{"git", func(int) error { return quiet(exec.Command("git", "status", "--porcelain")) }},
		{"go", func(i int) error { return goBuild(here, i) }},
		{"storm", func(int) error { return storm("storm", 1000) }},
		{"dd", func(int) error {
			return quiet(exec.Command("dd", "if=/dev/zero", "of=.cache-dd", "bs=1", "count=50000", "status=none"))
		}},
	} {
		var took []float64
		for i := range 3 {
			begin := time.Now()
			if err := w.run(i); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			took = append(took, time.Since(begin).Seconds())
		}
		fmt.Println(w.name, median(took))
	}
	return nil
}

// goBuild compiles and links a changed package; everything else comes from the cache.
func goBuild(here string, i int) error {
	source := fmt.Sprintf("package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(%d) }\n", time.Now().UnixNano()+int64(i))
	if err := os.WriteFile("main.go", []byte(source), 0o644); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", ".cache/tiny", ".")
	cmd.Env = append(os.Environ(), "GOCACHE="+filepath.Join(here, ".cache/go"), "GOPROXY=off", "GOTELEMETRY=off", "CGO_ENABLED=0", "GOFLAGS=", "GOTOOLCHAIN=local")
	return quiet(cmd)
}

func storm(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := range n {
		name := dir + "/" + strconv.Itoa(i)
		fd, err := unix.Open(name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return err
		}
		if err := unix.Unlink(name); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}
