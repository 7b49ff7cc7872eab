package event

import (
	"encoding/json"
	"testing"
	"time"
)

func FuzzLine(f *testing.F) {
	f.Add("/bin/true", "status 0")
	f.Add("a\"b\\c\n\x00\x1f\x7f", "\xff\u2028<&>\U0001f600")
	f.Fuzz(func(t *testing.T, subject, detail string) {
		e := Event{Time: time.Now().UTC(), Sandbox: "abcdefgh", Kind: Started, Subject: subject, Detail: detail}
		line := e.Line(nil)
		if line[len(line)-1] != '\n' {
			t.Error("no end of line")
		}
		for _, c := range line[:len(line)-1] {
			if c < 0x20 {
				t.Errorf("a control byte in %q", line)
			}
		}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var got, expected Event
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if err := json.Unmarshal(want, &expected); err != nil {
			t.Fatal(err)
		}
		if got != expected {
			t.Errorf("%s is not %s", line, want)
		}
	})
}
