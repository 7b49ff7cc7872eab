package login

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var errUnneeded = errors.New("somebody else has renewed it")

const (
	asks      = 30 * time.Second // for an answer of the vendor's
	maxAnswer = 1 << 20
)

// Client sends what has to be sent, verified, and follows nothing: a refresh token goes to the one address that is written down here.
func Client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true},
		Timeout:       asks,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Renew has the vendor give another login for this one, where it ends soon, and writes it into the file. It is to run in a process that nobody kills because a
// sandbox has ended: between the vendor's answer and the file, the only refresh token that is good is in its memory.
//
// The agent itself renews too, on the host. Both hold the agent's own locks meanwhile, where it has any, read the file anew under them, and write only over the login
// that they had sent: another one that is there by then is newer, and stays.
func (f File) Renew(ctx context.Context, c *http.Client, now func() time.Time) error {
	unneeded := func() bool {
		t, err := f.read()
		return err == nil && !t.due(now())
	}
	u, held, err := f.lock(ctx, unneeded)
	if errors.Is(err, errUnneeded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer u.unlock()
	if err := f.finish(); err != nil {
		return fmt.Errorf("the login that was begun to be written: %w", err)
	}
	contents, err := f.contents()
	defer clear(contents)
	if err != nil {
		return err
	}
	t, err := f.parse(contents)
	if err != nil || !t.due(now()) {
		return err
	}
	if t.refresh == "" {
		return problem(f.Again, "the login of %s has ended, and has nothing by which it could be renewed", f.Agent)
	}
	d, err := f.newDraft(t.refresh, len(contents))
	if err != nil {
		return fmt.Errorf("the login of %s is not renewed, because the new one could not be written: %w", f.Agent, err)
	}
	if slices.ContainsFunc(held, func(m made) bool { return !m.ours() }) {
		d.drop()
		return busy(held[0].path)
	}
	a, err := f.ask(ctx, c, contents)
	if err != nil {
		d.drop()
		return err
	}
	if err := f.save(d, t.refresh, contents, a, now()); err != nil {
		return problem(f.Again, "the new login of %s could not be written: %w", f.Agent, err)
	}
	return nil
}

// ask sends the refresh token. Whatever goes wrong, what was sent and answered is not shown: of an error, its code alone.
func (f File) ask(ctx context.Context, c *http.Client, contents []byte) (a answer, err error) {
	body, err := json.Marshal(f.form.request(contents, f.client))
	defer clear(body)
	if err != nil {
		return a, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.endpoint, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	host := req.URL.Host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "casemate")
	res, err := c.Do(req)
	if err != nil {
		return a, problem("is this machine online? casemate must reach "+host, "the login of %s has ended, and %s cannot be asked for another: %w", f.Agent, host, reason(err))
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	defer clear(b)
	code := codeOf(b)
	switch {
	case res.StatusCode == http.StatusOK && err == nil && json.Unmarshal(b, &a) == nil && a.Access != "":
		a.Seconds = lasting(a.Seconds)
		return a, nil
	case res.StatusCode == http.StatusOK:
		return a, problem("try again; otherwise "+f.Again, "%s answers what is no login", host)
	case res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusUnauthorized && (res.StatusCode != http.StatusForbidden || code == ""): // RFC 6749, 5.2
		return a, problem("try again later", "the login of %s has ended, and %s answers %d%s", f.Agent, host, res.StatusCode, code)
	}
	return a, &Refused{problem("log in again: "+f.Again, "the login of %s has ended, and %s refuses another (%d%s)", f.Agent, host, res.StatusCode, code)}
}

// lasting is how long a login is taken to be good. Nothing may be wrong with an answer that says it oddly, or not at all: the old refresh token is used up.
func lasting(seconds int64) int64 {
	const unsaid, most = 600, 10 * 365 * 86400
	if seconds <= 0 {
		return unsaid
	}
	return min(seconds, most)
}

// Refused says that the vendor wants the person to log in again.
type Refused struct{ Err error }

func (r *Refused) Error() string { return r.Err.Error() }
func (r *Refused) Unwrap() error { return r.Err }

// reason is why there was no answer. The sandbox reads it, so it is nothing that may quote an address with a password in it, as errors about a proxy do.
func reason(err error) error {
	var dial *net.OpError
	var untrusted *tls.CertificateVerificationError
	var late net.Error
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return dial.Err
	case errors.As(err, &untrusted):
		return untrusted.Err
	case errors.As(err, &late) && late.Timeout():
		return errors.New("no answer in time")
	}
	return errors.New("the connection failed (is HTTPS_PROXY right, if it is set?)")
}

// codeOf is the code of an error, as RFC 6749, 5.2 has it or as {"error":{"type":...}}. Its description may quote what was sent.
func codeOf(b []byte) string {
	var e struct{ Error json.RawMessage }
	var inner struct{ Type, Code string }
	var code string
	if json.Unmarshal(b, &e) != nil {
		return ""
	}
	if json.Unmarshal(e.Error, &code) != nil && json.Unmarshal(e.Error, &inner) == nil {
		if code = inner.Code; code == "" {
			code = inner.Type
		}
	}
	if code == "" || len(code) > 40 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return ", " + code
}

// save writes the new login over the one that was sent, and over no other: one that came meanwhile is newer, and who has logged out stays so. A file that cannot be
// read is written as it was before: nothing counts as much as the new refresh token.
func (f File) save(d *draft, sent string, before []byte, a answer, now time.Time) error {
	if f.locks {
		lock, err := makeLock(context.Background(), filepath.Join(filepath.Dir(f.Path), writeLock), writeStale, time.Now().Add(writeStale+time.Second), func() bool { return false })
		if err == nil { // whoever holds it for longer than it holds is not waited for
			defer lock.remove()
		}
	}
	contents, same, err := f.settled(sent)
	defer clear(contents)
	switch {
	case errors.Is(err, errNone):
		d.drop()
		return err
	case err != nil:
		contents = before
	case !same:
		d.drop()
		return nil
	}
	out, err := f.form.renewed(contents, a, now)
	defer clear(out)
	if err != nil {
		d.drop()
		return err
	}
	return d.become(f, out)
}

// settled reads the file, and says whether it has the login that was sent. An agent that writes in place may be in the middle of it.
func (f File) settled(sent string) (contents []byte, same bool, err error) {
	for range 20 {
		clear(contents)
		if contents, err = f.contents(); err == nil {
			same, err = f.form.has(contents, sent)
		}
		if err == nil || errors.Is(err, errNone) {
			break
		}
		time.Sleep(pause)
	}
	return contents, same, err
}
