package requests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"casemate.dev/internal/gate/rules"
)

const (
	maxShown = 512 // bytes of a path that are said back
	denied   = "denied by casemate"
)

// deny turns a request away, and tells of it.
func (s *Session) deny(w http.ResponseWriter, r *http.Request, path string, status int, d rules.Decision) {
	s.Denied(r.Method, path, d)
	allow := ""
	if status == http.StatusForbidden {
		allow = s.allowing(r.Method, path)
	}
	s.answer(w, r, path, status, denied, d.Why, allow)
}

// allowing is the rule that would allow a request, or the command that opens the host wholly, where no rule can name the path.
func (s *Session) allowing(method, path string) string {
	if path == "" || path[0] != '/' || len(path) > maxShown || strings.ContainsFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/-._~@+", r))
	}) {
		return fmt.Sprintf("casemate allow %s net:%s", s.Sandbox, s.address())
	}
	ports := ""
	if s.Port != 443 {
		ports = fmt.Sprintf(", ports: [%d]", s.Port)
	}
	return fmt.Sprintf("network.allow: {host: %q%s, methods: [%s], paths: [%q]}", s.Name, ports, method, path)
}

// answer is the gate's own.
func (s *Session) answer(w http.ResponseWriter, r *http.Request, path string, status int, what, why, allow string) {
	body, err := json.Marshal(struct {
		Error  string `json:"error"`
		Host   string `json:"host"`
		Method string `json:"method"`
		Path   string `json:"path"`
		Why    string `json:"why"`
		Allow  string `json:"allow,omitempty"`
	}{what, s.address(), r.Method, path[:min(len(path), maxShown)], why, allow})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if status != http.StatusForbidden {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body, '\n')) // whoever asked has gone
	}
}
