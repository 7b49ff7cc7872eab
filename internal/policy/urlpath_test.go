package policy

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatchPath(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/", "/", true},
		{"/", "", false},
		{"/", "/a", false},
		{"/v1", "/v1", true},
		{"/v1", "/v1/", false},
		{"/v1", "/V1", false},
		{"/v1/*", "/v1", false},
		{"/v1/*", "/v1/", true},
		{"/v1/*", "/v1/a", true},
		{"/v1/*", "/v1/a/b/", true},
		{"/v1/*", "/v1a/b", false},
		{"/v1/*", "/x/v1/a", false},
		{"/*", "/", true},
		{"/*", "/a/b", true},
		{"/*", "*", false},
		{"/repos/*/issues", "/repos/a/issues", true},
		{"/repos/*/issues", "/repos//issues", false},
		{"/repos/*/issues", "/repos/a/b/issues", false},
		{"/repos/*/issues/*", "/repos/a/issues/1/comments", true},
		{"/*.tgz", "/a.tgz", true},
		{"/*.tgz", "/.tgz", false},
		{"/*.tgz", "/a/b.tgz", false},
		{"/a*b*c", "/axbyc", true},
		{"/a*b*c", "/abbc", false},
		{"/a*b*c", "/axbybzc", true},
		{"/a*", "/a", false},
		{"/a*", "/ab", true},
		{"/a*", "/ab/c", false},
	} {
		if got := MatchPath(c.pattern, c.path); got != c.want {
			t.Errorf("%q covers %q: %v", c.pattern, c.path, got)
		}
	}
}

// FuzzMatchPath compares it with a regular expression of the same meaning.
func FuzzMatchPath(f *testing.F) {
	for _, seed := range [][2]string{{"/v1/*", "/v1/a/b"}, {"/*/a*b*c/x", "/q/a1b2c/x"}, {"/*", "/"}, {"*", "a"}, {"/a**", "/abc"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 200 || strings.Count(pattern, "*") > 10 {
			return
		}
		begin, below := pattern, false
		if rest, ok := strings.CutSuffix(pattern, "/*"); ok {
			begin, below = rest+"/", true
		}
		expression := strings.ReplaceAll(regexp.QuoteMeta(begin), `\*`, `[^/]+`)
		if below {
			expression += `(?s:.*)`
		}
		want, err := regexp.MatchString(`\A(?:`+expression+`)\z`, path)
		if err != nil {
			return // bytes that are no text
		}
		if got := MatchPath(pattern, path); got != want && asText(pattern) && asText(path) {
			t.Errorf("%q covers %q: %v", pattern, path, got)
		}
	})
}

func asText(s string) bool { return strings.ToValidUTF8(s, "") == s }
