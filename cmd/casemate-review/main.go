// Command casemate-review is the screen of `casemate review`, which starts it and does what was decided. It is a program of its own so that
// casemate need not carry a terminal library into every sandbox start.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"casemate.dev/internal/review"
	"casemate.dev/internal/screen"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// answers is the descriptor that the decision is written to.
const answers = 3

func main() {
	ended, err := show()
	if err != nil {
		fmt.Fprintln(os.Stderr, "casemate-review:", err)
		os.Exit(125)
	}
	if ended != 0 {
		os.Exit(128 + int(ended))
	}
}

func show() (unix.Signal, error) {
	var st unix.Stat_t
	if len(os.Args) != 2 || unix.Fstat(answers, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0, errors.New("it is run by casemate review")
	}
	unix.CloseOnExec(answers)
	person, err := session.Self()
	if err != nil {
		return 0, err
	}
	r, err := session.OpenReview(person, os.Args[1])
	if err != nil {
		return 0, err
	}
	defer r.Close()
	changes, err := r.Changes(context.Background(), workspace.ChangeOptions{})
	if err != nil {
		return 0, err
	}
	decision, ended, err := screen.Run(r.Layer, changes)
	if err != nil || ended != 0 {
		return ended, err
	}
	return 0, answer(decision)
}

func answer(d review.Decision) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	_, err = os.NewFile(answers, "answers").Write(b)
	return err
}
