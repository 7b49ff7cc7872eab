package host

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func checkNamed(t *testing.T, checks []Check, name string) Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, checks)
	return Check{}
}

func needUserNamespaces(t *testing.T) {
	t.Helper()
	if step, errno := newAttempt(unix.CLONE_NEWUSER | unix.CLONE_NEWNS).mapUser(Full()).private().try(); errno != 0 {
		t.Skipf("no user namespaces here: step %q: %v", step, errno)
	}
}

func TestExamineLeavesNothing(t *testing.T) {
	needUserNamespaces(t)
	dir := t.TempDir()
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Examine(Full(), dir, table()) {
		t.Logf("%-20s ok=%-5v %s %s", c.Name, c.OK, c.Detail, c.Remedy)
		if c.Needed && !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
		if !c.OK && c.Remedy == "" {
			t.Errorf("%s failed without a remedy", c.Name)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the state directory: %v, %v", left, err)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || string(before) != string(after) {
		t.Error("the mounts of this process changed")
	}
}

// nft is a netlink message of nf_tables, with attributes of text.
func nft(kind, flags uint16, family byte, resource uint16, attrs ...string) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, 128)
	b = append(b, family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	for i := 0; i < len(attrs); i += 2 {
		text := attrs[i+1] + "\x00"
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(text)))
		b = binary.NativeEndian.AppendUint16(b, uint16(attrs[i][0]))
		b = append(b, text...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags|unix.NLM_F_REQUEST)
	return b
}

// table makes an empty table, and a rule in a chain that is not there where one is given. The last is answered in any case.
func table(missing ...string) []byte {
	const newTable, newRule, name, chain = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE, "\x01", "\x02"
	b := nft(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	if missing == nil {
		b = append(b, nft(newTable, unix.NLM_F_CREATE|unix.NLM_F_ACK, unix.NFPROTO_INET, 0, name, "test")...)
	}
	for _, m := range missing {
		b = append(b, nft(newTable, unix.NLM_F_CREATE, unix.NFPROTO_INET, 0, name, "test")...)
		b = append(b, nft(newRule, unix.NLM_F_CREATE|unix.NLM_F_ACK, unix.NFPROTO_INET, 0, name, "test", chain, m)...)
	}
	return append(b, nft(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)...)
}

// TestGateCheck: what the kernel says in its message is seen, and the remedy with it.
func TestGateCheck(t *testing.T) {
	needUserNamespaces(t)
	if c := gate(table())(Full(), ""); !c.OK {
		t.Errorf("%+v", c)
	}
	if c := gate(table("nowhere"))(Full(), ""); c.OK || c.Needed || !strings.Contains(c.Detail, "no such file") || !strings.Contains(c.Remedy, "modprobe") {
		t.Errorf("%+v", c)
	}
}

// A check that cannot fail proves nothing: the same calls with one thing wrong must name their step.
func TestAttemptNamesTheStep(t *testing.T) {
	needUserNamespaces(t)
	f := Full()
	step, errno := inMounts(f).at("overlay of x").mount("overlay", t.TempDir(), "overlay", 0, "userxattr,lowerdir=/nowhere,upperdir=/nowhere,workdir=/nowhere").try()
	if step != "overlay of x" || errno != unix.ENOENT {
		t.Errorf("step %q: %v", step, errno)
	}
	step, errno = newAttempt(unix.CLONE_NEWUSER).at("no such file").write("/nowhere", "1", 0).try()
	if step != "no such file" || errno != unix.ENOENT {
		t.Errorf("step %q: %v", step, errno)
	}
}

func TestAttemptKilledByAFilter(t *testing.T) {
	kill := &[4]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MKDIRAT, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := &unix.SockFprog{Len: 4, Filter: &kill[0]}
	a := noNewPrivs(newAttempt(0))
	a.keep = append(a.keep, kill, program)
	a.call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, address(program))
	a.at("make a directory").call(unix.SYS_MKDIRAT, cwd, a.text("/nowhere/x"), 0)
	if step, errno := a.try(); step != "make a directory" || errno != unix.EPERM {
		t.Errorf("step %q: %v", step, errno)
	}
}

// TestRefusals runs this test binary where something is refused for real, and looks at what Examine says of it.
func TestRefusals(t *testing.T) {
	needUserNamespaces(t)
	for _, c := range []struct{ name, arrange, check, says string }{
		{"no more user namespaces", "userns", "user namespaces", "user.max_user_namespaces=15000"},
		{"part of /proc covered", "proc", "process file system", "parts of /proc are covered"},
		{"state on an overlay", "overlay", "change layer", "XDG_STATE_HOME"},
	} {
		t.Run(c.name, func(t *testing.T) {
			self := exec.Command("/proc/self/exe", "-test.run=^TestRefused$", "-test.v")
			self.Env = append(os.Environ(), "HOST_TEST_ARRANGE="+c.arrange, "HOST_TEST_CHECK="+c.check, "HOST_TEST_SAYS="+c.says, "HOST_TEST_DIR="+t.TempDir())
			self.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
			}
			out, err := self.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "arranged and seen") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	arrange, dir := os.Getenv("HOST_TEST_ARRANGE"), os.Getenv("HOST_TEST_DIR")
	var err error
	switch arrange {
	case "":
		return // this is the part of TestRefusals that runs in namespaces of its own
	case "userns":
		err = os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
	case "proc":
		err = unix.Mount("tmpfs", "/proc/bus", "tmpfs", 0, "")
	case "overlay":
		if err = unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err == nil {
			for _, d := range []string{"lower", "upper", "work", "state"} {
				os.Mkdir(filepath.Join(dir, d), 0o755)
			}
			err = unix.Mount("overlay", dir+"/state", "overlay", 0, "userxattr,lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work")
			dir += "/state"
		}
	}
	if err != nil {
		t.Fatalf("arrange %s: %v", arrange, err)
	}
	f := Full()
	if !f.InUserNamespace {
		t.Error("does not see that it is in a user namespace")
	}
	got := checkNamed(t, Examine(f, dir, table()), os.Getenv("HOST_TEST_CHECK"))
	if got.OK || !strings.Contains(got.Detail+got.Remedy, os.Getenv("HOST_TEST_SAYS")) {
		t.Fatalf("%+v", got)
	}
	t.Log("arranged and seen")
}

func address(p *unix.SockFprog) uintptr { return uintptr(unsafe.Pointer(p)) }
