package policy

import (
	"testing"
)

func TestLoginOnTheCommandLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"github.com", "github.com"},
		{"GitHub.com.:22", "github.com"},
		{"git.example:2222", "git.example port 2222"},
		{"git.example:22,2222", "git.example port 22,2222"},
		{"[2001:db8::1]:2222", "2001:db8::1 port 2222"},
		{"github.com=~/.ssh/id_ed25519.pub", `github.com with "~/.ssh/id_ed25519.pub"`},
		{"git.example:2222=me@laptop", `git.example port 2222 with "me@laptop"`},
		{"github.com=SHA256:" + "uNiVztksCsDhcc0u9e8BrqlXVVGaDvm2BeoI3YHGjFE", `github.com with "SHA256:uNiVztksCsDhcc0u9e8BrqlXVVGaDvm2BeoI3YHGjFE"`},
		{"*.example.com", ""},
		{"git@github.com", ""},
		{"github.com=", ""},
		{"github.com=id.pub\n", ""},
		{"github.com:0", ""},
		{"", ""},
	} {
		s, err := Flags{SSH: []string{c.text}}.Source()
		if c.want == "" {
			if err == nil && c.text != "" {
				t.Errorf("%q is taken: %v", c.text, s.Doc.SSH)
			}
			continue
		}
		if err != nil || len(s.Doc.SSH) != 1 || s.Doc.SSH[0].V.String() != c.want {
			t.Errorf("%q: %v, %v", c.text, s, err)
		}
	}
}
