package workspace

// Trails follows symlinks of a project on the host by their names, within a bound of work. Nothing of a sandbox may run in it.
type Trails struct {
	root    *rooted
	project string
	left    int
}

// OpenTrails opens a project for at most so many looks at names in it. Close it.
func OpenTrails(project string, most int) (*Trails, error) {
	root, err := openRooted(project)
	if err != nil {
		return nil, err
	}
	return &Trails{root, project, most}, nil
}

// LeadOut reports whether the symlink at rel leads out of the project. Once the bound is reached, told is false.
func (t *Trails) LeadOut(rel, target string) (out, told bool) {
	_, inside := resolve(rel, target, t.project, func(rel string) (node, error) {
		if t.left--; t.left < 0 {
			return node{}, nil
		}
		return t.root.stat(rel)
	})
	return !inside, t.left >= 0
}

// Close closes the project.
func (t *Trails) Close() { t.root.close() }
