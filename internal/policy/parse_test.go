package policy

import (
	"os"
	"testing"
)

func TestParseExample(t *testing.T) {
	data, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Parse("casemate.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", doc.Settings)
}
