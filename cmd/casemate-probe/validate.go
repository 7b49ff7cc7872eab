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
	"path/filepath"
	"strings"

	"casemate.dev/internal/engine/enginetest"
	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
	"casemate.dev/internal/workspace"
)

// validate is `casemate validate`: it makes what attacks are after on the host, runs the table inside the sandbox that casemate's flags make,
// and lets the host judge. The person's own project is not attacked: another one with the same policy stands in for it, in which there is
// everything to be attacked.
func validate(args []string, stdout io.Writer) (int, error) {
	fs := flag.NewFlagSet("validate", flag.ContinueOnError)
	casemate := fs.String("casemate", "", "the casemate to try")
	asJSON := fs.Bool("json", false, "one JSON object per line")
	if err := fs.Parse(args); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "casemate-validate")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	f, err := enginetest.NewFixtures(filepath.Join(dir, "host"), exe, os.Getuid(), os.Getgid(), enginetest.Cases())
	if err != nil {
		return 0, err
	}
	defer f.Close()
	v := &trial{casemate: *casemate, flags: fs.Args(), fixtures: f, kit: filepath.Join(dir, "kit")}
	results, err := v.run(exe)
	if v.approved != nil {
		v.approved()
	}
	if err != nil {
		return 0, err
	}
	return v.report(results, *asJSON, stdout)
}

// trial is one sandbox that is attacked.
type trial struct {
	casemate string
	flags    []string // the policy's, as they were given to casemate validate
	fixtures *enginetest.Fixtures
	kit      string // holds the probe and its description, shown inside
	project  string // where casemate runs
	approved func() // withdraws the stand-in's approval; nil where there was none
}

// planned is what validate needs of `casemate plan --json`.
type planned struct {
	Mode       string
	Workspace  struct{ Kind, Path string }
	Guarantees []struct{ Name, State string }
}

func (v *trial) run(exe string) ([]enginetest.Result, error) {
	if err := os.Mkdir(v.kit, 0o755); err != nil {
		return nil, err
	}
	probe := filepath.Join(v.kit, "probe")
	if err := copyFile(exe, probe); err != nil {
		return nil, err
	}
	if err := v.standIn(); err != nil {
		return nil, err
	}
	if err := v.describe(); err != nil {
		return nil, err
	}
	args := append([]string{"run", "--json", "--quiet", "--no-terminal", "--fresh", "--read", v.kit}, v.flags...)
	cmd := exec.Command(v.casemate, append(args, "--", probe, "run", "--json", "--env", filepath.Join(v.kit, "env.json"))...)
	cmd.Dir = v.project
	v.fixtures.Accept()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	results, _, err := enginetest.ReadResults(bytes.NewReader(out.Bytes()))
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no attack could be made inside: %s", strings.TrimSpace(errs.String()))
	}
	v.clean(errs.String())
	return v.fixtures.Verify(results, out.String()+errs.String()), nil
}

// standIn gives the stand-in the project's own policy, and the approval that the person has given to it.
func (v *trial) standIn() error {
	v.project = v.fixtures.Work
	person, err := session.Self()
	if err != nil {
		return err
	}
	own, err := person.ProjectPolicy(person.FindProject())
	if err != nil || own == nil {
		return err
	}
	copied := *own
	copied.Path = filepath.Join(v.project, session.PolicyFile)
	if err := os.WriteFile(copied.Path, own.Data, 0o644); err != nil {
		return err
	}
	v.fixtures.Accept()
	if !own.Trusted {
		return nil
	}
	v.approved = func() { _ = person.Approve(&copied, false) }
	return person.Approve(&copied, true)
}

// describe asks casemate for the plan, chooses the project, and writes down for the probe what it is up against.
func (v *trial) describe() error {
	plan := exec.Command(v.casemate, append(append([]string{"plan", "--json"}, v.flags...), "--", "true")...)
	plan.Stderr, plan.Dir = os.Stderr, v.project
	text, err := plan.Output()
	if err != nil {
		return errors.New("casemate plan refused, so there is no sandbox to attack")
	}
	var p planned
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	env := &v.fixtures.Env
	env.Mode, env.Workspace = p.Mode, p.Workspace.Kind
	for _, g := range p.Guarantees {
		if g.State == "absent" {
			env.Without = append(env.Without, g.Name)
		}
	}
	_, description, _ := strings.Cut(env.Environ(), "=")
	return os.WriteFile(filepath.Join(v.kit, "env.json"), []byte(description), 0o644)
}

// clean removes the sandbox, which may hold what the attacks left.
func (v *trial) clean(stderr string) {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	var last struct{ Sandbox string }
	if json.Unmarshal([]byte(lines[len(lines)-1]), &last) == nil && last.Sandbox != "" {
		cmd := exec.Command(v.casemate, "rm", last.Sandbox)
		cmd.Dir = v.project
		_ = cmd.Run() // one that holds nothing is gone already
	}
	if person, err := session.Self(); err == nil {
		if st, err := store.Open(person.StateHome, person.Home); err == nil {
			_ = workspace.Discard(context.Background(), st.Project(v.project)) // the stand-in's home, mask and caches, in which overlays leave directories without rights
		}
	}
}

func (v *trial) report(results []enginetest.Result, asJSON bool, stdout io.Writer) (int, error) {
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
