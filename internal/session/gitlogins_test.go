package session

import (
	"slices"
	"testing"

	"casemate.dev/internal/policy"
)

// TestGitLogins: git gets those secrets that the gate takes from it, where it takes them.
func TestGitLogins(t *testing.T) {
	for _, c := range []struct {
		name   string
		secret policy.Secret
		want   []string
	}{
		{"for any field", policy.Secret{Hosts: []string{"api.github.com", "github.com"}, Ports: []int{443}}, []string{"https://api.github.com", "https://github.com"}},
		{"for git, on other ports", policy.Secret{Hosts: []string{"*.shop.example"}, Ports: []int{443, 8443}, Place: "git"}, []string{"https://*.shop.example", "https://*.shop.example:8443"}},
		{"basic", policy.Secret{Hosts: []string{"fd00::1"}, Ports: []int{443}, Place: "basic"}, []string{"https://[fd00::1]"}},
		{"Authorization", policy.Secret{Hosts: []string{"a.example"}, Ports: []int{443}, Place: "header:authorization"}, []string{"https://a.example"}},
		{"another field", policy.Secret{Hosts: []string{"a.example"}, Ports: []int{443}, Place: "header:x-api-key"}, nil},
		{"bearer", policy.Secret{Hosts: []string{"a.example"}, Ports: []int{443}, Place: "bearer"}, nil},
		{"the query", policy.Secret{Hosts: []string{"a.example"}, Ports: []int{443}, Place: "query:key"}, nil},
		{"to read only", policy.Secret{Hosts: []string{"a.example"}, Ports: []int{443}, Methods: []string{"GET"}}, nil},
		{"with git's methods", policy.Secret{Hosts: []string{"a.example"}, Ports: []int{443}, Methods: []string{"POST", "GET"}}, []string{"https://a.example"}},
		{"for paths", policy.Secret{Hosts: []string{"a.example"}, Ports: []int{443}, Paths: []string{"/me/*", "/we/one.git/info/refs", "/we/one.git/git-upload-pack", "/v*/x", "/*"}}, []string{"https://a.example/me", "https://a.example/we/one.git", "https://a.example"}},
	} {
		c.secret.Env = "TOKEN"
		var got []string
		for _, l := range gitLogins([]policy.Value[policy.Secret]{{V: c.secret}}) {
			if got = append(got, l.Address); l.Variable != "TOKEN" {
				t.Errorf("%s: %q", c.name, l.Variable)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, not %q", c.name, got, c.want)
		}
	}
}
