package requests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"casemate.dev/internal/gate/broker"
	"casemate.dev/internal/gate/rules"
	"casemate.dev/internal/gate/wire"
)

const denied = "denied by casemate"

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
	r := wire.Record{Name: s.Name, Port: s.Port, Method: method, Path: path}
	if rule := r.AllowRule(); rule != "" {
		return "network.allow: " + rule
	}
	return fmt.Sprintf("casemate allow %s net:%s", s.Sandbox, s.address())
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
	}{what, s.address(), r.Method, path[:min(len(path), wire.MaxPath)], why, allow})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	if broker.OfGit(r.URL) { // it shows people an answer in plain text, and no other
		w.Header().Set("Content-Type", "text/plain")
		body = []byte(strings.TrimSuffix(fmt.Sprintf("%s: %s\n%s", what, why, allow), "\n"))
	}
	w.Header().Set("Cache-Control", "no-store")
	if status != http.StatusForbidden {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body, '\n')) // whoever asked has gone
	}
}
