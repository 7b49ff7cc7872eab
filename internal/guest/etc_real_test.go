package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestEtcWorks lets the host's real programs use the tree in namespaces like the sandbox's: own network without anything, own user.
func TestEtcWorks(t *testing.T) {
	o := etcOptions()
	o.GitConfig = GitConfig(GitOptions{Home: "/nowhere", Safe: []string{"/home/u/project"}})
	dir := t.TempDir()
	for end := dir; end != os.TempDir() && end != "/"; end = filepath.Dir(end) {
		os.Chmod(end, 0o755) // root's directory, and the sandbox's user reads it by path here
	}
	got, err := Etc(filepath.Join(dir, "etc"), o)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	os.Chmod(filepath.Dir(filepath.Dir(got.Path)), 0o755)
	os.Chmod(filepath.Dir(got.Path), 0o755)

	for _, c := range []struct {
		name, program, script string
		want                  string
		most                  time.Duration
	}{
		{"own name", "id", `id -un; id -gn`, "u\nu\n", 0},
		{"name of unmapped files", "stat", `stat -c %U /usr`, "nobody\n", 0},
		{"localhost", "getent", `getent ahosts localhost | grep -c STREAM; getent hosts casemate | awk '{print $1}'`, "2\n127.0.0.1\n", 0},
		{"no such host, at once", "getent", `getent ahosts nothing.example.com; echo $?`, "2\n", time.Second},
		{"no such host for Node, both ways", "node", `node -e 'const d=require("dns"); d.lookup("a.example.com",e=>{console.log(e.code); d.resolve4("a.example.com",e=>console.log(e.code))})'`, "ENOTFOUND\nECONNREFUSED\n", 2 * time.Second},
		{"no such host for Python", "/usr/bin/python3", `/usr/bin/python3 -c '
import socket
try: socket.getaddrinfo("a.example.com", 443)
except socket.gaierror as e: print(e.errno == socket.EAI_NONAME)'`, "True\n", 2 * time.Second},
		{"ports by name", "getent", `getent services https | awk '{print $2}'`, "443/tcp\n", 0},
		{"login shells keep PATH", "bash", `HOME=/nowhere PATH=/my/tools:$PATH bash -lc 'echo ${PATH%%:*}'`, "/my/tools\n", 0},
		{"git's settings", "git", `HOME=/nowhere git config --system --get-all safe.directory; git config --system gc.auto`, "/home/u/project\n0\n", 0},
		{"ssh accepts its files", "ssh", `ssh -G example.com | grep -i '^forwardagent'`, "forwardagent no\n", 0},
		{"certificates", "openssl", `openssl verify /etc/ssl/certs/ISRG_Root_X1.pem`, "/etc/ssl/certs/ISRG_Root_X1.pem: OK\n", 0},
		{"Java starts", "java", `java -version 2>&1 | grep -c Runtime`, "1\n", 20 * time.Second},
		{"local time", "date", `date +%Z`, localZone() + "\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath(c.program); err != nil {
				if c.program != "node" && c.program != "java" {
					t.Fatalf("%s is missing: test/setup.sh installs it", c.program)
				}
				t.Skipf("%s is missing, and too large to be installed for tests: how it reads /etc is not shown here", c.program)
			}
			start := time.Now()
			out, err := inGuest(o, got.Path, c.script).Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if string(out) != c.want {
				t.Errorf("%q, want %q", out, c.want)
			}
			if took := time.Since(start); c.most > 0 && took > 10*c.most { // generous: the machine may be busy; the timeouts it guards against are longer
				t.Errorf("took %v", took)
			}
		})
	}
}

func localZone() string {
	out, _ := exec.Command("date", "+%Z").Output()
	return strings.TrimSpace(string(out))
}

func inGuest(o EtcOptions, etc, script string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestGuestChild$")
	cmd.Env = append(os.Environ(), "GUEST_TEST_ETC="+etc, "GUEST_TEST_SCRIPT="+script)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: o.UID, HostID: o.UID, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: o.GID, HostID: o.GID, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN},
	}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.GID), NoSetGroups: true}
	}
	return cmd
}

// TestGuestChild is the part of TestEtcWorks that runs in namespaces of its own.
func TestGuestChild(t *testing.T) {
	etc := os.Getenv("GUEST_TEST_ETC")
	if etc == "" {
		return
	}
	steps := []error{
		unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(etc, "/etc", "", unix.MS_BIND, ""),
		loopbackUp(),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	err := syscall.Exec("/bin/sh", []string{"sh", "-c", os.Getenv("GUEST_TEST_SCRIPT")}, os.Environ())
	t.Fatal(err)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request := make([]byte, 40)
	copy(request, "lo")
	request[16] = unix.IFF_UP
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request[0]))); errno != 0 {
		return errno
	}
	return nil
}
