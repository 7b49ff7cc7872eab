package stores

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"casemate.dev/internal/secret"
	"casemate.dev/internal/secret/book"
)

// vault is one field of a secret in Vault or OpenBao, whose KV version 2 has the same HTTP API:
// https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2 and https://openbao.org/api-docs/secret/kv/kv-v2/.
// The token is found where their own programs have it: VAULT_TOKEN or BAO_TOKEN, then ~/.vault-token. It is sent to the address of the entry, and no redirect
// is followed with it.
type vault struct {
	at     *url.URL // of the data
	field  string
	space  string // namespace
	token  func() (string, error)
	client *http.Client
}

const (
	vaultTime = 20 * time.Second
	maxAnswer = 1 << 20
)

func newVault(s book.Source, getenv func(string) string) (*vault, error) {
	at, err := CheckVault(s)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	for _, name := range []string{"VAULT_CACERT", "BAO_CACERT"} {
		file := getenv(name)
		if file == "" {
			continue
		}
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %q holds no certificate", name, file)
		}
	}
	return &vault{
		at: at.JoinPath("v1", s.Mount, "data", s.Path), field: s.Field, space: s.Namespace,
		token: func() (string, error) { return vaultToken(getenv) },
		client: &http.Client{Transport: transport, Timeout: vaultTime, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}, nil
}

// CheckVault says whether a source names a field of a server that a token may be sent to.
func CheckVault(s book.Source) (*url.URL, error) {
	at, err := url.Parse(s.Address)
	if err != nil || at.Host == "" || at.User != nil || at.RawQuery != "" || at.Fragment != "" {
		return nil, problem("write https://HOST:PORT", "the address %q is no server's", s.Address)
	}
	if at.Scheme != "https" && !(at.Scheme == "http" && isLoopback(at.Hostname())) {
		return nil, problem("write https://", "the address %q would send the token unencrypted", s.Address)
	}
	for _, p := range []string{s.Mount, s.Path} {
		if p == "" || strings.HasPrefix(p, "/") || strings.Contains("/"+p+"/", "/../") || strings.ContainsAny(p, "?#%\\") {
			return nil, problem("write MOUNT/PATH, such as secret/anthropic", "%q is no path of a secret", s.Mount+"/"+s.Path)
		}
	}
	if s.Field == "" {
		return nil, problem("--field value", "the field is not named")
	}
	at.Path = "/" + strings.Trim(at.Path, "/")
	return at, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func vaultToken(getenv func(string) string) (string, error) {
	for _, name := range []string{"VAULT_TOKEN", "BAO_TOKEN"} {
		if t := getenv(name); t != "" {
			return t, nil
		}
	}
	b, err := os.ReadFile(filepath.Join(getenv("HOME"), ".vault-token"))
	defer clear(b)
	if t := strings.TrimSpace(string(b)); err == nil && t != "" {
		return t, nil
	}
	return "", problem("log in (vault login, bao login), or set VAULT_TOKEN", "there is no token for the server")
}

// Get reads the newest version.
func (s *vault) Get(ctx context.Context) (v secret.Value, until time.Time, err error) {
	fields, _, err := s.read(ctx)
	if err != nil {
		return v, until, err
	}
	var text string
	if raw, ok := fields[s.field]; !ok || json.Unmarshal(raw, &text) != nil || text == "" {
		return v, until, problem("casemate secret set takes another --field", "%s has no text in a field %q", s.at.Path, s.field)
	}
	v, err = secret.New([]byte(text))
	return v, until, err
}

// Put writes the field and leaves the others: it reads them first, and the server refuses the write if somebody else wrote in between (cas).
func (s *vault) Put(ctx context.Context, v secret.Value) error {
	fields, version, err := s.read(ctx)
	if err != nil && !errors.Is(err, errNoSecret) {
		return err
	}
	if fields == nil {
		fields = map[string]json.RawMessage{}
	}
	if err := v.Use(func(b []byte) (err error) { fields[s.field], err = json.Marshal(string(b)); return err }); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"data": fields, "options": map[string]int{"cas": version}})
	if err != nil {
		return err
	}
	defer clear(body)
	return s.do(ctx, http.MethodPost, body, nil)
}

// Remove is not for us: the other fields of the secret, and its other readers, are not ours. It only leaves the list.
func (s *vault) Remove(context.Context) error { return nil }

var errNoSecret = errors.New("there is no secret")

func (s *vault) read(ctx context.Context) (fields map[string]json.RawMessage, version int, err error) {
	var answer struct {
		Data struct {
			Data     map[string]json.RawMessage `json:"data"`
			Metadata struct {
				Version int `json:"version"`
			} `json:"metadata"`
		} `json:"data"`
	}
	if err := s.do(ctx, http.MethodGet, nil, &answer); err != nil {
		return nil, answer.Data.Metadata.Version, err
	}
	return answer.Data.Data, answer.Data.Metadata.Version, nil
}

// do sends one request. What the server says about an error is shown; what it says about a secret never is.
func (s *vault) do(ctx context.Context, method string, body []byte, into any) error {
	token, err := s.token()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.at.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	if s.space != "" {
		req.Header.Set("X-Vault-Namespace", s.space)
	}
	res, err := s.client.Do(req)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) {
			return problem("is it running, and is the address right?", "the server %s cannot be reached: %v", s.at.Host, dial.Err)
		}
		return fmt.Errorf("the server %s: %w", s.at.Host, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	defer clear(b)
	if err != nil || len(b) > maxAnswer {
		return fmt.Errorf("the server %s: its answer is longer than %d bytes, or was cut", s.at.Host, maxAnswer)
	}
	if into != nil {
		err = json.Unmarshal(b, into) // a deleted version answers 404, and says which it was
	}
	switch {
	case res.StatusCode/100 == 2 && err != nil:
		return fmt.Errorf("the server %s: its answer to %s is none of KV version 2", s.at.Host, s.at.Path)
	case res.StatusCode/100 == 2:
		return nil
	case res.StatusCode == http.StatusNotFound:
		return &secret.Problem{Err: fmt.Errorf("%w at %s of %s", errNoSecret, s.at.Path, s.at.Host), Help: "vault kv list shows what there is; the engine must be KV version 2"}
	case res.StatusCode == http.StatusForbidden:
		return problem("log in again (vault login, bao login): the token is old, or its policy does not allow it", "the server %s refuses %s%s", s.at.Host, s.at.Path, said(b))
	case res.StatusCode == http.StatusServiceUnavailable:
		return problem("vault status", "the server %s is sealed or not ready%s", s.at.Host, said(b))
	}
	return fmt.Errorf("the server %s answers %s%s", s.at.Host, res.Status, said(b))
}

// said are the server's errors, as its API has them.
func said(b []byte) string {
	var e struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(b, &e) != nil || len(e.Errors) == 0 {
		return ""
	}
	text := strings.Join(e.Errors, "; ")
	return ": " + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text[:min(len(text), 300)])
}
