package cli

import (
	"testing"
	"time"

	"casemate.dev/internal/session"
)

// TestQuestionsOfTwoRuns: what was answered in one run of a sandbox hides no question of the next, which counts from one again.
func TestQuestionsOfTwoRuns(t *testing.T) {
	first := session.Question{Sandbox: "k7", ID: 1, Target: "a.example.com:443", Until: time.Now()}
	second := first
	second.Until = second.Until.Add(time.Minute)
	if number(first) == number(second) {
		t.Errorf("both are %q", number(first))
	}
}
