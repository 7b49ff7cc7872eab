package workspace

// ChangeKind is what happened to a path.
type ChangeKind string

const (
	Added       ChangeKind = "added"
	Modified    ChangeKind = "modified"
	Deleted     ChangeKind = "deleted"
	ModeChanged ChangeKind = "mode" // the permission bits only
	TypeChanged ChangeKind = "type" // say, a directory replaced by a file
)

// Class says what a change needs before it may reach the host: the last of these that is true of it. The fields say all that is.
type Class string

const (
	ClassChanged   Class = "changed"   // what git would show
	ClassBuilt     Class = "built"     // what the project's gitignore covers
	ClassProtected Class = "protected" // what the host would execute without being asked
	ClassConflict  Class = "conflict"  // the host's entry is not what the sandbox saw
	ClassRefused   Class = "refused"   // it stays inside, whatever is asked
)

// Change is one difference between a layer and the project.
type Change struct {
	Path  string     `json:"path"`                 // relative to the project; "" is the project itself
	Raw   []byte     `json:"path_bytes,omitempty"` // the path, where it is not UTF-8 and JSON cannot hold it
	Kind  ChangeKind `json:"kind"`
	Class Class      `json:"class"`
	Old   State      `json:"old"` // on the host, now
	New   State      `json:"new"` // in the layer

	Built     bool     `json:"built,omitempty"`
	Protected string   `json:"protected,omitempty"` // what would execute it
	Conflict  string   `json:"conflict,omitempty"`  // what the host did
	Merged    string   `json:"merged,omitempty"`    // what the host did, where both sides' changes fit together: Apply brings both
	Refused   string   `json:"refused,omitempty"`   // why it cannot cross
	ByName    string   `json:"by_name,omitempty"`   // why it crosses only when its own path is given
	Marks     []string `json:"marks,omitempty"`     // what a build or a test run would execute
	Notes     []string `json:"notes,omitempty"`     // what does not cross with it

	// Digest stands for what a person was shown of a protected change; consent is given to it (Apply).
	Digest string `json:"digest,omitempty"`

	// Where a whole directory is one entry (built files, git's own): how many files and bytes of it changed.
	Count int   `json:"count,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`

	// Lines, where Count filled them in.
	Insertions int  `json:"insertions,omitempty"`
	Deletions  int  `json:"deletions,omitempty"`
	Binary     bool `json:"binary,omitempty"`

	in, host node
	sum      *Change // the directory that stands for it, if one does
	whole    bool    // it stands for a directory
	union    []byte  // what a merge makes of both sides
}

// class derives Class from the reasons.
func (c *Change) classify() {
	switch {
	case c.Refused != "":
		c.Class = ClassRefused
	case c.Conflict != "":
		c.Class = ClassConflict
	case c.Protected != "":
		c.Class = ClassProtected
	case c.Built:
		c.Class = ClassBuilt
	default:
		c.Class = ClassChanged
	}
}

// summarised reports whether c stands for a whole directory.
func (c *Change) summarised() bool { return c.whole }

// directory reports whether c is about a directory only, which git would not show.
func (c *Change) directory() bool {
	return (c.New.Type == Dir || c.New.Type == Absent) && (c.Old.Type == Dir || c.Old.Type == Absent)
}
