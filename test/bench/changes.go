package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// changedFiles is how many files the rows about held changes are about.
const changedFiles = 10_000

// change is what is done to each of them.
const change = "find src -type f -exec sed -i s/content/another/ {} +"

// changes measures the review of 10,000 changed files against git, and their way to the host against cp.
func changes(b *bench) ([]row, error) {
	project, after, to := filepath.Join(b.dir, "changes"), filepath.Join(b.dir, "changes-after"), filepath.Join(b.dir, "changes-copy")
	files := map[string]string{}
	for i := range changedFiles {
		files[fmt.Sprintf("src/%d/%d.txt", i/100, i)] = "one\ncontent\nthree\n"
	}
	if err := write(project, files); err != nil {
		return nil, err
	}
	prepare := fmt.Sprintf("git -C %[1]s init -q && cp -a %[1]s %[2]s && cd %[2]s && "+change, project, after)
	if err := quiet(exec.Command("sh", "-ec", prepare)); err != nil {
		return nil, err
	}
	for _, tree := range []string{project, after} {
		if err := b.give(tree); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(to, 0o777); err != nil {
		return nil, err
	}
	if err := b.give(to); err != nil {
		return nil, err
	}
	in := func(w way) way { w.dir = project; return w }
	edit := in(b.ours("sh", "-c", change))
	diff, peerDiff := in(b.plain(b.casemate, "diff", "--stat")), in(b.plain("sh", "-c", "git diff --no-index --stat . "+after+" || true"))
	apply, undo := in(b.plain(b.casemate, "apply")), in(b.plain(b.casemate, "undo"))
	clear, peerCopy := in(b.plain("rm", "-rf", filepath.Join(to, "tree"))), in(b.plain("cp", "-a", after, filepath.Join(to, "tree")))
	fork := in(b.plain("sh", "-c", `"$0" fork >"$1"`, b.casemate, filepath.Join(to, "id")))
	forkPeer := in(b.plain("sh", "-c", `cp -a --reflink=auto "${XDG_STATE_HOME:-$HOME/.local/state}"/casemate/sandboxes/*/layer/upper "$0"`, filepath.Join(to, "layer")))
	unfork := in(b.plain("sh", "-c", `"$0" rm $(cat "$1"); rm -rf "$2"`, b.casemate, filepath.Join(to, "id"), filepath.Join(to, "layer")))
	times := map[string][]float64{}
	n := max(3, b.rounds/10)
	for i := range n + 1 {
		for _, step := range []struct {
			name string
			w    way
		}{{"", edit}, {"diff", diff}, {"peer diff", peerDiff}, {"fork peer", forkPeer}, {"fork", fork}, {"", unfork}, {"apply", apply}, {"copy", peerCopy}, {"undo", undo}, {"", clear}} {
			u, err := step.w.once()
			if err != nil {
				return nil, err
			}
			if i > 0 {
				times[step.name] = append(times[step.name], u.wall.Seconds())
			}
		}
	}
	rows := []row{
		compare("diff of 10,000 files / git diff --no-index", times["diff"], times["peer diff"], 1.0, 0),
		compare("apply of 10,000 / cp -a", times["apply"], times["copy"], 0, 0),
		compare("undo of 10,000 / cp -a", times["undo"], times["copy"], 0, 0),
		compare("fork of 10,000 / cp -a --reflink=auto", times["fork"], times["fork peer"], 0, 0),
	}
	rows[1].Note = "apply and undo keep what they replace, make everything durable before they replace it, and take it out of the layer; cp does none of this."
	rows[3].Note = "fork waits until the copy is on the disk, and notes when each entry was made; cp does neither."
	return rows, nil
}
