package test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bundle is where the sandbox has the authorities of the host: a private one is among them here. Not every runtime reads it by itself.
const bundle = "/etc/ssl/certs/ca-certificates.crt"

// atHome writes a file of the person's home.
func (s *site) atHome(name, content string) {
	s.t.Helper()
	writeDeep(s.t, filepath.Join(s.Home, name), content)
}

// TestRealNpm installs from verdaccio, which only the person's own configuration names.
func TestRealNpm(t *testing.T) {
	needs(t, "npm")
	servedOnce(t, func(t *testing.T, s *site) {
		s.atHome(".npmrc", "registry=https://npm.example/\n//npm.example/:_authToken=TOKEN\n")
		s.put("package.json", `{"private":true,"dependencies":{"greet":"^1.0.0"}}`, 0o644)
		s.Accept()
		s.does(job{
			tell: []string{"--env", "npm_config_fetch_retries=0", "--env", "npm_config_registry=https://npm.example/"},
			rule: []string{"--preset", "npm"},
			line: `rm -rf node_modules && npm install --no-fund 2>&1 && node -p 'require("greet")'`,
			want: greeting, name: "npm.example", ports: "443",
		})

		// Publishing is no part of it, whatever credential there is.
		name := "pub" + s.unique()
		publish := []string{"--env", "npm_config_fetch_retries=0", "--", "sh", "-c",
			`mkdir -p pub && cd pub && echo '{"name":"` + name + `","version":"1.0.0"}' >package.json && echo '//npm.example/:_authToken=x' >.npmrc && npm publish 2>&1`}
		out := s.run(slices.Concat([]string{"--preset", "npm"}, publish)...)
		if out.exit == 0 || !strings.Contains(out.stdout, "403") {
			t.Errorf("npm publish: %v", out)
		}
		has(t, "npm publish", out.stderr, "no rule allows PUT /"+name+" at npm.example:443")
		has(t, "casemate net", s.do("net").stdout, "no rule allows PUT /"+name+" at npm.example:443")
		if out := s.outside("curl -sS -o /dev/null -w '%{http_code}' https://npm.example/" + name); out.stdout != "404" {
			t.Errorf("after npm publish the registry answers %v", out)
		}
		out = s.run(slices.Concat([]string{"--allow", "npm.example", "--env", "npm_config_registry=https://npm.example/", "--env", "NODE_EXTRA_CA_CERTS=" + bundle}, publish)...)
		if out.exit != 0 || !strings.Contains(out.stdout, "+ "+name+"@1.0.0") {
			t.Errorf("control: npm publish with a rule for the whole host: %v", out)
		}
	}, "verdaccio")
}

// TestRealGo gets a module from a file server over what the go command keeps, through the proxy that the person's go env names.
func TestRealGo(t *testing.T) {
	needs(t, "go")
	servedOnce(t, func(t *testing.T, s *site) {
		s.atHome(".config/go/env", "GOPROXY=https://go.example\nGOSUMDB=off\n")
		s.put("go.mod", "module test.example/m\n\ngo 1.21\n", 0o644)
		s.put("main.go", "package main\n\nimport \"greet.example/greet\"\n\nfunc main() { println(greet.Hello) }\n", 0o644)
		s.Accept()
		s.does(job{
			tell: []string{"--env", "PATH=" + filepath.Dir(goProgram(t)) + ":/usr/bin:/bin", "--env", "GOPROXY=https://go.example", "--env", "GOSUMDB=off"},
			rule: []string{"--preset", "go"},
			line: `go get greet.example/greet && go mod download && go list -m all 2>&1 && cat $(go list -m -f '{{.Dir}}' greet.example/greet)/greet.go`,
			want: greeting, name: "go.example", ports: "443",
		})
	})
}

func goProgram(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRealPip downloads a wheel from a static index, from which Python imports it.
func TestRealPip(t *testing.T) {
	servedOnce(t, func(t *testing.T, s *site) {
		if out := s.outside("python3 -m pip --version"); out.exit != 0 {
			t.Fatal("python3 has no pip: test/setup.sh installs it")
		}
		s.atHome(".config/pip/pip.conf", "[global]\nindex-url = https://pypi.example/simple/\n")
		s.does(job{
			tell: []string{"--env", "PIP_INDEX_URL=https://pypi.example/simple/", "--env", "PIP_RETRIES=0", "--env", "PIP_DISABLE_PIP_VERSION_CHECK=1"},
			rule: []string{"--preset", "pypi"},
			line: `python3 -m pip download --quiet greet && PYTHONPATH=greet-1.0.0-py3-none-any.whl python3 -c 'import greet; print(greet.hello)'`,
			want: greeting, name: "pypi.example", ports: "443",
		})
	})
}

// TestRealApt downloads a package with apt, which is told its sources, as /etc/apt is not inside.
func TestRealApt(t *testing.T) {
	needs(t, "apt-get")
	needs(t, "dpkg-deb")
	servedOnce(t, func(t *testing.T, s *site) {
		s.put("apt/sources.list", "deb [trusted=yes] https://deb.example/ ./\n", 0o644)
		s.put("plain/sources.list", "deb [trusted=yes] http://deb.example/ ./\n", 0o644)
		s.put("apt/status", "", 0o644)
		s.Accept()
		apt := `apt-get -q -o Dir::Etc=$PWD/apt -o Dir::State=$PWD/apt -o Dir::State::status=$PWD/apt/status -o Dir::Cache=$PWD/apt -o Acquire::Retries=0 -o APT::Sandbox::User= -o Debug::NoLocking=1 `
		line := `mkdir -p apt/lists/partial apt/archives/partial && ` + apt + `update --error-on=any && ` + apt + `install -y -d greet && dpkg-deb -x apt/archives/greet_1.0.0_all.deb out && cat out/usr/share/greet/hello`
		s.does(job{rule: []string{"--preset", "debian"}, line: line, want: greeting, name: "deb.example", ports: "443"})
		line = `rm -rf out apt/archives apt/lists && cp plain/sources.list apt && ` + line // most machines have plain HTTP, over which apt asks without waiting
		s.does(job{rule: []string{"--preset", "debian"}, line: line, want: greeting, name: "deb.example", ports: "80"})
	})
}
