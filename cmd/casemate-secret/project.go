package main

import (
	"fmt"
	"os"
	"path/filepath"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/session"
)

// projectOf is the root of the project that a directory is in, as casemate run finds it there.
func projectOf(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", fmt.Errorf("%q is no directory", dir)
	}
	person, err := session.Self()
	if err != nil {
		return "", err
	}
	person.Dir = dir
	return person.FindProject(), nil
}

// parseHost reads HOST or HOST:PORT as --allow does.
func parseHost(text string) (policy.NetRule, error) {
	rule, err := policy.ParseAllow(text)
	if err != nil {
		return rule, &usage{err, "write a host name, such as api.example.com"}
	}
	return rule, nil
}
