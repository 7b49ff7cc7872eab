// Package commits re-creates on the host the commits that were made in a sandbox.
//
// Nothing of the sandbox's repository is used but its objects and the one hash that HEAD names. The objects go through two repositories of our own:
// the first holds the files as they are; what git packs from it goes into the second, which names every object by what it holds and checks it
// (git index-pack --strict). So an object that is not what its name says, or that is missing, ends the transfer, and no config, hook, attribute,
// replacement, graft or list of other object directories of the sandbox's is ever where git looks.
package commits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"casemate.dev/internal/workspace"
)

// Options says where commits come from and where they go.
type Options struct {
	Layer   *workspace.Layer  // holds the repository's changes
	Judge   *workspace.Layer  // answers for paths of the project; usually the same
	GitDir  string            // of the repository, relative to what Layer lies over
	Common  string            // its common directory, likewise
	Project string            // the working tree on the host
	Objects string            // the host's object directory
	Shallow string            // the host's list of shallow commits, if it has one
	Scratch string            // a directory of the person's, for the time of the transfer
	Environ []string          // the person's
	User    *User             // whose the project is, if that is not the person; nil otherwise
	Known   map[string]string // commits re-created before, by what they were inside
}

// User is an owner of a project for whom root works.
type User struct{ UID, GID uint32 }

// Transfer is the commits of a sandbox, checked and ready to be re-created. Close it.
type Transfer struct {
	Inside  workspace.GitHead
	Commits []Commit           // new ones, parents first; not those that were re-created before
	Changes []workspace.Change // what they make of each path, judged

	o       Options
	dir     string            // of the quarantine
	raw     git               // in the repository that holds the sandbox's files as they are
	checked git               // in the one whose objects are what their names say
	host    git               // in the project
	tips    []byte            // what the host has, as lines for --stdin
	head    string            // what is checked out on the host; empty if nothing is
	done    map[string]string // of Known, what the host still has
	base    string            // see along
	along   map[string]bool   // paths of Changes that no new commit makes
}

// Commit is one commit as it was made inside.
type Commit struct {
	Hash    string   `json:"hash"` // inside
	Tree    string   `json:"-"`
	Parents []string `json:"-"`
	Author  string   `json:"author"` // name <e-mail>
	Subject string   `json:"subject"`

	name, email, date string
	encoding          string
	message           []byte
}

// ErrNone says that nothing was committed inside that the host does not have.
var ErrNone = errors.New("no new commits")

// Bounds of a transfer.
const (
	maxCommits = 10_000
	maxMessage = 1 << 20
	maxEntries = 1 << 20
)

// Open takes the commits out of the layer and checks them. Nothing of the host's repository changes. It works beside a running sandbox: what a
// ref names was complete before the ref named it.
func Open(ctx context.Context, o Options) (_ *Transfer, err error) {
	t := &Transfer{o: o}
	if t.host, err = hostGit(o); err != nil {
		return nil, err
	}
	if t.Inside, err = o.Layer.GitHead(o.GitDir, o.Common); err != nil {
		return nil, err
	}
	if t.Inside.Commit == "" {
		return nil, ErrNone
	}
	if err := t.hostTips(ctx); err != nil {
		return nil, err
	}
	if err := t.recall(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	if err := t.quarantine(ctx); err != nil {
		return nil, err
	}
	if err := t.read(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// Close removes the quarantine.
func (t *Transfer) Close() error {
	if t.dir == "" {
		return nil
	}
	return os.RemoveAll(t.dir)
}

// hostTips lists what the host has: commits that can be reached from there are the host's own.
func (t *Transfer) hostTips(ctx context.Context) error {
	refs, err := t.host.run(ctx, nil, "for-each-ref", "--format=^%(objectname)")
	if err != nil {
		return err
	}
	t.tips = refs
	if head, err := t.host.run(ctx, nil, "rev-parse", "--verify", "--quiet", "HEAD"); err == nil {
		t.tips, t.head = append(append(t.tips, '^'), head...), strings.TrimSpace(string(head))
	}
	return nil
}

// recall finds which of the commits that were re-created before the host still has: its garbage collection may have removed them with a branch.
func (t *Transfer) recall(ctx context.Context) error {
	var ask bytes.Buffer
	for _, again := range t.o.Known {
		ask.WriteString(again + "\n")
	}
	answers, err := t.host.run(ctx, ask.Bytes(), "cat-file", "--batch-check=%(objectname) %(objecttype)")
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for line := range strings.Lines(string(answers)) {
		if hash, kind, _ := strings.Cut(strings.TrimSpace(line), " "); kind == "commit" {
			there[hash] = true
		}
	}
	t.done = map[string]string{}
	for inside, again := range t.o.Known {
		if there[again] {
			t.done[inside] = again
		}
	}
	return nil
}

// since is the input of git rev-list --stdin and git pack-objects --revs for what leads to the commit and the host does not have.
func (t *Transfer) since(commit string) []byte {
	return append([]byte(commit+"\n"), t.tips...)
}

// missing explains why objects cannot be followed.
func missing(err error) error {
	return fmt.Errorf("the commits inside are not complete, or not what their names say (git fsck inside tells more): %w", err)
}

func (o Options) objects() string { return filepath.Join(o.Common, "objects") }
