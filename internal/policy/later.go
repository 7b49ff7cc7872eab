package policy

import (
	"slices"
	"strings"
)

// NotInThisVersion are the things a policy says that would have no effect yet. They are errors, each at its place: a word of a policy is never ignored.
func NotInThisVersion(p *Policy) []error {
	if p.levelOnly {
		return nil
	}
	var errs []error
	for _, k := range table() {
		if k.later == "" {
			continue
		}
		for _, v := range k.said(&p.Settings) {
			if k.laters == nil || slices.Contains(k.laters, v.V) {
				errs = append(errs, bad(k.later, "%s: %s is not in this version", k.path, v.V).at(v.Origin))
			}
		}
	}
	return errs
}

// notYet is the reference's sentence about it.
func (k *key) notYet() string {
	switch {
	case k.later == "":
		return ""
	case k.laters == nil:
		return "Not in this version."
	}
	return "Not in this version: " + strings.Join(k.laters, ", ") + "."
}
