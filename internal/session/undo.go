package session

import (
	"path/filepath"

	"casemate.dev/internal/history"
	"casemate.dev/internal/store"
)

// OpenHistory opens what is kept of the project's files, and says where the project is.
func OpenHistory(p Person) (*history.Log, error) {
	st, err := store.Open(p.StateHome, p.Home)
	if err != nil {
		return nil, err
	}
	project := p.FindProject()
	if err := SettleUnfinished(st, project); err != nil {
		return nil, err
	}
	return history.Open(filepath.Join(st.Project(project), "history"), project)
}
