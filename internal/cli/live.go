package cli

import (
	"fmt"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/review"
	"casemate.dev/internal/session"
)

const workspaceHelp = `h - held: nothing changes on your disk until you have looked at it (also Enter)
l - live: changes appear at once, for an editor that is open; casemate undo
    brings everything back that git does not ignore
The answer is kept for this project; casemate run --workspace ask asks again.
`

// askWorkspace asks once for each project. Ctrl-C is no answer.
func askWorkspace(std *IO) (policy.Workspace, bool) {
	a := &review.Asker{In: std.In, Out: std.Err}
	a.Fresh()
	switch a.Key("Is an editor open on this project? [h]eld until I review (default)  [l]ive: changes appear at once, undo any time: ", "hl", workspaceHelp) {
	case 'h':
		return policy.Held, true
	case 'l':
		return policy.Live, true
	}
	return "", false
}

// sayLive says what a live run changed, and how to get rid of it.
func sayLive(std *IO, r *session.Run, res session.Result) {
	files := "files or directories were"
	if res.Live.Paths == 1 {
		files = "file or directory was"
	}
	fmt.Fprintf(std.Err, "casemate: live: %d %s changed (casemate undo %d brings back what was)\n", res.Live.Paths, files, res.Live.Entry)
	if unkept := r.Unkept(); unkept != "" {
		fmt.Fprintf(std.Err, "casemate: %s\n", unkept)
	}
}
