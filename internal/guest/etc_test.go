package guest

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func etcOptions() EtcOptions {
	o := EtcOptions{UID: os.Getuid(), GID: os.Getgid(), Name: "u", Home: "/home/u", Shell: "/bin/bash", Hostname: "casemate", GitConfig: []byte("[user]\n\tname = \"U\"\n")}
	if o.UID == 0 {
		o.UID, o.GID = 2000, 2000 // what root makes belongs to the sandbox's user
	}
	return o
}

// hostEtc is a host's /etc with everything that must and must not come along.
func hostEtc(t *testing.T) string {
	dir := tree(t, map[string]string{
		"shadow":                         "!600 " + secret,
		"npmrc":                          "//registry/:_authToken=" + secret,
		"environment":                    secret,
		"passwd":                         secret,
		"profile":                        secret,
		"resolv.conf":                    secret,
		"ssh/ssh_config":                 secret,
		"ssh/ssh_host_rsa_key":           secret,
		"ssh/ssh_known_hosts":            "server ssh-rsa AAAA",
		"ssl/private/key.pem":            secret,
		"ssl/openssl.cnf":                "conf",
		"ssl/certs/ca.pem":               "CA",
		"ssl/certs/0a1b.0":               "->ca.pem",
		"ssl/certs/mozilla.pem":          "->/usr/share/ca-certificates/mozilla/x.crt",
		"ssl/certs/moved.pem":            "->{}/elsewhere/bundle.pem",
		"ssl/certs/stolen.pem":           "->../private/key.pem",
		"ssl/certs/shadow.pem":           "->{}/shadow",
		"ssl/certs/host.pem":             "->../../ssh/ssh_host_rsa_key",
		"ssl/certs/private.pem":          "!600 " + secret,
		"ssl/certs/gone.pem":             "->/nowhere/at/all",
		"ssl/certs/fifo":                 "fifo",
		"ssl/certs/closed/":              "!700 ",
		"ssl/certs/loop":                 "->../certs",
		"elsewhere/bundle.pem":           "BUNDLE",
		"alternatives/java":              "->/usr/lib/jvm/bin/java",
		"maven/m2.conf":                  "m2",
		"maven/settings.xml":             secret,
		"java-21-openjdk/security/j.sec": "java",
		"java-21-openjdk/management/jmxremote.password": secret,
		"localtime":     "->/usr/share/zoneinfo/UTC",
		"os-release":    "->../usr/lib/os-release",
		"alpine-relese": "no row",
		"fonts/run.sh":  "#!/bin/sh\n",

		"ssl/certs/closed.pem":   "->{}/closed/readable.pem",
		"closed/":                "!700 ",
		"closed/readable.pem":    secret,
		"ssl/certs/directory":    "->{}/elsewhere",
		"default/locale":         "LANG=C.UTF-8",
		"default/other":          secret,
		"alternatives/opt":       "->/opt/x/bin/x",
		"crypto-policies/config": "DEFAULT",
	})
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // as everybody reaches /etc
		t.Fatal(err)
	}
	return dir
}

func TestEtcHoldsWhatItShould(t *testing.T) {
	host, dir := hostEtc(t), t.TempDir()
	o := etcOptions()
	got, err := etcFrom(host, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if leaks := holdsSecret(t, got.Path); len(leaks) > 0 {
		t.Errorf("secrets in %v", leaks)
	}
	for name, want := range map[string]string{
		"ssl/certs/ca.pem":               "CA",
		"ssl/certs/0a1b.0":               "->ca.pem",
		"ssl/certs/mozilla.pem":          "->/usr/share/ca-certificates/mozilla/x.crt",
		"ssl/certs/moved.pem":            "BUNDLE",
		"ssl/openssl.cnf":                "conf",
		"ssh/ssh_known_hosts":            "server ssh-rsa AAAA",
		"alternatives/java":              "->/usr/lib/jvm/bin/java",
		"maven/m2.conf":                  "m2",
		"java-21-openjdk/security/j.sec": "java",
		"localtime":                      "->/usr/share/zoneinfo/UTC",
		"mtab":                           "->/proc/self/mounts",
		"ssl/certs/directory/bundle.pem": "BUNDLE",
		"default/locale":                 "LANG=C.UTF-8",
		"alternatives/opt":               "->/opt/x/bin/x",
		"hostname":                       "casemate\n",
		"gitconfig":                      "[user]\n\tname = \"U\"\n",
	} {
		if have := content(filepath.Join(got.Path, name)); have != want {
			t.Errorf("%s: %q, want %q", name, have, want)
		}
	}
	for _, name := range []string{"shadow", "npmrc", "environment", "ssl/private", "ssh/ssh_host_rsa_key", "maven/settings.xml", "alpine-relese", "machine-id", "elsewhere",
		"ssl/certs/stolen.pem", "ssl/certs/shadow.pem", "ssl/certs/host.pem", "ssl/certs/private.pem", "ssl/certs/gone.pem", "ssl/certs/fifo", "ssl/certs/closed", "ssl/certs/closed.pem", "default/other", "ld.so.preload"} {
		if have := content(filepath.Join(got.Path, name)); have != "" {
			t.Errorf("%s is there: %q", name, have)
		}
	}
	checkModes(t, got.Path, o)
}

func content(p string) string {
	if link, err := os.Readlink(p); err == nil {
		return "->" + link
	}
	b, err := os.ReadFile(p)
	if st, err := os.Lstat(p); err == nil && st.IsDir() {
		return "a directory"
	}
	if err != nil {
		return ""
	}
	return string(b)
}

func checkModes(t *testing.T, dir string, o EtcOptions) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if sys := st.Sys().(*syscall.Stat_t); int(sys.Uid) != o.UID || int(sys.Gid) != o.GID {
			t.Errorf("%s belongs to %d:%d", p, sys.Uid, sys.Gid)
		}
		switch mode := st.Mode(); {
		case mode.IsDir() && mode.Perm() == 0o755, mode.IsRegular() && mode == 0o644, mode.IsRegular() && mode == 0o755, mode.Type() == fs.ModeSymlink:
		default:
			t.Errorf("%s has mode %v", p, mode)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEtcNames(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*EtcOptions)
		passwd string
		group  string
	}{
		{"ordinary", func(o *EtcOptions) { o.UID, o.GID = 1000, 1001 }, "root:x:0:0::/root:/usr/sbin/nologin\nu:x:1000:1001::/home/u:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n", "root:x:0:\nu:x:1001:\nnogroup:x:65534:\n"},
		{"no shell", func(o *EtcOptions) { o.UID, o.GID, o.Shell = 1, 1, "" }, "root:x:0:0::/root:/usr/sbin/nologin\nu:x:1:1::/home/u:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n", "root:x:0:\nu:x:1:\nnogroup:x:65534:\n"},
		{"as nobody", func(o *EtcOptions) { o.UID, o.GID, o.Name = 65534, 65534, "nobody" }, "root:x:0:0::/root:/usr/sbin/nologin\nnobody:x:65534:65534::/home/u:/bin/bash\n", "root:x:0:\nnobody:x:65534:\n"},
		{"as root", func(o *EtcOptions) { o.UID, o.GID, o.Name = 0, 0, "root" }, "root:x:0:0::/home/u:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n", "root:x:0:\nnogroup:x:65534:\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := etcOptions()
			c.change(&o)
			if got := passwd(o); got != c.passwd {
				t.Errorf("passwd:\n%s", got)
			}
			if got := group(o); got != c.group {
				t.Errorf("group:\n%s", got)
			}
		})
	}
}

func TestEtcRefusesNamesThatAreMore(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*EtcOptions)
	}{
		{"a second account", func(o *EtcOptions) { o.Name = "u:x:0:0::/:/bin/sh\nv" }},
		{"a field", func(o *EtcOptions) { o.Home = "/home/u:/bin/x" }},
		{"a line in the shell", func(o *EtcOptions) { o.Shell = "/bin/sh\nx" }},
		{"a line in the host name", func(o *EtcOptions) { o.Hostname = "a\n1.2.3.4 api.example.com" }},
		{"a line in the resolver", func(o *EtcOptions) { o.Resolver = "127.0.0.1\nsearch x" }},
		{"no name", func(o *EtcOptions) { o.Name = "" }},
		{"relative home", func(o *EtcOptions) { o.Home = "u" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := etcOptions()
			c.change(&o)
			if got, err := Etc(t.TempDir(), o); err == nil {
				t.Errorf("made %s", got.Path)
			}
		})
	}
}

func TestEtcTable(t *testing.T) {
	rows, all := etcRows(), made(etcOptions())
	seen := map[string]bool{}
	for _, r := range rows {
		if r.reason == "" || seen[r.path] || path.IsAbs(r.path) || r.path != path.Clean(r.path) {
			t.Errorf("row %+v: no reason, twice, or not a clean relative path", r)
		}
		seen[r.path] = true
		if _, err := path.Match(r.path, "x"); err != nil {
			t.Errorf("%s: %v", r.path, err)
		}
		if _, ok := all[r.path]; ok != (r.how == ourOwn) {
			t.Errorf("%s: made %v, how %s", r.path, ok, r.how)
		}
		if slices.Contains(etcNever(), r.path) {
			t.Errorf("%s is in the list of what never comes", r.path)
		}
	}
	for name := range all {
		if !seen[name] {
			t.Errorf("%s is made and has no row with a reason", name)
		}
	}
}

// settle calls Etc until what it returns was not built in this call: what has just been made is not believed yet.
func settle(t *testing.T, host, dir string, o EtcOptions) *Tree {
	t.Helper()
	last := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		got, err := etcFrom(host, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if got.Path == last {
			return got
		}
		last = got.Path
		got.Close()
	}
	t.Fatal("never the same tree twice")
	return nil
}

func TestEtcIsKept(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, host string, o *EtcOptions)
		same   bool
	}{
		{"nothing changed", func(*testing.T, string, *EtcOptions) {}, true},
		{"an entry of a watched directory", func(t *testing.T, host string, _ *EtcOptions) {
			plant(t, host, map[string]string{"ssl/certs/new.pem": "NEW"})
		}, false},
		{"a link that is replaced", func(t *testing.T, host string, _ *EtcOptions) {
			os.Remove(host + "/alternatives/java")
			plant(t, host, map[string]string{"alternatives/java": "->/usr/lib/jvm2/bin/java"})
		}, false},
		{"a file that a link led out to", func(t *testing.T, host string, _ *EtcOptions) {
			plant(t, host, map[string]string{"elsewhere/bundle.pem": "BUNDLE 2"})
		}, false},
		{"a file that /etc gets", func(t *testing.T, host string, _ *EtcOptions) {
			plant(t, host, map[string]string{"services": "ssh 22/tcp"})
		}, false},
		{"another user", func(_ *testing.T, _ string, o *EtcOptions) { o.Name = "v" }, false},
		{"another git identity", func(_ *testing.T, _ string, o *EtcOptions) { o.GitConfig = []byte("[user]\n") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, dir, o := hostEtc(t), t.TempDir(), etcOptions()
			first := settle(t, host, dir, o)
			defer first.Close()
			c.change(t, host, &o)
			second, err := etcFrom(host, dir, o)
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			if (first.Path == second.Path) != c.same {
				t.Errorf("first %s\nthen  %s", first.Path, second.Path)
			}
		})
	}
}

// A damaged or half-removed generation must not be used.
func TestEtcDistrustsDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(generation string) error
	}{
		{"no stamp, as after half a removal", func(g string) error { return os.Remove(g + "/stamp") }},
		{"stamp cut off", func(g string) error { return os.Truncate(g+"/stamp", 40) }},
		{"stamp empty", func(g string) error { return os.Truncate(g+"/stamp", 0) }},
		{"stamp is a link", func(g string) error {
			if err := os.Rename(g+"/stamp", g+"/s"); err != nil {
				return err
			}
			return os.Symlink("s", g+"/stamp")
		}},
		{"of an earlier start of the machine", func(g string) error {
			b, err := os.ReadFile(g + "/stamp")
			if err != nil {
				return err
			}
			f := strings.Split(string(b), "\x00")
			f[2] = "1000"
			return os.WriteFile(g+"/stamp", []byte(strings.Join(f, "\x00")), 0o600)
		}},
		{"yesterday's", func(g string) error {
			b, err := os.ReadFile(g + "/stamp")
			if err != nil {
				return err
			}
			f := strings.Split(string(b), "\x00")
			f[1] = fmt.Sprint(time.Now().Add(-25 * time.Hour).Unix())
			return os.WriteFile(g+"/stamp", []byte(strings.Join(f, "\x00")), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, dir, o := hostEtc(t), t.TempDir(), etcOptions()
			first := settle(t, host, dir, o)
			first.Close()
			if err := c.damage(filepath.Dir(first.Path)); err != nil {
				t.Fatal(err)
			}
			second, err := etcFrom(host, dir, o)
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			if first.Path == second.Path {
				t.Error("used the damaged one")
			}
		})
	}
}

func TestEtcRemovesOnlyWhatNobodyUses(t *testing.T) {
	host, dir, o := hostEtc(t), t.TempDir(), etcOptions()
	used := settle(t, host, dir, o)
	old := func() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			then := time.Now().Add(-time.Hour)
			if e.Type() != fs.ModeSymlink {
				if err := os.Chtimes(filepath.Join(dir, e.Name()), then, then); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	next := func() string {
		plant(t, host, map[string]string{"ssl/certs/" + fmt.Sprint(time.Now().UnixNano()): "x"})
		old()
		got, err := etcFrom(host, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		got.Close()
		return got.Path
	}
	second := next()
	if content(used.Path+"/hostname") == "" {
		t.Error("a tree in use was removed")
	}
	third := next()
	if content(second+"/hostname") != "" {
		t.Error("a tree that nobody uses or points at stays")
	}
	used.Close()
	next()
	if content(used.Path+"/hostname") != "" || content(third+"/hostname") != "" {
		t.Error("a tree stays after it was closed")
	}
}

func TestEtcBuildersAtOnce(t *testing.T) {
	host, dir, o := hostEtc(t), filepath.Join(t.TempDir(), "not", "there", "yet"), etcOptions()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				got, err := etcFrom(host, dir, o)
				if err != nil {
					t.Error(err)
					return
				}
				if content(got.Path+"/hostname") != "casemate\n" {
					t.Errorf("%s is not whole", got.Path)
				}
				got.Close()
			}
		})
	}
	all.Wait()
	links, err := filepath.Glob(dir + "/*.link")
	if err != nil || len(links) > 0 {
		t.Errorf("left: %v %v", links, err)
	}
}

// TestEtcPlaces: there is something to mount on for what is shown of the host's /etc; what is there already stays, and no link is followed.
func TestEtcPlaces(t *testing.T) {
	host, o := hostEtc(t), etcOptions()
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(host, "alternatives", "out")); err != nil {
		t.Fatal(err)
	}
	o.Places = []string{"apt/", "cron.d/deep/job", "ssl/openssl.cnf", "alternatives/java/x", "alternatives/out/x"}
	e, err := etcFrom(host, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if st, err := os.Lstat(filepath.Join(e.Path, "apt")); err != nil || !st.IsDir() {
		t.Errorf("apt: %v %v", st, err)
	}
	for name, want := range map[string]string{"cron.d/deep/job": "", "ssl/openssl.cnf": "conf"} {
		if got, err := os.ReadFile(filepath.Join(e.Path, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) > 0 {
		t.Errorf("made where a link leads: %v %v", names, err)
	}
}
