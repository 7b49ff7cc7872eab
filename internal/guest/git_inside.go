package guest

import "strconv"

// gitEnvironment are settings that win over the repository's own config, which only the environment does (git-config(1), "ENVIRONMENT"): no key
// is inside, so a project that asks for signatures would let nobody commit. Signatures are made outside, by casemate apply --commit.
// What the policy sets under these names replaces them.
func gitEnvironment() []Variable {
	unsigned := []string{"commit.gpgSign", "tag.gpgSign", "tag.forceSignAnnotated", "push.gpgSign"}
	out := []Variable{{"GIT_CONFIG_COUNT", strconv.Itoa(len(unsigned)), "how many settings follow"}}
	for i, key := range unsigned {
		n := strconv.Itoa(i)
		out = append(out, Variable{"GIT_CONFIG_KEY_" + n, key, "no signing key is inside"}, Variable{"GIT_CONFIG_VALUE_" + n, "false", "no signing key is inside"})
	}
	return out
}

// pushHelper is where git finds the program that answers pushes: it is called after the protocol, git-remote-casemate (gitremote-helpers(7)).
const pushHelper = "casemate"

// pushDenied answers a push at once, where the network would answer after its timeouts, if at all. A helper of its own says just this, while
// git-remote-ext would add advice about access rights, and would have to be allowed.
const pushDenied = `#!/bin/sh
echo "casemate: commits are kept; review, then: casemate apply --commit && git push" >&2
echo "casemate: (outside of the sandbox, where they come onto a branch to be merged first: no network and no credentials are inside)" >&2
exit 1
`

// deniedPushes are the beginnings of addresses that lead over the network. Those of local repositories do not, and stay. Not covered: a remote
// with a pushurl of its own, and scp-like addresses of users other than git; there git fails with its own words.
func deniedPushes() []string {
	return []string{"https://", "http://", "ssh://", "git://", "git+ssh://", "ssh+git://", "ftp://", "ftps://", "git@"}
}

// denyPushes writes a section for each, so that `git remote -v` still shows the whole address.
func (r *gitReader) denyPushes(put func(gitEntry)) {
	for _, prefix := range deniedPushes() {
		put(gitEntry{"url", "casemate::" + prefix, "pushInsteadOf", prefix})
	}
}
