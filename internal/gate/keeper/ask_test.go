package keeper

import (
	"testing"
	"time"

	"casemate.dev/internal/gate/wire"
)

// TestOneQuestion: connections to the same host and port wait for the same answer, and the one that comes after it for another.
func TestOneQuestion(t *testing.T) {
	var s questions
	to := target{"asked.example.com", 443}
	first, isNew, _ := s.join(to, time.Hour, "")
	second, again, _ := s.join(to, time.Hour, "")
	other, otherNew, _ := s.join(target{"asked.example.com", 80}, time.Hour, "")
	if !isNew || again || first == nil || first != second || !otherNew || other == first {
		t.Errorf("%v %v, %v %v, %v %v", first, isNew, second, again, other, otherNew)
	}
	s.answer(wire.Answer{ID: first.id, Yes: true, By: "a test's yes"})
	<-second.over
	if second.answer == nil || !second.answer.Allowed {
		t.Errorf("%+v", second.answer)
	}
	if late, isNew, _ := s.join(to, time.Hour, ""); !isNew || late == first {
		t.Errorf("a yes holds for what comes later: %v", late)
	}
}
