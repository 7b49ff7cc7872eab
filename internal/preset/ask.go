package preset

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// patience is how long a tool may take to answer.
const patience = 10 * time.Second

// memory is how long an answer is remembered at most: configuration that nobody knows of may have changed.
const memory = 24 * time.Hour

// forgiveness is how long a tool that did not answer is not asked again.
const forgiveness = 10 * time.Minute

// maxAnswer bounds what a tool says, in bytes.
const maxAnswer = 64 << 10

// answer is what a tool said, as it is remembered: without credentials, since keep has read it.
type answer struct {
	Asked  time.Time         `json:"asked"`
	Stamps map[string]string `json:"stamps"` // of the files that it depends on, the tool's among them
	Lines  []string          `json:"lines"`
	Failed string            `json:"failed,omitempty"`
}

// ask executes a tool of the person, outside of the project and with next to no environment, and returns what keep takes of its words. What it
// answered before is remembered until a file changes on which that depends: a start must not wait for another program's.
func (s *search) ask(keep func(string) []string, tools []string, args ...string) (lines []string, from string) {
	tool := s.lookFor(tools...)
	if tool == "" {
		return nil, ""
	}
	from = strings.Join(append([]string{filepath.Base(tool)}, args...), " ")
	for _, f := range s.files { // the tool would believe it
		if _, err := os.Stat(f); err == nil && s.ofProject(f) {
			s.note(fmt.Sprintf("%s is not asked, as its configuration lies where an agent can write", filepath.Base(tool)))
			return nil, from
		}
	}
	files := append(slices.Clone(s.files), tool)
	question := strings.Join(slices.Concat([]string{tool}, args, files), "\x00")
	stamps := stampAll(files)
	a, ok := s.recall(question)
	if !ok || !sameStamps(a.Stamps, stamps) {
		if s.idle {
			s.unasked = true
			return nil, from
		}
		a = answer{Asked: time.Now().UTC(), Stamps: stamps}
		out, err := s.execute(tool, args)
		if a.Lines = keep(out); err != nil {
			a.Lines, a.Failed = nil, err.Error()
		}
		s.remember(question, a)
	}
	if len(a.Lines) == 0 {
		s.note(fmt.Sprintf("%s did not say it (%s)", from, cmp.Or(a.Failed, "its words name no registry")))
	}
	return a.Lines, from
}

// execute runs the tool in the root directory, where no project's configuration is near. It gets no terminal, no input, and nothing of the person's
// environment but HOME, the path without the project's directories, and the variables that keep it quiet and off the network.
func (s *search) execute(tool string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"HOME=" + s.Home, "PATH=" + strings.Join(s.path(), ":"), "XDG_CONFIG_HOME=" + s.Config, "LC_ALL=C.UTF-8", "NO_COLOR=1", "CI=1",
		"npm_config_update_notifier=false", "npm_config_logs_max=0", "npm_config_loglevel=silent", "npm_config_offline=true",
		"COREPACK_ENABLE_NETWORK=0", "COREPACK_ENABLE_DOWNLOAD_PROMPT=0", "YARN_ENABLE_TELEMETRY=0", "GOTOOLCHAIN=local", "GOTELEMETRY=off", "PYTHONDONTWRITEBYTECODE=1",
	}
	var out bounded
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("not within %s", patience)
		}
		return "", err
	}
	return out.String(), nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, maxAnswer-b.Len()))])
	return len(p), nil
}

// path is the person's PATH without what is relative, what lies in the project and what others can write: an agent may have laid an npm there.
func (h *Here) path() []string {
	if h.dirs != nil {
		return h.dirs
	}
	h.dirs = []string{}
	for dir := range strings.SplitSeq(h.env("PATH"), ":") {
		st, err := os.Stat(dir)
		if err == nil && st.Mode()&0o002 == 0 && filepath.IsAbs(dir) && !slices.Contains(h.dirs, dir) && !h.ofProject(dir) {
			h.dirs = append(h.dirs, dir)
		}
	}
	return h.dirs
}

// lookFor finds the first of the programs that is installed.
func (h *Here) lookFor(names ...string) string {
	for _, name := range names {
		for _, dir := range h.path() {
			file := filepath.Join(dir, name)
			if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && unix.Access(file, unix.X_OK) == nil && !h.ofProject(file) {
				return file
			}
		}
	}
	return ""
}

// stampAll says what files are now, the absent ones among them.
func stampAll(files []string) map[string]string {
	stamps := map[string]string{}
	for _, f := range files {
		var st unix.Stat_t
		if unix.Stat(f, &st) == nil {
			stamps[f] = fmt.Sprint(st.Dev, " ", st.Ino, " ", st.Size, " ", st.Mtim.Nano(), " ", st.Ctim.Nano())
		} else {
			stamps[f] = "absent"
		}
	}
	return stamps
}

func sameStamps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for f, s := range a {
		if b[f] != s {
			return false
		}
	}
	return true
}

// remembered is the file for an answer.
func (h *Here) remembered(question string) string {
	sum := sha256.Sum256([]byte(h.Home + "\x00" + question))
	return filepath.Join(h.Cache, hex.EncodeToString(sum[:8])+".json")
}

func (h *Here) recall(question string) (a answer, ok bool) {
	if h.Cache == "" {
		return a, false
	}
	text, err := store.Read(h.remembered(question), maxFile)
	if err != nil || json.Unmarshal(text, &a) != nil {
		return a, false
	}
	age, most := time.Since(a.Asked), memory
	if len(a.Lines) == 0 {
		most = forgiveness
	}
	return a, age >= 0 && age < most
}

// remember keeps an answer. That it cannot be kept costs time at the next start, and nothing else.
func (h *Here) remember(question string, a answer) {
	if h.Cache == "" {
		return
	}
	if text, err := json.Marshal(a); err == nil && store.MakeDir(h.Cache) == nil {
		_ = store.WriteFile(h.remembered(question), text, 0o600)
	}
}
