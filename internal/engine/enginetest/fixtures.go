package enginetest

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Fixtures are what the attacks are after: a project with hidden files, files and a home outside it, services, sockets and a process of the
// host, each with a random token or a listener that remembers who spoke to it.
type Fixtures struct {
	Dir    string // everything lies below
	Work   string // the project
	Home   string // a home directory full of credentials
	State  string // for XDG_STATE_HOME
	Env    Env
	cases  []Case
	tokens map[string]string // name to token
	before map[string]string // the host's tree
	shared string            // in the host's /tmp
	shm    uintptr
	heard  *listeners
	target *os.Process
	said   *os.File
	stdin  *os.File
}

// NewFixtures makes them in dir, which an ordinary process must be able to reach. The project belongs to the owner. probe is the program that
// plays the host's process. Each of the cases gets a directory of its own in the project.
func NewFixtures(dir, probe string, uid, gid int, cases []Case) (*Fixtures, error) {
	f := &Fixtures{
		Dir: dir, Work: filepath.Join(dir, "work"), Home: filepath.Join(dir, "home"), State: filepath.Join(dir, "state"),
		tokens: map[string]string{}, cases: cases,
	}
	f.Env = Env{
		Work: f.Work, Home: f.Home, StateDir: filepath.Join(f.State, "casemate"), Canary: filepath.Join(dir, "outside", "canary"),
		UID: os.Getuid(), HostNS: hostNamespaces(), Tokens: map[string]string{}, HostVars: map[string]string{},
	}
	if name, err := os.Hostname(); err == nil {
		f.Env.HostName = digest(name)
	}
	if b, err := os.ReadFile("/etc/machine-id"); err == nil && len(b) > 1 {
		f.Env.MachineID = digest(strings.TrimSpace(string(b)))
	}
	if st, err := os.Stat("/dev/pts"); err == nil {
		f.Env.HostPts = st.Sys().(*syscall.Stat_t).Dev
	}
	steps := []func(string) error{f.makeOutside, f.makeHome, f.makeProject, f.makeShared, f.makeListeners, f.makeTarget, f.makeGroup}
	for _, step := range steps {
		if err := step(probe); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	for _, root := range []string{f.Work, filepath.Join(dir, "tree"), filepath.Join(dir, "outside")} {
		if err := chownAll(root, uid, gid); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	for _, kv := range f.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		f.Env.HostVars[name] = digest(value)
	}
	for name, token := range f.tokens {
		f.Env.Tokens[name] = digest(token)
	}
	f.before = snapshot(f.Dir, f.State)
	return f, nil
}

// token makes up the token of that name, once.
func (f *Fixtures) token(name string) string {
	if f.tokens[name] == "" {
		var b [tokenHex / 2]byte
		_, _ = rand.Read(b[:]) // never fails
		f.tokens[name] = tokenPrefix + hex.EncodeToString(b[:])
	}
	return f.tokens[name]
}

// Environ are variables of a caller who has credentials and dangerous settings in the environment. Programs on the host are not run with them.
func (f *Fixtures) Environ() []string {
	env := []string{"LD_PRELOAD=/nonexistent/casemate.so", "BASH_ENV=/nonexistent/casemate.sh", "ENV=/nonexistent/casemate.sh"}
	for _, name := range []string{
		"AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "NPM_TOKEN", "DB_PASSWORD", "MY_SECRET", "CASEMATE_TEST_PLAIN_NAME",
		"SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "GPG_AGENT_INFO", "WSL_INTEROP", "DOCKER_HOST", "TMUX", "STY",
	} {
		env = append(env, name+"="+f.token("variable"))
	}
	for _, name := range loaderNames() {
		if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") }) {
			env = append(env, name+"=/nonexistent/"+name)
		}
	}
	return env
}

// SafeEnviron are those of the variables that programs outside may be run with.
func (f *Fixtures) SafeEnviron() []string {
	return slices.DeleteFunc(f.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(loaderNames(), name)
	})
}

func hostNamespaces() map[string]string {
	m := map[string]string{}
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"} {
		if link, err := os.Readlink("/proc/self/ns/" + ns); err == nil {
			m[ns] = link
		}
	}
	return m
}

// put writes a file with its parents.
func put(path, content string, perm fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(content), perm); err != nil {
		return err
	}
	return os.Chmod(path, perm)
}

// files is a list of files to put, below a directory.
type files []struct{ name, content string }

func (list files) put(dir string) error {
	for _, f := range list {
		if err := put(filepath.Join(dir, f.name), f.content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fixtures) makeOutside(string) error {
	token := f.token("canary")
	err := errors.Join(
		put(f.Env.Canary, token+"\n", 0o644),
		put(f.Env.Canary+".empty", "", 0o644),
		put(filepath.Join(f.Dir, "outside", "tool"), "#!/bin/sh\necho casemate-tool-ran\n", 0o755),
		put(filepath.Join(f.Dir, "sibling", ".env"), "KEY="+f.token("sibling")+"\n", 0o644),
		os.MkdirAll(f.Env.StateDir, 0o700), os.Chmod(f.State, 0o700))
	if err != nil {
		return err
	}
	// Not every file system has user attributes: the attack that removes it then finds none outside either.
	_ = unix.Setxattr(f.Env.Canary, "user.fixture", []byte("1"), 0)
	return nil
}

func (f *Fixtures) makeHome(string) error {
	token := "token = " + f.token("home") + "\n"
	return files{
		{".ssh/id_rsa", token}, {".ssh/config", "Host *\n"}, {".aws/credentials", token}, {".gnupg/private-keys-v1.d/k", token}, {".config/gh/hosts.yml", token},
		{".kube/config", token}, {".docker/config.json", token}, {".netrc", token}, {".npmrc", token}, {".pypirc", token},
		{".claude/.credentials.json", token}, {".codex/auth.json", token}, {".bash_history", token}, {"other-project/secret.txt", token},
		{".config/google-chrome/Default/Cookies", token}, {".git-credentials", token}, {".local/share/keyrings/login.keyring", token},
	}.put(f.Home)
}

func (f *Fixtures) makeProject(string) error {
	secret := "SECRET=" + f.token("hidden") + "\n"
	err := files{
		{"README.md", "a project\n"}, {"src/main.c", "int main(void) { return 0; }\n"}, {".env.example", "SECRET=\n"},
	}.put(f.Work)
	if err != nil {
		return err
	}
	if err := f.makeGit(); err != nil {
		return err
	}
	err = files{
		{".env", secret}, {".env.local", secret}, {"sub/dir/.env", secret}, {"packages/a/.env", secret}, {"packages/b/.env.production", secret},
		{"deploy/server.pem", "-----BEGIN PRIVATE KEY-----\n" + secret}, {"a/b/c/d/e/f/g/.env", secret}, {"links/.env", secret},
	}.put(f.Work)
	if err != nil {
		return err
	}
	links := filepath.Join(f.Work, "links")
	if err := errors.Join(os.Link(filepath.Join(links, ".env"), filepath.Join(links, "innocent.txt")), os.Symlink(".env", filepath.Join(links, "soft.txt"))); err != nil {
		return err
	}
	for _, c := range f.cases {
		if err := f.makeCase(c, secret); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fixtures) makeCase(c Case, secret string) error {
	dir := filepath.Join(f.Work, "cases", c.ID)
	switch c.Setup {
	case Nothing:
		return put(filepath.Join(dir, "keep", "file"), "kept\n", 0o644)
	case Hidden:
		return files{{".env", secret}, {"sub/.env", secret}, {"keep/file", "kept\n"}}.put(dir)
	}
	deep := filepath.Join(dir, "deep", strings.Repeat("d/", 12))
	return errors.Join(bareGit(filepath.Join(dir, ".git")), bareGit(filepath.Join(deep, ".git")), put(filepath.Join(dir, ".vscode", "settings.json"), "{}\n", 0o644))
}

// bareGit lays a git directory by hand: hundreds of `git init` would take a while.
func bareGit(dir string) error {
	for _, sub := range []string{"objects/info", "refs/heads", "refs/tags", "info"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	return files{{"HEAD", "ref: refs/heads/main\n"}, {"config", "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"}, {"hooks/post-commit.sample", "#!/bin/sh\n"}}.put(dir)
}

// makeGit makes the project a repository with a worktree and a submodule, where git is installed.
func (f *Fixtures) makeGit() error {
	if lookPath("git") == "" {
		return bareGit(filepath.Join(f.Work, ".git"))
	}
	script := `set -e
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.test GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.test
git init -q -b main . && git add . && git commit -qm first
git init -q -b main ../module && (cd ../module && echo m >m && git add m && git commit -qm m)
git -c protocol.file.allow=always submodule --quiet add ../module module && git commit -qm module
git worktree add -q ../tree -b side`
	out, _ := program(f.Work, "sh", "-c", script)
	if _, err := os.Stat(filepath.Join(f.Dir, "tree", ".git")); err != nil {
		return fmt.Errorf("the project's repository: %s: %w", brief(out), err)
	}
	return nil
}

func (f *Fixtures) makeShared(string) error {
	file, err := os.CreateTemp("/tmp", sharedPrefix)
	if err != nil {
		return err
	}
	f.shared = file.Name()
	_, err = file.WriteString(f.token("shared") + "\n")
	var random [4]byte // others may test at the same time
	_, _ = rand.Read(random[:])
	key := int(binary.NativeEndian.Uint32(random[:])&0x7fffffff | 1)
	id, _, errno := syscall.Syscall(unix.SYS_SHMGET, uintptr(key), 4096, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if errno == 0 {
		f.shm, f.Env.Segment = id, key
	}
	name := "casemate-" + hex.EncodeToString([]byte(filepath.Base(f.shared)))
	// The smallest there can be (struct mq_attr): those that killed tests left behind must not use up the user's RLIMIT_MSGQUEUE, which ten ordinary ones do.
	small := [8]int{1: 1, 2: 1} // messages, bytes
	fd, _, errno := syscall.Syscall6(unix.SYS_MQ_OPEN, text(name), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600, uintptr(unsafe.Pointer(&small)), 0, 0)
	if errno == 0 { // a kernel without queues has none to share
		f.Env.Queue = name
		unix.Close(int(fd))
	}
	return errors.Join(err, file.Chmod(0o644), file.Close())
}

func (f *Fixtures) makeListeners(string) error {
	f.Env.Abstract = "casemate-" + f.token("abstract")[len(tokenPrefix):]
	delete(f.tokens, "abstract") // a name, not a secret
	f.Env.Socket = filepath.Join(f.Dir, "outside", "s")
	f.Env.Datagram = filepath.Join(f.Dir, "outside", "d")
	var err error
	f.heard, err = listen(&f.Env)
	return err
}

func (f *Fixtures) makeTarget(probe string) error {
	f.Env.HostMark = "casemate-host-" + f.token("mark")[len(tokenPrefix):]
	delete(f.tokens, "mark")
	said, w, err := os.Pipe()
	if err != nil {
		return err
	}
	stdin, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	f.said, f.stdin = said, hold
	f.target, err = os.StartProcess(probe, []string{"casemate-probe", "target", f.Env.HostMark}, &os.ProcAttr{
		Dir: filepath.Join(f.Dir, "outside"), Env: []string{"HOST_SECRET=" + f.token("process")}, Files: []*os.File{stdin, w, os.Stderr},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	stdin.Close()
	w.Close()
	if err != nil {
		return fmt.Errorf("the host's process: %w", err)
	}
	f.Env.HostPID = f.target.Pid
	return readReady(said)
}

// makeGroup makes a file that only a supplementary group of the caller may read.
func (f *Fixtures) makeGroup(string) error {
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g != os.Getgid() && g != 0 {
			f.Env.HostGID = g
		}
	}
	if f.Env.HostGID == 0 || os.Getuid() != 0 {
		return nil
	}
	f.Env.GroupFile = filepath.Join(f.Dir, "sibling", "group")
	return errors.Join(put(f.Env.GroupFile, f.token("group")+"\n", 0o040), os.Chown(f.Env.GroupFile, 65534, f.Env.HostGID))
}

func chownAll(root string, uid, gid int) error {
	if os.Getuid() != 0 || uid == 0 {
		return nil
	}
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// Close ends the host's process and the listeners, and removes what lies outside Dir. Dir is the caller's.
func (f *Fixtures) Close() error {
	var errs error
	if f.heard != nil {
		f.heard.close()
	}
	if f.stdin != nil {
		errs = errors.Join(errs, f.stdin.Close())
	}
	if f.target != nil {
		_ = f.target.Kill() // an attack may have stopped it
		_, err := f.target.Wait()
		errs = errors.Join(errs, err)
	}
	if f.said != nil {
		errs = errors.Join(errs, f.said.Close())
	}
	if f.shared != "" {
		errs = errors.Join(errs, os.Remove(f.shared))
	}
	if f.Env.Queue != "" {
		_, _, _ = syscall.Syscall(unix.SYS_MQ_UNLINK, text(f.Env.Queue), 0, 0)
	}
	if f.Env.Segment != 0 {
		_, _, _ = syscall.Syscall(unix.SYS_SHMCTL, f.shm, unix.IPC_RMID, 0)
	}
	return errs
}

// listeners is one loop over the host's services. It answers whoever speaks, and keeps what was said.
type listeners struct {
	stop int // a descriptor; closing the other end ends the loop
	hold int
	done sync.WaitGroup

	mu    sync.Mutex
	heard []string
}

// listen opens loopback TCP on both families, loopback UDP, and three unix sockets, and says in e where they are.
func listen(e *Env) (*listeners, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	l := &listeners{stop: pipe[0], hold: pipe[1]}
	if longest := len(unix.RawSockaddrUnix{}.Path) - 1; len(e.Socket) > longest { // unix(7)
		return l, fmt.Errorf("the path of a socket of the host's would be %q, of more than %d bytes: set TMPDIR to a shorter one", e.Socket, longest)
	}
	var fds []unix.PollFd
	fds = append(fds, unix.PollFd{Fd: int32(l.stop), Events: unix.POLLIN})
	add := func(family, kind int, sa unix.Sockaddr) (int, error) {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		if kind == unix.SOCK_STREAM && family != unix.AF_UNIX {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)
		}
		if err := unix.Bind(fd, sa); err != nil {
			return 0, fmt.Errorf("a service of the host's: %w", err)
		}
		if kind == unix.SOCK_STREAM {
			if err := unix.Listen(fd, 64); err != nil {
				return 0, err
			}
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		return fd, nil
	}
	loopback := [4]byte{127, 0, 0, 1}
	tcp, err := add(unix.AF_INET, unix.SOCK_STREAM, &unix.SockaddrInet4{Addr: loopback})
	if err != nil {
		return nil, err
	}
	e.TCPPort = boundPort(tcp)
	// A machine without IPv6 has no ::1 to listen on; the other attacks do not need it.
	_, _ = add(unix.AF_INET6, unix.SOCK_STREAM, &unix.SockaddrInet6{Port: e.TCPPort, Addr: [16]byte{15: 1}})
	udp, err := add(unix.AF_INET, unix.SOCK_DGRAM, &unix.SockaddrInet4{Addr: loopback})
	if err != nil {
		return nil, err
	}
	e.UDPPort = boundPort(udp)
	for _, s := range []struct {
		name string
		kind int
	}{{"@" + e.Abstract, unix.SOCK_STREAM}, {e.Socket, unix.SOCK_STREAM}, {e.Datagram, unix.SOCK_DGRAM}} {
		if _, err := add(unix.AF_UNIX, s.kind, &unix.SockaddrUnix{Name: s.name}); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{e.Socket, e.Datagram} {
		if err := os.Chmod(path, 0o666); err != nil {
			return nil, err
		}
	}
	l.done.Go(func() { l.loop(fds) })
	return l, nil
}

func boundPort(fd int) int {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0
	}
	if in4, ok := sa.(*unix.SockaddrInet4); ok {
		return in4.Port
	}
	return 0
}

func (l *listeners) loop(fds []unix.PollFd) {
	listening := len(fds)
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		if fds[0].Revents != 0 {
			for _, p := range fds {
				unix.Close(int(p.Fd))
			}
			return
		}
		for i := len(fds) - 1; i > 0; i-- {
			if fds[i].Revents == 0 {
				continue
			}
			fd := int(fds[i].Fd)
			if i < listening {
				if conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
					fds = append(fds, unix.PollFd{Fd: int32(conn), Events: unix.POLLIN})
					continue
				}
			}
			if !l.hear(fd) && i >= listening {
				unix.Close(fd)
				fds = slices.Delete(fds, i, i+1)
			}
		}
	}
}

// hear takes one message and answers it. It is false when there will be no more.
func (l *listeners) hear(fd int) bool {
	buf := make([]byte, 4096)
	n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	if err != nil || n == 0 {
		return false
	}
	l.mu.Lock()
	l.heard = append(l.heard, string(buf[:n]))
	l.mu.Unlock()
	if from != nil && hasName(from) {
		_ = unix.Sendto(fd, []byte(answer), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, from)
		return true
	}
	_, _ = unix.SendmsgN(fd, []byte(answer), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return true
}

// hasName is false for the sender of a unix datagram that has none, and of a stream.
func hasName(sa unix.Sockaddr) bool {
	switch a := sa.(type) {
	case *unix.SockaddrUnix:
		return a.Name != ""
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		return true
	}
	return false
}

func (l *listeners) said() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

func (l *listeners) close() {
	unix.Close(l.hold)
	l.done.Wait()
}
