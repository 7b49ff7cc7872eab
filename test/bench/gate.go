package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The host that requests go to: at the other end of a cable, in a network that the measurement makes.
const (
	hostName    = "bench.example"
	modelName   = "api.openai.com" // a stand-in for it
	hostAddress = "203.0.113.10"
)

// network measures a group of rows in a network of its own, which a process in namespaces of its own makes.
func network(name string) func(*bench) ([]row, error) {
	return func(b *bench) ([]row, error) {
		for _, program := range []string{"ip", "socat"} {
			if _, err := exec.LookPath(program); err != nil {
				return nil, fmt.Errorf("%w (test/setup.sh bench installs it)", err)
			}
		}
		cmd := exec.Command(b.self, "-bin", b.dir, "-dir", b.dir, "-rounds", strconv.Itoa(b.rounds), "-inside", name)
		cmd.SysProcAttr = apart(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, err
		}
		var rows []row
		return rows, json.Unmarshal(out, &rows)
	}
}

// apart is a process in namespaces of its own, where it may make a network.
func apart(flags uintptr) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		a.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_NET_BIND_SERVICE}
	}
	return a
}

// measureInNetwork is that process.
func measureInNetwork(name, bin, dir string, times int) error {
	b, err := newBench(bin, dir, times)
	if err != nil {
		return err
	}
	defer b.close()
	told, end, err := b.wire()
	if err != nil {
		return err
	}
	defer end()
	if err := errors.Join(copyFile(b.self, filepath.Join(b.project, "bench")), b.give(b.project)); err != nil {
		return err
	}
	rows := func() ([]row, error) { return b.injectRows(told) }
	if name == "gate" {
		socket := filepath.Join(b.dir, "proxy.sock")
		if err := errors.Join(forwardProxy(socket), os.Chmod(socket, 0o777)); err != nil {
			return err
		}
		rows = func() ([]row, error) { return b.gateRows(socket) }
	}
	if b.cred == nil { // the programs that are measured are an ordinary user's
		if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0); e != 0 {
			return e
		}
	}
	list, err := rows()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(list)
}

// gateRows measure what the gate adds to a connection: direct, through casemate, and through bubblewrap with socat and a forward proxy.
func (b *bench) gateRows(socket string) ([]row, error) {
	client := []string{"./bench", "-inside", "requests"}
	ours := b.plain(append([]string{b.casemate, "run", "--allow", hostName + ":443,7", "--"}, client...)...)
	peer := b.bwrap("sh", "-c", `socat TCP-LISTEN:3128,bind=127.0.0.1,fork,reuseaddr UNIX-CONNECT:"$0" & while ! grep -q :0C38 /proc/net/tcp; do :; done; ./bench -inside requests 127.0.0.1:3128; kill $!`, socket)
	peer.argv = append([]string{peer.argv[0], "--bind", socket, socket}, peer.argv[1:]...)
	const again = 5
	var all [3][]figures
	for i := range again + 1 {
		for k := range 3 {
			k = (k + i) % 3
			f, err := []way{ours, b.plain(client...), peer}[k].figures()
			if err != nil {
				return nil, err
			}
			if i > 0 {
				all[k] = append(all[k], f)
			}
		}
	}
	rows := compareFigures("direct", all[0], all[1], true)
	rows[0].Note = "A host at the other end of a veth pair, TLS passed through. Direct is the same program without a sandbox."
	rows = append(rows, compareFigures("bwrap+socat", all[0], all[2], false)...)
	rows[len(rows)-4].Note = "bubblewrap without a network, inside socat from 127.0.0.1 to a Unix socket, outside a forward proxy that listens on it and takes CONNECT for one host; the program asks the proxy."
	o, _, err := b.around(b.plain(b.casemate, "run", "--allow", hostName, "--", "sleep", "30"))
	if err != nil {
		return nil, err
	}
	return append(rows, row{What: "MiB PSS, with a gate", Ours: fmt.Sprintf("%.2f", o), Value: o, Goal: 20, Then: 12, Count: true, Rounds: 1}), nil
}

// compareFigures makes the rows of two ways.
func compareFigures(name string, ours, peer []figures, goals bool) []row {
	column := func(list []figures, of func(figures) float64) (v []float64) {
		for _, f := range list {
			v = append(v, of(f))
		}
		return v
	}
	bulk := func(f figures) float64 { return f.Bulk }
	first := func(f figures) float64 { return f.First }
	each := func(f figures) float64 { return f.Each }
	kept := func(f figures) float64 { return f.Kept }
	one := func(what, format string, of func(figures) float64, more bool, goal, then float64) row {
		o, p := column(ours, of), column(peer, of)
		r := ratios(o, p)
		w := row{What: what + " / " + name, Ours: fmt.Sprintf(format, median(o)), Peer: fmt.Sprintf(format, median(p)), Value: median(r), P90: quantile(r, 0.9), More: more, Rounds: len(r)}
		if goals {
			w.Goal, w.Then = goal, then
		}
		return w
	}
	rows := []row{
		one("TLS bulk", "%.2fGB/s", bulk, true, 0.75, 0.9),
		one("connect+byte", "%.2fms", first, false, 0, 0),
		one("TLS req/s of 8", "%.0f", each, true, 0.25, 0.5),
		one("same, kept open", "%.0f", kept, true, 0, 0),
	}
	if goals {
		added := median(column(ours, first)) - median(column(peer, first))
		rows = append(rows, row{What: "connect+byte, ms added", Ours: fmt.Sprintf("%.2fms", added), Value: added, Goal: 0.3, Then: 0.15, Count: true, Rounds: len(ours)})
	}
	return rows
}

// figures runs the client and reads what it measured.
func (w way) figures() (f figures, err error) {
	cmd := w.cmd()
	defer closeFiles(cmd)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return f, fmt.Errorf("%v: %w: %s", w.argv, err, stderr)
	}
	return f, json.Unmarshal(bytes.TrimSpace(out), &f)
}

// wire joins this network by a cable to another one, in which a process serves, and returns what that process tells.
func (b *bench) wire() (told *bufio.Reader, end func(), err error) {
	authority := filepath.Join(b.dir, "authority.pem")
	hosts := exec.Command(b.self, "-inside", "hosts", authority)
	hosts.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		hosts.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}
	}
	hosts.Stderr = os.Stderr
	in, err := hosts.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := hosts.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := hosts.Start(); err != nil {
		return nil, nil, err
	}
	end = func() { in.Close(); hosts.Wait() }
	if err := ip("link set lo up", fmt.Sprintf("link add here type veth peer name there netns %d", hosts.Process.Pid), "addr add 203.0.113.1/24 dev here", "link set here up"); err != nil {
		end()
		return nil, nil, err
	}
	fmt.Fprintln(in, "the cable is there")
	told = bufio.NewReader(out)
	if _, err := told.ReadString('\n'); err != nil {
		end()
		return nil, nil, fmt.Errorf("the host did not serve: %w", err)
	}
	file := filepath.Join(b.dir, "hosts")
	err = errors.Join(os.WriteFile(file, []byte("127.0.0.1 localhost\n"+hostAddress+" "+hostName+" "+modelName+"\n"), 0o644),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(file, "/etc/hosts", "", unix.MS_BIND, ""),
		unix.Mount(authority, "/etc/ssl/certs/ca-certificates.crt", "", unix.MS_BIND, ""))
	if err != nil {
		end()
		return nil, nil, err
	}
	return told, end, nil
}

func ip(lines ...string) error {
	for _, l := range lines {
		if out, err := exec.Command("ip", strings.Fields(l)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", l, err, out)
		}
	}
	return nil
}

// forwardProxy is the peer's: CONNECT to one host, and nothing else.
func forwardProxy(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || host != hostName {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		up, err := net.DialTimeout("tcp", r.Host, 10*time.Second)
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		c, rest, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		go func() { io.Copy(up, rest); up.(*net.TCPConn).CloseWrite() }()
		io.Copy(c, up)
		c.Close()
		up.Close()
	}))
	return nil
}
