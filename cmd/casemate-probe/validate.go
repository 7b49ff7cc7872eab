package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"casemate.dev/internal/engine/enginetest"
	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
	"golang.org/x/sys/unix"
)

// validate is `casemate validate`: it makes what attacks are after on the host, runs the table inside the sandbox that casemate's flags make,
// and lets the host judge. The person's own project is not attacked: another one with the same policy stands in for it, in which there is
// everything to be attacked.
func validate(args []string, stdout io.Writer) (int, error) {
	fs := flag.NewFlagSet("validate", flag.ContinueOnError)
	casemate := fs.String("casemate", "", "the casemate to try")
	command := fs.String("for", "true", "the command that the sandbox is for")
	asJSON := fs.Bool("json", false, "one JSON object per line")
	if err := fs.Parse(args); err != nil {
		return 0, err
	}
	results, err := (&trial{casemate: *casemate, command: *command, flags: fs.Args()}).attack()
	if err != nil {
		return 0, err
	}
	return report(results, *asJSON, stdout) // nothing is left by now: whoever reads may go away
}

// trial is one sandbox that is attacked.
type trial struct {
	casemate string
	command  string   // that the sandbox is for: its name may choose a preset
	flags    []string // the policy's, as they were given to casemate validate
	fixtures *enginetest.Fixtures
	kit      string // holds the probe and its description, shown inside
	project  string // where casemate runs
}

// planned is what validate needs of `casemate plan --json`.
type planned struct {
	Mode       string
	Workspace  struct{ Kind, Path string }
	Guarantees []struct{ Name, State string }
	Openings   []struct{ Origin string }
}

// attack makes it and everything around it, and leaves nothing, also where it is interrupted.
func (v *trial) attack() (results []enginetest.Result, err error) {
	ctx, stop := interruptible()
	defer stop()
	dir, err := os.MkdirTemp("", "casemate-validate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if v.fixtures, err = enginetest.NewFixtures(filepath.Join(dir, "host"), exe, os.Getuid(), os.Getgid(), enginetest.Cases()); err != nil {
		return nil, err
	}
	defer v.fixtures.Close()
	v.project, v.kit = v.fixtures.Work, filepath.Join(dir, "kit")
	probe := filepath.Join(v.kit, "bin", filepath.Base(v.command))
	if err := os.MkdirAll(filepath.Dir(probe), 0o755); err != nil {
		return nil, err
	}
	if err := copyFile(exe, probe); err != nil {
		return nil, err
	}
	defer v.forget()
	withdraw, err := v.standIn()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, withdraw()) }()
	if err := v.describe(ctx); err != nil {
		return nil, err
	}
	return v.run(ctx, probe)
}

// interruptible is cancelled by the first signal that would end us; it ends us at stop.
func interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(s) { // as below nohup
			signal.Notify(signals, s)
		}
	}
	var came os.Signal
	over := make(chan struct{})
	go func() {
		defer close(over)
		if s, ok := <-signals; ok {
			came = s
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		<-over
		cancel()
		if came != nil {
			signal.Reset()
			_ = unix.Kill(os.Getpid(), came.(unix.Signal))
			time.Sleep(time.Second) // it comes meanwhile
		}
	}
}

// casemateIn is a command of casemate's in the stand-in.
func (v *trial) casemateIn(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, v.casemate, args...)
	cmd.Dir = v.project
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // it ends its sandbox
	return cmd
}

func (v *trial) run(ctx context.Context, probe string) ([]enginetest.Result, error) {
	args := append([]string{"run", "--json", "--quiet", "--no-terminal", "--fresh", "--read", v.kit}, v.flags...)
	cmd := v.casemateIn(ctx, append(args, "--", probe, "run", "--json", "--env", filepath.Join(v.kit, "env.json"))...)
	v.fixtures.Accept()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	v.remove(errs.String())
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	results, _, err := enginetest.ReadResults(bytes.NewReader(out.Bytes()))
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no attack could be made inside: %s", strings.TrimSpace(errs.String()))
	}
	return v.fixtures.Verify(results, out.String()+errs.String()), nil
}

// standIn gives the stand-in the project's own policy, and the approval that the person has given to it.
func (v *trial) standIn() (withdraw func() error, err error) {
	nothing := func() error { return nil }
	person, err := session.Self()
	if err != nil {
		return nil, err
	}
	own, err := person.ProjectPolicy(person.FindProject())
	if err != nil || own == nil {
		return nothing, err
	}
	copied := *own
	copied.Path = filepath.Join(v.project, session.PolicyFile)
	if err := os.WriteFile(copied.Path, own.Data, 0o644); err != nil {
		return nil, err
	}
	v.fixtures.Accept()
	if !own.Trusted {
		return nothing, nil
	}
	return func() error { return person.Approve(&copied, false) }, person.Approve(&copied, true)
}

// describe asks casemate for the plan, chooses the project, and writes down for the probe what it is up against.
func (v *trial) describe(ctx context.Context) error {
	plan := v.casemateIn(ctx, append(append([]string{"plan", "--json"}, v.flags...), "--", v.command)...)
	plan.Stderr = os.Stderr
	text, err := plan.Output()
	if err != nil {
		return errors.New("casemate plan refused, so there is no sandbox to attack")
	}
	var p planned
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	env := &v.fixtures.Env
	if env.Kept, err = v.kept(p); err != nil {
		return err
	}
	env.Mode, env.Workspace = p.Mode, p.Workspace.Kind
	for _, g := range p.Guarantees {
		if g.State == "absent" {
			env.Without = append(env.Without, g.Name)
		}
	}
	_, description, _ := strings.Cut(env.Environ(), "=")
	return os.WriteFile(filepath.Join(v.kit, "env.json"), []byte(description), 0o644)
}

// kept is what the presets of agents that the plan names have in the home of a sandbox, by its first directory as well.
func (v *trial) kept(p planned) (names []string, err error) {
	person, err := session.Self()
	if err != nil {
		return nil, err
	}
	here, err := person.Presets(v.project)
	if err != nil {
		return nil, err
	}
	for _, o := range p.Openings {
		origin, _, _ := strings.Cut(o.Origin, " (")
		name, isPreset := strings.CutPrefix(origin, "preset ")
		if !isPreset {
			continue
		}
		found, err := here.Find(name)
		if err != nil {
			return nil, err
		}
		if a := found.Preset.Agent; a != nil {
			for _, path := range a.Home {
				top, _, _ := strings.Cut(path, "/")
				names = append(names, path, top)
			}
		}
	}
	return names, nil
}

// remove removes the sandbox, which may hold what the attacks left.
func (v *trial) remove(stderr string) {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	var last struct{ Sandbox string }
	if json.Unmarshal([]byte(lines[len(lines)-1]), &last) == nil && last.Sandbox != "" {
		_ = v.casemateIn(context.Background(), "rm", last.Sandbox).Run() // one that holds nothing is gone already
	}
}

// forget removes the stand-in's home, mask and caches, in which overlays leave directories without rights.
func (v *trial) forget() {
	if person, err := session.Self(); err == nil {
		if st, err := store.Open(person.StateHome, person.Home); err == nil {
			_ = workspace.Discard(context.Background(), st.Project(v.project))
		}
	}
}

func report(results []enginetest.Result, asJSON bool, stdout io.Writer) (int, error) {
	if asJSON {
		for _, r := range results {
			if err := json.NewEncoder(stdout).Encode(r); err != nil {
				return 0, err
			}
		}
	} else if _, err := io.WriteString(stdout, enginetest.Render(results, 80)); err != nil {
		return 0, err
	}
	if len(enginetest.Failed(results)) > 0 {
		return 1, nil
	}
	return 0, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
