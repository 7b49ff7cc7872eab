package test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// serversVariable asks a world for real servers beside its own hosts.
const serversVariable = "CASEMATE_TEST_WORLD_SERVERS"

// behind is where the servers themselves listen, in the hosts' network. Nobody looks this address up: the hosts pass on to it, and tell.
const behind = "203.0.113.90"

// realHosts are the hosts that real servers stand behind. db.example is a machine of a private network.
var realHosts = map[string]string{
	"npm.example": "203.0.113.20", "go.example": "203.0.113.21", "pypi.example": "203.0.113.22", "deb.example": "203.0.113.23", "git.example": "203.0.113.24",
	"live.example": "203.0.113.26", "mirror.example": "203.0.113.27", "db.example": "10.1.2.25",
}

// overTLS answers for real hosts by name; set before the world serves.
var overTLS = map[string]http.Handler{}

// server is a program that listens behind.
type server struct {
	name string
	port int
	argv []string
	ends syscall.Signal // the signal that it ends by, with its children
	then func() error   // done once it listens
}

// serveReal begins the servers: on the thread that is in the hosts' network, whose children are too.
func serveReal(dir string) error {
	if os.Getenv(serversVariable) == "" {
		return nil
	}
	if err := ip("addr add " + behind + "/32 dev lo"); err != nil {
		return err
	}
	for _, a := range realHosts {
		if err := ip("addr add " + a + "/32 dev lo"); err != nil {
			return err
		}
	}
	for host, root := range map[string]string{"go.example": "go", "pypi.example": "pypi", "deb.example": "deb"} {
		overTLS[host] = http.FileServer(http.Dir(filepath.Join(dir, root)))
	}
	verdaccio := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind + ":4873"})
	verdaccio.Transport = &http.Transport{} // no proxy of the environment's
	verdaccio.ErrorLog = log.New(io.Discard, "", 0)
	overTLS["npm.example"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("X-Forwarded-Proto", "https") // its packages' addresses begin with it
		verdaccio.ServeHTTP(w, r)
	})
	overTLS["mirror.example"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // a registry below a path, as mirrors are
		r.URL.Path = "/" + strings.TrimLeft(strings.TrimPrefix(r.URL.Path, "/npm/"), "/")
		overTLS["npm.example"].ServeHTTP(w, r)
	})
	overTLS["git.example"] = gitBackend(dir)
	overTLS["live.example"] = live()
	for _, r := range [][2]string{{"git.example", "2222"}, {"mirror.example", "2222"}, {"db.example", "5432"}, {"db.example", "6379"}} {
		l, err := net.Listen("tcp", net.JoinHostPort(realHosts[r[0]], r[1]))
		if err != nil {
			return err
		}
		go passOn(toldListener{l}, r[1])
	}
	err := layWares(dir)
	list, missing := servers(dir)
	err = errors.Join(err, missing)
	for _, s := range list {
		err = errors.Join(err, s.start(dir))
	}
	return err
}

// serveLoopback offers the databases on the loopback of the network that casemate runs in, as a person's own are.
func serveLoopback() error {
	if os.Getenv(serversVariable) == "" {
		return nil
	}
	for _, port := range []string{"5432", "6379"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		go passOn(toldListener{l}, port)
	}
	return nil
}

// passOn gives each connection to the server behind, whole.
func passOn(l net.Listener, port string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			up, err := net.Dial("tcp", net.JoinHostPort(behind, port))
			if err != nil {
				return
			}
			defer up.Close()
			go func() { io.Copy(up, c); up.(*net.TCPConn).CloseWrite() }()
			io.Copy(c, up)
		}()
	}
}

// serverUser is who the servers run as: an ordinary user, as PostgreSQL demands. As root that is the one that the tests run as too.
func serverUser() (*user.User, error) {
	if os.Getuid() == 0 {
		return user.Lookup("casemate-test")
	}
	return user.Current()
}

// servers are those whose programs are here.
func servers(dir string) (list []server, err error) {
	who, err := serverUser()
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	own := filepath.Join(dir, "servers")
	if err := errors.Join(os.Mkdir(own, 0o755), os.Chown(own, uid, gid)); err != nil {
		return nil, err
	}
	if main := verdaccioMain(); main != "" {
		config := filepath.Join(dir, "verdaccio.yaml")
		text := "storage: " + own + "/npm\nuplinks: {}\npackages: {'**': {access: $all, publish: $all}}\nweb: {enable: false}\nlog: {type: stdout, level: error}\n"
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			return nil, err
		}
		list = append(list, server{"verdaccio", 4873, []string{"node", main, "--config", config, "--listen", behind + ":4873"}, syscall.SIGTERM, publishNpm})
	}
	if bin := postgresBin(); bin != "" {
		script := `PATH=$1:$PATH; cd "$2" && initdb -D pg -A trust -N -E UTF8 --locale=C -U app >/dev/null && cp "$3" pg/server.crt && cp "$4" pg/server.key && chmod 600 pg/server.key &&
exec postgres -D pg -h ` + behind + ` -k "$2" -F -c ssl=on -c shared_buffers=8MB -c max_connections=10 -c logging_collector=off -c log_min_messages=fatal \
-c hba_file="$5"`
		hba := filepath.Join(dir, "pg_hba.conf")
		if err := os.WriteFile(hba, []byte("host all all 0.0.0.0/0 trust\n"), 0o644); err != nil {
			return nil, err
		}
		list = append(list, server{"postgres", 5432, []string{"sh", "-c", script, "sh", bin, own, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "key.pem"), hba}, syscall.SIGQUIT, nil})
	}
	if path, err := exec.LookPath("redis-server"); err == nil {
		list = append(list, server{"redis", 6379, []string{path, "--bind", behind, "--port", "6379", "--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", own}, syscall.SIGTERM, nil})
	}
	if path := sshd(); path != "" {
		script := `cd "$1" && ssh-keygen -q -t ed25519 -N '' -f host_key && ssh-keygen -q -t ecdsa -N '' -f host_key_ecdsa && : >authorized_keys && chmod 666 authorized_keys && git init -q --bare ssh.git && exec "$2" -D -e -f /dev/null \
-o ListenAddress=` + behind + `:2222 -o HostKey="$1/host_key" -o HostKey="$1/host_key_ecdsa" -o AuthorizedKeysFile="$1/authorized_keys" -o StrictModes=no -o PidFile=none -o PasswordAuthentication=no -o UsePAM=no`
		list = append(list, server{"sshd", 2222, []string{"sh", "-c", script, "sh", own, path}, syscall.SIGTERM, nil})
	}
	return list, nil
}

// ends are what end the servers that were begun, and wait until they have.
var ends []func()

// start begins it, and tells when it listens or when it ended.
func (s server) start(dir string) error {
	who, err := serverUser()
	if err != nil {
		return err
	}
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir = filepath.Join(dir, "servers")
	cmd.Env = []string{"HOME=" + cmd.Dir, "USER=" + who.Username, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "NO_UPDATE_NOTIFIER=1", "GIT_CONFIG_NOSYSTEM=1"}
	words, err := os.Create(filepath.Join(dir, s.name+".log"))
	if err != nil {
		return err
	}
	defer words.Close()
	cmd.Stdout, cmd.Stderr = words, words
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: s.ends}
	if os.Getuid() == 0 {
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	over := make(chan struct{})
	go func() { fmt.Println("ended", s.name, cmd.Wait()); close(over) }()
	ends = append(ends, func() {
		_ = cmd.Process.Signal(s.ends)
		select {
		case <-over:
		case <-time.After(5 * time.Second): // it ends with this process
		}
	})
	go func() {
		for {
			c, err := net.Dial("tcp", net.JoinHostPort(behind, strconv.Itoa(s.port)))
			if err == nil {
				c.Close()
				if s.then != nil {
					err = s.then()
				}
				fmt.Println("serving", s.name)
				if err != nil {
					fmt.Println("ended", s.name, err)
				}
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return nil
}

// gitBackend serves repositories the way every git host does.
func gitBackend(dir string) http.Handler {
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return http.NotFoundHandler()
	}
	return &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Join(dir, "git"), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "REMOTE_USER=pusher", "GIT_CONFIG_COUNT=1",
			"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
}

// realAddress is a real host's address, for the world's name server.
func realAddress(name string) []netip.Addr {
	if a, ok := modelHosts[name]; ok && os.Getenv(modelsVariable) != "" {
		return []netip.Addr{netip.MustParseAddr(a)}
	}
	if a, ok := realHosts[name]; ok && os.Getenv(serversVariable) != "" {
		return []netip.Addr{netip.MustParseAddr(a)}
	}
	return nil
}

// byName answers for a real host, else as every host of the world does.
func byName(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if h := overTLS[host]; h != nil {
		h.ServeHTTP(w, r)
		return
	}
	if host == "s3.allowed.example" {
		serveS3(w, r)
		return
	}
	page(w, r)
}
