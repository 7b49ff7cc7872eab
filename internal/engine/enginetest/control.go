package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// RunControl runs the case where it must succeed: outside, or in a plain user namespace with all capabilities.
func (r Runner) RunControl(c Case) Result {
	env := *r.Env
	env.Control = c.Control
	env.Without = nil
	r.Env = &env
	res := Result{ID: c.ID, Group: c.Group, Title: c.Title, Guarantee: c.Guarantee, Verdict: NotRun}
	switch c.Control {
	case None:
		res.Detail = c.NoControl
		return res
	case AsRoot:
		if os.Getuid() != 0 {
			res.Detail = "the control needs root"
			return res
		}
		return r.Run(c)
	case Scratch:
		return r.runScratch(c)
	default:
		return r.Run(c)
	}
}

// runScratch starts the probe as pid 1 of namespaces of its own, where it starts the attack.
func (r Runner) runScratch(c Case) Result {
	res := Result{ID: c.ID, Group: c.Group, Title: c.Title, Guarantee: c.Guarantee, Verdict: NotRun}
	pipe, w, err := os.Pipe()
	if err != nil {
		res.Detail = err.Error()
		return res
	}
	defer pipe.Close()
	p, err := os.StartProcess(r.Probe, []string{"casemate-probe", "scratch", c.ID}, &os.ProcAttr{
		Files: []*os.File{nil, w, os.Stderr},
		Env:   append(os.Environ(), r.Env.Environ()),
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
			// More than one id, where root may map it, so that attacks that change the uid can succeed.
			UidMappings: idMap(os.Getuid()), GidMappings: idMap(os.Getgid()),
			Pdeathsig: syscall.SIGKILL,
		},
	})
	w.Close()
	if err != nil {
		res.Detail = fmt.Sprintf("no plain user namespace can be made for the control: %v", err)
		return res
	}
	err = pipe.SetReadDeadline(time.Now().Add(30*time.Second + c.Timeout))
	text, rerr := io.ReadAll(io.LimitReader(pipe, 1<<20))
	_ = p.Kill() // pid 1: everything in the namespace goes with it
	_, werr := p.Wait()
	if err := errors.Join(err, rerr, werr); err != nil {
		res.Detail = err.Error()
		return res
	}
	if err := json.Unmarshal(text, &res); err != nil {
		res.Detail = fmt.Sprintf("the scratch namespace said %q", brief(string(text)))
	}
	return res
}

func idMap(id int) []syscall.SysProcIDMap {
	if id == 0 {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	}
	return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
}

// ScratchInit is `casemate-probe scratch ID`: pid 1 of a plain user namespace, which keeps its environment, its capabilities and its memory
// open, as an init that defends nothing does.
func ScratchInit(id string, stdout io.Writer) error {
	cases, err := Find([]string{id})
	if err != nil {
		return err
	}
	e, err := LoadEnv("")
	if err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return errors.New("scratch is run by `casemate-probe control` only")
	}
	if err := plainMounts(); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	// Somebody else in the namespace, for the attack on everyone. It ends with pid 1.
	hold, _, err := os.Pipe()
	if err != nil {
		return err
	}
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := os.StartProcess(exe, []string{"casemate-probe", "target", "scratch"}, &os.ProcAttr{Files: []*os.File{hold, null, null}}); err != nil {
		return err
	}
	e.Control = Scratch
	return json.NewEncoder(stdout).Encode(Runner{Probe: exe, Env: e}.Run(cases[0]))
}

// plainMounts makes what the attacks of this control need: a proc of the own pid namespace, and system directories that may be written.
func plainMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	for _, dir := range []string{"/usr/local/bin", "/etc/cron.d"} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := unix.Mount("tmpfs", filepath.Clean(dir), "tmpfs", unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("mount on %q: %w", dir, err)
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
			return fmt.Errorf("remount %q: %w", dir, err)
		}
	}
	return nil
}
