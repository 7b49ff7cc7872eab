package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// pattern reads a gitignore pattern for paths of the project.
func pattern(text string) (string, error) {
	if strings.ContainsFunc(text, isDeceptive) {
		return "", bad("match it with ?", "%s holds a character that cannot be seen", quoted(text))
	}
	if _, err := compilePattern(text); err != nil {
		hint := ""
		if rest, ok := strings.CutPrefix(strings.TrimPrefix(text, "!"), "./"); ok {
			hint = fmt.Sprintf("a leading / means the top of the project: write %q", "/"+rest)
		}
		return "", bad(hint, "%v", err)
	}
	return text, onlyHere(text)
}

// onlyHere refuses the patterns that look like paths of the host: they would match nothing in the project and hide nothing, silently.
func onlyHere(text string) error {
	body := strings.TrimPrefix(text, "!")
	for _, p := range []string{"/home/", "/root/", "/Users/", "~/"} {
		if strings.HasPrefix(body, p) {
			return bad("write it as seen from the top of the project; what lies outside is hidden anyway", "%s is a path of the host, and patterns are about the project", quoted(text))
		}
	}
	return nil
}

// protectPattern reads a pattern that only adds.
func protectPattern(text string) (string, error) {
	if strings.HasPrefix(text, "!") {
		return "", bad(`a file whose name begins with ! is written "\!name"`, "%s takes out of the list, and protect only adds", quoted(text))
	}
	return pattern(text)
}

// projectPath reads a path of the project, not a pattern, and returns it clean.
func projectPath(whole string) func(string) (string, error) {
	return func(text string) (string, error) {
		if err := plainText(text); err != nil {
			return "", err
		}
		switch {
		case path.IsAbs(text) || text == "~" || strings.HasPrefix(text, "~/"):
			return "", bad("write it as seen from the top of the project", "%s is not in the project", quoted(text))
		case slices.Contains(strings.Split(text, "/"), ".."):
			return "", bad("write it as seen from the top of the project", "%s has a .. component", quoted(text))
		case strings.ContainsAny(text, "*?"):
			return "", bad("name the directory instead", "%s is a pattern, and a path is wanted", quoted(text))
		case path.Clean(text) == ".":
			return "", bad("write files: {workspace: "+whole+"}", "%s is the whole project", quoted(text))
		}
		return path.Clean(text), nil
	}
}

// hostPath reads a path of the host that may be read, and returns it clean. What no level ever shows is refused here where the path says so;
// where links or the home directory lead is for the plan to see.
func hostPath(text string) (string, error) {
	if err := plainText(text); err != nil {
		return "", err
	}
	home := strings.HasPrefix(text, "~/")
	clean := path.Clean(text)
	switch {
	case clean == "~" || clean == "/":
		return "", bad("name the directories that are needed", "%s holds credentials and other projects, which stay out of reach at every level", quoted(text))
	case !home && !path.IsAbs(text):
		return "", bad("write an absolute path or one that begins with ~/; the project itself is seen anyway", "%s is not a path of the host", quoted(text))
	case slices.Contains(strings.Split(text, "/"), ".."):
		return "", bad("write the path it leads to", "%s has a .. component", quoted(text))
	case strings.ContainsAny(text, "*?"):
		return "", bad("name the directory instead", "%s is a pattern, and a path is wanted", quoted(text))
	case isKernels(clean):
		return "", bad("", "%s holds the host's processes, devices or sockets, which stay out of reach at every level", quoted(text))
	}
	return clean, nil
}

// isKernels is true for the directories of the running system. /run/media holds people's disks.
func isKernels(clean string) bool {
	for _, d := range []string{"/proc", "/sys", "/dev", "/run", "/var/run"} {
		if clean == d || strings.HasPrefix(clean, d+"/") {
			return !strings.HasPrefix(clean, "/run/media/")
		}
	}
	return false
}
