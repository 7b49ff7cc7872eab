package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"casemate.dev/internal/preset"
)

// benchKey is what the host wants to see: a credential that opens nothing.
const benchKey = "bench-0123456789abcdefghijklmnopqrstuv"

// keyed are what one run of the client measured, over HTTP/1.1 and over HTTP/2.
type keyed struct {
	Rate [2]float64 // requests a second, of 8 clients on connections that are kept
	Asks [2]float64 // ms, the median of a request without a body, one after the other
	Says [2]float64 // ms, the same with a body of 100 KiB, as an agent's
}

var protocols = [2]string{"HTTP/1.1", "HTTP/2"}

// injectRows measure what it costs to put a credential in.
func (b *bench) injectRows(told *bufio.Reader) ([]row, error) {
	opened, err := b.person("opened", "network: {allow: [{host: "+hostName+", methods: [GET, POST]}]}\n")
	if err != nil {
		return nil, err
	}
	given, err := b.person("given", "network: {allow: [{host: "+hostName+"}]}\nsecrets: {bench: {env: BENCH_KEY, hosts: ["+hostName+"]}}\n")
	if err != nil {
		return nil, err
	}
	if err := b.keep(given, "bench", hostName, benchKey); err != nil {
		return nil, err
	}
	ours, without := b.ours("sh", "-c", `exec ./bench -inside keyed /keyed "$BENCH_KEY"`), b.ours("./bench", "-inside", "keyed", "/", benchKey)
	ours.home, without.home = given, opened
	direct := b.plain("./bench", "-inside", "keyed", "/keyed", benchKey)
	proxy, err := reverseProxy(filepath.Join(b.dir, "proxy.pem"))
	if err != nil {
		return nil, err
	}
	ways := []way{ours, without, direct, b.plain("./bench", "-inside", "keyed", "/keyed", proxyKey, proxy)}
	const again = 5
	var all [4][]keyed
	for i := range again + 1 {
		for k := range ways {
			k = (k + i) % len(ways)
			out, err := ways[k].output()
			if err != nil {
				return nil, err
			}
			var f keyed
			if err := json.Unmarshal(bytes.TrimSpace(out), &f); err != nil {
				return nil, fmt.Errorf("%q: %w", out, err)
			}
			if i > 0 {
				all[k] = append(all[k], f)
			}
		}
	}
	rows := slices.Concat(compareKeyed("Go proxy", all[0], all[3], 0.9), compareKeyed("opened", all[0], all[1], 0), compareKeyed("direct", all[0], all[2], 0))
	rows[0].Note = "A credential put in by the gate, over TLS that it opens; the host answers nobody else. Go proxy: a bare net/http/httputil.ReverseProxy that opens TLS, puts the same field in and looks at nothing, " +
		"without a sandbox. Opened: the same through a gate that decides about each request, and has no secret. Direct: without a sandbox. Of 8: eight clients at once. 100 KiB: a body of so much JSON, as an agent's; p50s are of one request after the other."
	agent, err := b.agentRow(told)
	if err != nil { // the other rows are good
		fmt.Fprintln(os.Stderr, "bench: inject:", err)
	}
	return append(rows, agent...), nil
}

// compareKeyed makes the rows against one peer, of whose requests a second the goal is a part.
func compareKeyed(name string, ours, peer []keyed, goal float64) (rows []row) {
	for i, protocol := range protocols {
		for _, c := range []struct {
			what, format string
			of           func(keyed) float64
			more         bool
		}{
			{"req/s of 8", "%.0f", func(k keyed) float64 { return k.Rate[i] }, true},
			{"p50", "%.2fms", func(k keyed) float64 { return k.Asks[i] }, false},
			{"p50, 100 KiB", "%.2fms", func(k keyed) float64 { return k.Says[i] }, false},
		} {
			var o, p []float64
			for n := range ours {
				o, p = append(o, c.of(ours[n])), append(p, c.of(peer[n]))
			}
			r := ratios(o, p)
			one := row{What: protocol + " " + c.what + " / " + name, Ours: fmt.Sprintf(c.format, median(o)), Peer: fmt.Sprintf(c.format, median(p)), Value: median(r), P90: quantile(r, 0.9), More: c.more, Rounds: len(r)}
			if c.more {
				one.Goal = goal
			}
			rows = append(rows, one)
			if !c.more {
				added := median(o) - median(p)
				rows = append(rows, row{What: "  ms added", Ours: fmt.Sprintf("%.2fms", added), Value: added, Count: true, Rounds: len(r)})
			}
		}
	}
	return rows
}

// proxyKey is what stands for the key at the reverse proxy.
const proxyKey = "bench-placeholder-3456789abcdefghijklm"

// reverseProxy starts the least that puts a credential into requests to the host, and says where it listens.
func reverseProxy(authority string) (address string, err error) {
	certificate, err := certify(authority)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	both := new(http.Protocols)
	both.SetHTTP1(true)
	both.SetHTTP2(true)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", r.In.Host
			if r.In.Header.Get("X-Api-Key") == proxyKey {
				r.Out.Header.Set("X-Api-Key", benchKey)
			}
		},
		Transport: &http.Transport{Protocols: both, MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	server := &http.Server{Handler: proxy, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go server.ServeTLS(l, "", "")
	return l.Addr().String(), nil
}

// person makes a home with a policy of its own.
func (b *bench) person(name, policy string) (home string, err error) {
	home = filepath.Join(b.dir, name)
	return home, errors.Join(write(home, map[string]string{".config/casemate/policy.yaml": policy}), os.Chmod(filepath.Join(home, ".config"), 0o700), os.Chmod(filepath.Join(home, ".config/casemate"), 0o700), b.give(home))
}

// keep puts a value into the store of a home.
func (b *bench) keep(home, name, host, value string) error {
	w := b.plain(filepath.Join(b.dir, "casemate-secret"), "set", name, "--host", host)
	w.home = home
	cmd := w.cmd()
	cmd.Stdin = strings.NewReader(value)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", w.argv, err, out)
	}
	return nil
}

// output runs it to its end and returns what it printed.
func (w way) output() ([]byte, error) {
	cmd := w.cmd()
	defer closeFiles(cmd)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %s", w.argv, err, stderr)
	}
	return out, nil
}

// keyedRequests is the client. Where a reverse proxy is named, that is taken for the host.
func keyedRequests(path, key, proxy string) error {
	var f keyed
	body := bytes.Repeat([]byte(`{"role":"user","content":[{"type":"text","text":"a line of a file\nwith \"quotes\" and some more of it, as agents send them"}]},`), 100<<10/128)
	for i := range protocols {
		one := func(c *http.Client, method string, body []byte) error { return ask(c, method, path, key, body, i+1) }
		c := keepingClient(i == 1, proxy)
		for range 50 {
			if err := one(c, http.MethodGet, nil); err != nil {
				return err
			}
		}
		for _, kind := range []struct {
			method string
			body   []byte
			to     *float64
			times  int
		}{{http.MethodGet, nil, &f.Asks[i], 500}, {http.MethodPost, body, &f.Says[i], 100}} {
			var took []float64
			for range kind.times {
				begin := time.Now()
				if err := one(c, kind.method, kind.body); err != nil {
					return err
				}
				took = append(took, time.Since(begin).Seconds()*1e3)
			}
			*kind.to = median(took)
		}
		var err error
		if f.Rate[i], err = perSecond(2000, func() error { return one(c, http.MethodGet, nil) }); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// ask makes one request, and takes no other answer than the host's yes, by the protocol that is measured.
func ask(c *http.Client, method, path, key string, body []byte, protocol int) error {
	r, err := http.NewRequest(method, "https://"+hostName+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("X-Api-Key", key)
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || answer.ProtoMajor != protocol {
		return fmt.Errorf("%s by %s: %s, %w", answer.Status, answer.Proto, text, err)
	}
	return nil
}

// agentRow measures how long an agent takes to its first request to its model.
func (b *bench) agentRow(told *bufio.Reader) ([]row, error) {
	cache, _ := os.UserCacheDir()
	var found []string
	for _, dir := range []string{"/var/cache", cache} {
		more, _ := filepath.Glob(filepath.Join(dir, "casemate-test/codex/node_modules/@openai/codex-linux-*/vendor/*/bin/codex"))
		found = append(found, more...)
	}
	if len(found) == 0 {
		return nil, errors.New("codex is not installed: test/setup.sh bench does it")
	}
	packages, _, _ := strings.Cut(found[0], "/@openai/")
	known, err := (&preset.Here{Config: b.home}).Load("codex") // the built-in one
	if err != nil {
		return nil, err
	}
	outside, err := b.person("agent-outside", "")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(write(outside, map[string]string{known.Agent.Lays[0].File: known.Agent.Lays[0].Text}), b.give(outside)); err != nil {
		return nil, err
	}
	inside, err := b.person("agent-inside", "")
	if err != nil {
		return nil, err
	}
	if err := b.keep(inside, "openai", modelName, benchKey); err != nil {
		return nil, err
	}
	agent := []string{found[0], "exec", "--skip-git-repo-check", "say something"}
	ours := b.plain(append([]string{b.casemate, "run", "--read", packages, "--"}, agent...)...)
	direct := b.plain(append([]string{"/usr/bin/env", "OPENAI_API_KEY=" + benchKey}, agent...)...)
	ours.home, direct.home = inside, outside
	var o, p []float64
	for i := range 11 {
		for k := range 2 {
			took, err := []way{ours, direct}[(k+i)%2].untilTold(told)
			if err != nil {
				return nil, err
			}
			if i > 0 && (k+i)%2 == 0 {
				o = append(o, took)
			} else if i > 0 {
				p = append(p, took)
			}
		}
	}
	r, added := ratios(o, p), median(o)-median(p)
	return []row{
		{What: "codex to its first request / direct", Ours: fmt.Sprintf("%.0fms", median(o)), Peer: fmt.Sprintf("%.0fms", median(p)), Value: median(r), P90: quantile(r, 0.9), Rounds: len(r),
			Note: "From `casemate run -- codex exec`, with its preset and its key from the store, to the first request that asks the model's stand-in; against codex with the same settings and no sandbox."},
		{What: "  ms added", Ours: fmt.Sprintf("%.0fms", added), Value: added, Count: true, Rounds: len(r)},
	}, nil
}

// untilTold runs a command until the host tells that it was asked, in ms, and then to its end.
func (w way) untilTold(told *bufio.Reader) (float64, error) {
	cmd := w.cmd()
	defer closeFiles(cmd)
	var words tail
	cmd.Stdout, cmd.Stderr = &words, &words
	cmd.WaitDelay = time.Minute
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	asked := make(chan time.Time, 1)
	go func() {
		if _, err := told.ReadString('\n'); err == nil {
			asked <- time.Now()
		}
	}()
	select {
	case at := <-asked:
		err := <-ended
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return 0, err
		}
		return at.Sub(begin).Seconds() * 1e3, nil
	case err := <-ended:
		return 0, fmt.Errorf("%v asked nothing: %w: %s", w.argv, err, words)
	}
}

// answerModel is the stand-in: it tells once for each command that it was asked, and says one word.
func answerModel(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	switch {
	case r.Header.Get("Upgrade") != "":
		http.Error(w, "no", http.StatusUpgradeRequired)
		return
	case r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer "+benchKey || !bytes.Contains(text, []byte("say something")):
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusNotFound)
		return
	}
	fmt.Println("asked")
	w.Header().Set("Content-Type", "text/event-stream")
	const item = `{"type":"message","role":"assistant","id":"msg_1","content":[{"type":"output_text","text":"done"}]}`
	for _, e := range []string{
		`{"type":"response.created","response":{"id":"resp_1","object":"response","status":"in_progress","output":[]}}`, `{"type":"response.output_item.done","output_index":0,"item":` + item + `}`,
		`{"type":"response.completed","response":{"id":"resp_1","object":"response","status":"completed","model":"stand-in","output":[` + item + `],"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}}}`,
	} {
		fmt.Fprintf(w, "data: %s\n\n", e)
	}
}
