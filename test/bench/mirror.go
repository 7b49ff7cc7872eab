package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mirror measures what the host's edits take until they are seen inside, and what a sandbox that only sits in the project costs a build on the host.
func mirror(b *bench) ([]row, error) {
	project := filepath.Join(b.dir, "mirror")
	if err := workspaceOf(project); err != nil {
		return nil, err
	}
	if err := copyFile(b.self, filepath.Join(project, "bench")); err != nil {
		return nil, err
	}
	if err := b.give(project); err != nil {
		return nil, err
	}
	seen, err := b.latency(project)
	if err != nil {
		return nil, err
	}
	rows := []row{{
		What: "host save until seen inside, ms", Ours: ms(median(seen)), Peer: "-", Value: 1000 * median(seen), P90: 1000 * quantile(seen, 0.9), Goal: 100, Count: true, Rounds: len(seen),
		Note: "A file saved by rename on the host, read in a loop inside; x is the median and p90 that of single saves, in milliseconds.",
	}}
	for _, w := range []struct{ what, dir string }{{"host build, sandbox idle / none", "storm"}, {"the same, not ignored by git", "made"}} {
		r, err := b.building(project, w.dir)
		if err != nil {
			return rows, err
		}
		r.What = w.what
		rows = append(rows, r)
	}
	rows[1].Note = "1000 files made, looked at and removed on the host, in a directory that git ignores and in one that it does not, while a sandbox that has looked at the whole project waits for input; against the same without one."
	return rows, nil
}

// idle starts a sandbox that has looked at everything, and returns how to end it.
func (b *bench) idle(project string, argv ...string) (lines *bufio.Scanner, end func() error, err error) {
	w := b.ours(argv...)
	w.dir = project
	cmd := w.cmd()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return bufio.NewScanner(out), func() error {
		in.Close()
		io.Copy(io.Discard, out)
		return cmd.Wait()
	}, nil
}

// latency saves files that hold the time, and has the sandbox say how old they are when it sees them.
func (b *bench) latency(project string) ([]float64, error) {
	path := filepath.Join(project, "saved")
	save := func(content string) error {
		temporary := path + ".tmp"
		if err := os.WriteFile(temporary, []byte(content), 0o644); err != nil {
			return err
		}
		if b.cred != nil {
			if err := os.Chown(temporary, b.uid, b.gid); err != nil {
				return err
			}
		}
		return os.Rename(temporary, path)
	}
	if err := save("0"); err != nil {
		return nil, err
	}
	lines, end, err := b.idle(project, filepath.Join(project, "bench"), "-inside", "look", "saved")
	if err != nil {
		return nil, err
	}
	var seen []float64
	for i := 0; i <= b.rounds && lines.Scan(); i++ {
		if age, err := strconv.ParseFloat(lines.Text(), 64); err == nil && i > 1 { // the first ones meet a watcher that is about to begin
			seen = append(seen, age)
		}
		time.Sleep(50 * time.Millisecond)
		next := strconv.FormatInt(time.Now().UnixNano(), 10)
		if i == b.rounds {
			next = "end"
		}
		if err := save(next); err != nil {
			return nil, err
		}
	}
	return seen, end()
}

// look reads a file until it says "end", and prints how old each new content is.
func look(path string) error {
	fmt.Println("ready")
	last := ""
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		b, err := os.ReadFile(path)
		now := string(b)
		if err != nil || now == last || now == "0" {
			continue
		}
		if now == "end" {
			return nil
		}
		if written, err := strconv.ParseInt(strings.TrimSpace(now), 10, 64); err == nil {
			fmt.Println(float64(time.Now().UnixNano()-written) / 1e9)
		}
		last = now
	}
	return syscall.ETIMEDOUT
}

// building times the same work on the host with and without a sandbox, in turn.
func (b *bench) building(project, dir string) (row, error) {
	build := b.plain(b.self, "-inside", "build", dir)
	build.dir = project
	var with, without []float64
	for range b.slow() {
		u, err := build.once()
		if err != nil {
			return row{}, err
		}
		without = append(without, u.wall.Seconds())
		lines, end, err := b.idle(project, "sh", "-c", "ls -R >/dev/null; git status >/dev/null; sleep 0.3; echo ready; cat")
		if err != nil {
			return row{}, err
		}
		lines.Scan()
		u, err = build.once()
		if e := end(); err == nil {
			err = e
		}
		if err != nil {
			return row{}, err
		}
		with = append(with, u.wall.Seconds())
	}
	return compare("", with, without, 1.5, 0), nil
}
