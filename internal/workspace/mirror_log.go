package workspace

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// MirrorLog is what a Mirror has written into a layer, by path: what is told from the sandbox's own work by it. It is a file to which one line is
// added before each change to the layer, so it holds after a kill at any point. It lies beside the layer, where nothing inside reaches it.
//
// Provenance is decided by content: an entry is the mirror's if it holds what the mirror wrote last. Times prove nothing, as the sandbox can
// set them. A nil MirrorLog knows of nothing.
type MirrorLog struct {
	path string
	file *os.File // nil until there is something to add
	at   map[string]mirrorRecord
}

// mirrorRecord is what the mirror made of one path.
type mirrorRecord struct {
	Path []byte   `json:"p"`
	Type FileType `json:"t,omitempty"` // Absent: it removed the entry, which left a whiteout
	Mode uint32   `json:"m,omitempty"`
	Size int64    `json:"s,omitempty"`
	Sum  string   `json:"d,omitempty"` // SHA-256 of a file, what a link holds

	Host hostStamp     `json:"h,omitzero"`  // the host's entry that it shows
	Was  *mirrorRecord `json:"w,omitempty"` // what the mirror had made of it before, in case this line's change never came
	Temp string        `json:"n,omitempty"` // the name under which it was prepared
	Open bool          `json:"o,omitempty"` // written in place, and not known to be finished
	Void bool          `json:"v,omitempty"` // the mirror has no part in the path any more
	Base bool          `json:"b,omitempty"` // the layer has the sandbox's own entry, made from this one
}

// hostStamp identifies one state of an entry of the project.
type hostStamp struct {
	Ino          uint64 `json:"i,omitempty"`
	Size         int64  `json:"s,omitempty"`
	Mtime, Ctime int64  `json:",omitempty"`
}

func stampOfHost(n node) hostStamp { return hostStamp{n.ino, n.Size, n.mtime, n.ctime} }

// isHost reports whether the host's entry is still the one that was shown. Its change time changes with the entry's other names, too; but it is
// all that tells of a write whose author set the mtime back, so where it is another, the content counts.
func (r *mirrorRecord) isHost(project *rooted, rel string, n node) bool {
	s := r.Host
	if n.Type == Absent || s.Ino != n.ino || s.Size != n.Size || s.Mtime != n.mtime {
		return false
	}
	if s.Ctime == n.ctime || n.Type != File {
		return true
	}
	sum, err := contentSum(project, rel, n)
	return err == nil && sum == r.Sum
}

// maxMirrorLog bounds what is read of a log: millions of lines.
const maxMirrorLog = 1 << 30

// OpenMirrorLog reads the log at path. One that is not there is empty; a last line that is cut off was never acted on.
func OpenMirrorLog(path string) (*MirrorLog, error) {
	g := &MirrorLog{path: path, at: map[string]mirrorRecord{}}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewReader(io.LimitReader(f, maxMirrorLog))
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return g, nil
		}
		var r mirrorRecord
		if json.Unmarshal(line, &r) == nil {
			g.set(r)
		}
	}
}

func (g *MirrorLog) set(r mirrorRecord) {
	if r.Void {
		delete(g.at, string(r.Path))
		return
	}
	g.at[string(r.Path)] = r
}

// put adds a line, before what it says is done.
func (g *MirrorLog) put(r mirrorRecord) error {
	if g.file == nil {
		f, err := os.OpenFile(g.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		g.file = f
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := addLine(g.file, line); err != nil {
		return err
	}
	g.set(r)
	return nil
}

// intend announces a change to rel, and returns how to take it back.
func (g *MirrorLog) intend(r mirrorRecord) (undo func() error, err error) {
	old, known := g.at[string(r.Path)]
	if known {
		was := old
		was.Was = nil
		r.Was = &was
	}
	return func() error {
		if known {
			return g.put(old)
		}
		return g.put(mirrorRecord{Path: r.Path, Void: true})
	}, g.put(r)
}

// done says that a change is complete: what the mirror had made before would be the sandbox's own by now.
func (g *MirrorLog) done(rel string) error {
	r := g.at[rel]
	r.Open, r.Was = false, nil
	return g.put(r)
}

// Close closes the file.
func (g *MirrorLog) Close() error {
	if g == nil || g.file == nil {
		return nil
	}
	err := g.file.Close()
	g.file = nil
	return err
}

// mine reports whether the layer's entry at rel is the mirror's, unchanged by the sandbox.
func (g *MirrorLog) mine(upper *rooted, rel string, up node) bool {
	if g == nil {
		return false
	}
	r, known := g.at[rel]
	if !known || r.Base {
		return false
	}
	return r.holds(upper, rel, up) || r.Was != nil && r.Was.holds(upper, rel, up)
}

func (r *mirrorRecord) holds(upper *rooted, rel string, up node) bool {
	switch {
	case up.blank:
		return r.Type == Absent
	case up.Type != r.Type:
		return false
	case up.Type == Symlink:
		return up.Link == r.Sum
	case up.Type == File && (up.Size != r.Size || up.Mode != r.Mode):
		return false
	case up.Type == File:
		sum, err := contentSum(upper, rel, up)
		return err == nil && sum == r.Sum
	}
	return up.Type == Dir
}

// made reports whether the mirror made a directory, so that the view shows nothing of the host's in it by itself.
func (g *MirrorLog) made(dir string) bool {
	r := g.at[dir]
	return r.Type == Dir && !r.Base
}

// shown returns the state of the host's entry that the mirror has shown to the sandbox last.
func (g *MirrorLog) shown(rel string) (hostStamp, bool) {
	if g == nil {
		return hostStamp{}, false
	}
	r, known := g.at[rel]
	return r.Host, known && r.Host != hostStamp{}
}

// torn reports whether the entry may be half of what the mirror wrote: it was killed while it wrote in place.
func (g *MirrorLog) torn(rel string) bool { return g != nil && g.at[rel].Open }

// contentSum reads a file of a tree that may be hostile.
func contentSum(tree *rooted, rel string, n node) (string, error) {
	f, err := tree.openFile(rel, n)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, n.Size+1)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func sumBytes(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
