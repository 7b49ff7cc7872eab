package session

import (
	"strings"
	"testing"

	"casemate.dev/internal/plan"
	"casemate.dev/internal/secret/ask"
)

// TestPlaceholdersOfParts: an AWS credential has a placeholder for each part, in its shape; what is none is refused for the place that signs, and it for others.
func TestPlaceholdersOfParts(t *testing.T) {
	signs, plainly := plan.Secret{Name: "aws", Env: "AWS_ACCESS_KEY_ID", Place: "sigv4"}, plan.Secret{Name: "aws", Env: "KEY"}
	const upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	shape := ask.Shape{Prefix: "AKIA", Length: 61, Alphabet: upper, Parts: []ask.Shape{{Prefix: "AKIA", Length: 20, Alphabet: upper}, {Length: 40, Alphabet: "abc"}}}
	list, err := placeholders(signs, shape)
	if err != nil || len(list) != 2 || len(list[0]) != 20 || !strings.HasPrefix(list[0], "AKIA") || len(list[1]) != 40 || strings.Trim(list[1], "abc") != "" {
		t.Errorf("%q, %v", list, err)
	}
	if list, err := placeholders(signs, plainShape(signs)); err != nil || len(list) != 2 {
		t.Errorf("without a gate: %q, %v", list, err)
	}
	if list, err := placeholders(plainly, plainShape(plainly)); err != nil || len(list) != 1 {
		t.Errorf("without a gate: %q, %v", list, err)
	}
	if _, err := placeholders(plainly, shape); err == nil || !strings.Contains(err.(*Refusal).Remedy, "place: sigv4") {
		t.Errorf("as a plain one: %v", err)
	}
	if _, err := placeholders(signs, shape.Parts[0]); err == nil || !strings.Contains(err.(*Refusal).Remedy, "--kind aws") {
		t.Errorf("a plain one: %v", err)
	}
	shape.Parts[1].Length = 5
	if _, err := placeholders(signs, shape); err == nil {
		t.Error("a short part has a placeholder")
	}
}
