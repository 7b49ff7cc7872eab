package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory is what stays around a command while it runs.
func memory(b *bench) ([]row, error) {
	const times = 6
	var ours, peer []float64
	unreadable := ""
	for range times {
		o, missing, err := b.around(b.ours("sleep", "30"))
		if err != nil {
			return nil, err
		}
		p, _, err := b.around(b.bwrap("sleep", "30"))
		if err != nil {
			return nil, err
		}
		ours, peer = append(ours, o), append(peer, p)
		if missing > 0 {
			unreadable = fmt.Sprintf(" %d of the processes may be read by root only and are missing.", missing)
		}
	}
	m := median(ours)
	rows := []row{{
		What: "MiB PSS around a command", Ours: fmt.Sprintf("%.2f", m), Peer: fmt.Sprintf("%.2f", median(peer)), Value: m, Goal: 6, Then: 3, Count: true, Rounds: times,
		Note: "Supervisor, the sandbox's first process and (as root) the cleaner, while sleep runs, from smaps_rollup, 1.5 seconds after the start: after one second casemate " +
			"gives back the pages of its own program that it no longer uses, 3.5 MiB, so that short commands do not pay for that." + unreadable,
	}}
	if b.root {
		var root []float64
		for range times {
			o, _, err := b.around(b.asRoot(b.ours("sleep", "30")))
			if err != nil {
				return nil, err
			}
			root = append(root, o)
		}
		m := median(root) // the first run prepares more than a start does
		rows = append(rows, row{What: "the same, root", Ours: fmt.Sprintf("%.2f", m), Value: m, Goal: 6, Then: 3, Count: true, Rounds: times})
	}
	return rows, nil
}

// settled is when the supervisor has given back what only the start needed.
const settled = 1500 * time.Millisecond

// around starts w, waits until its command runs, and adds up the others, in MiB.
func (b *bench) around(w way) (mib float64, missing int, err error) {
	cmd := w.cmd()
	defer closeFiles(cmd)
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(unix.SIGTERM)
	var tree []int
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return 0, 0, errors.New("sleep never ran")
		}
		var running bool
		if tree, running = aroundSleep(cmd.Process.Pid); running {
			break
		}
	}
	time.Sleep(settled)
	for _, pid := range tree {
		kib, err := pss(pid)
		if errors.Is(err, fs.ErrPermission) {
			missing++
		} else if err != nil {
			return 0, 0, err
		}
		mib += float64(kib) / 1024
	}
	return mib, missing, nil
}

// aroundSleep lists a process and its descendants without sleep, and reports whether sleep is there.
func aroundSleep(pid int) (list []int, running bool) {
	if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(name)) == "sleep" {
		return nil, true
	}
	list = []int{pid}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, word := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(word)
			l, r := aroundSleep(child)
			list, running = append(list, l...), running || r
		}
	}
	return list, running
}

func pss(pid int) (kib int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("process %d has no Pss", pid)
}

// pipe is the way of large output.
func pipe(b *bench) ([]row, error) {
	const times = 10
	through := func(w way) (float64, error) {
		r, out, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		defer r.Close()
		cmd := w.cmd()
		cmd.Stdout = out
		begin := time.Now()
		err = cmd.Start()
		out.Close()
		if err != nil {
			return 0, err
		}
		n, err := drain(r)
		wall := time.Since(begin).Seconds()
		if err := errors.Join(err, cmd.Wait()); err != nil {
			return 0, err
		}
		if n != 1<<30 {
			return 0, fmt.Errorf("%d bytes came through", n)
		}
		return float64(n) / wall / 1e9, nil
	}
	var a, p []float64
	for range times {
		x, err := through(b.ours("head", "-c", "1G", "/dev/zero"))
		if err != nil {
			return nil, err
		}
		y, err := through(b.plain("/usr/bin/head", "-c", "1G", "/dev/zero"))
		if err != nil {
			return nil, err
		}
		a, p = append(a, x), append(p, y)
	}
	r := ratios(a, p)
	return []row{{
		What: "1 GiB by a pipe / bare", Ours: fmt.Sprintf("%.2fGB/s", median(a)), Peer: fmt.Sprintf("%.2fGB/s", median(p)), Value: median(r), P90: quantile(r, 0.9),
		More: true, Rounds: times, Note: fmt.Sprintf("%d rounds, the start included.", times),
	}}, nil
}

func drain(r *os.File) (n int64, err error) {
	buf := make([]byte, 1<<16)
	for {
		k, err := r.Read(buf)
		n += int64(k)
		if k == 0 || err != nil {
			return n, nil
		}
	}
}
