package secret

import (
	"strings"
	"testing"
)

const (
	awsID     = "AKIAIOSFODNN7EXAMPLE"
	awsSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	awsToken  = "IQoJb3JpZ2luX2VjEXAMPLE+token/of/some/length=="
)

// TestNormalAWS: what AWS's programs print, and what a person types, is one text; what is none of them is refused without a word of it.
func TestNormalAWS(t *testing.T) {
	two, three := awsID+":"+awsSecret, awsID+":"+awsSecret+":"+awsToken
	json := `"AccessKeyId": "` + awsID + `", "SecretAccessKey": "` + awsSecret + `"`
	for text, want := range map[string]string{
		two: two, three: three, "{\"Version\": 1,\n" + json + "}\n": two, "{" + json + `, "SessionToken":"` + awsToken + `","Expiration":"2030-01-02T03:04:05+00:00"}`: three,
		`{"Credentials": {` + json + `}}`: two,
		awsID:                             "", awsID + ":": "", ":" + awsSecret: "", two + ":": "", two + "::": "", three + ":x": "", "a/b:" + awsSecret: "", awsID + ":" + awsSecret + " x": "", "{}": "", "{" + json: "",
		`{"AccessKeyId":"` + awsID + `"}`: "", `{"AccessKeyId":7,"SecretAccessKey":"` + awsSecret + `"}`: "",
	} {
		v, err := New([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		normal, until, err := Normal(AWS, v)
		if err != nil {
			if want != "" || strings.Contains(err.Error(), awsID) || strings.Contains(err.Error(), awsSecret) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		_ = normal.Use(func(b []byte) error {
			if string(b) != want {
				t.Errorf("%q is %q, want %q", text, b, want)
			}
			return nil
		})
		if until.IsZero() == strings.Contains(text, "2030") {
			t.Errorf("%q ends %v", text, until)
		}
		s, err := ShapeOf(AWS, normal)
		if err != nil || len(s.Parts) != strings.Count(want, ":")+1 || s.Length != len(want) || s.Parts[0].Prefix != "AKIA" || s.Parts[0].Length != 20 || s.Parts[1].Length != 40 {
			t.Errorf("%q has the shape %+v, %v", text, s, err)
		}
	}
	for _, kind := range []string{"", "anthropic"} {
		v, _ := New([]byte("{any text}"))
		same, until, err := Normal(kind, v)
		if err != nil || same.Len() != 10 || !until.IsZero() {
			t.Errorf("of another kind: %v, %v, %v", same.Len(), until, err)
		}
	}
}

// TestShapeOfParts: a placeholder cannot have a character that ends its part, whatever the value has.
func TestShapeOfParts(t *testing.T) {
	v, _ := New([]byte("my_own.id@x:!secret(with)marks!"))
	s, err := ShapeOf(AWS, v)
	if err != nil || strings.ContainsAny(s.Parts[0].Alphabet, ":/,;=&%+") || strings.Contains(s.Parts[1].Alphabet, ":") {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []string{"short:" + awsSecret, awsID + ":short"} {
		v, _ := New([]byte(bad))
		if _, err := ShapeOf(AWS, v); err == nil {
			t.Errorf("%q has a shape", bad)
		}
	}
	for _, bad := range []Shape{
		{Length: 20, Alphabet: "ab", Parts: []Shape{{Length: 9, Alphabet: "ab"}}},
		{Length: 20, Alphabet: "ab", Parts: []Shape{{Length: 9, Alphabet: "ab"}, {Length: 9, Alphabet: ":b"}}},
		{Length: 20, Alphabet: "ab", Parts: []Shape{{Length: 9, Alphabet: "ab"}, {Length: 9, Alphabet: "ab", Parts: []Shape{{}, {}}}}},
		{Length: 20, Alphabet: "ab", Parts: make([]Shape, 4)},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
