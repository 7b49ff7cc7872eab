package test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRealNodeManagers installs with what many projects use in npm's place, from verdaccio, which only the person's npmrc names. Each takes seconds, so it does
// that in one of the suite's two runs.
func TestRealNodeManagers(t *testing.T) {
	needs(t, "node")
	root := os.Getuid() == 0
	for _, c := range []struct {
		name, preset, program, install string
		root                           bool
	}{
		{"pnpm", "pnpm", "pnpm/node_modules/pnpm/bin/pnpm.cjs", "install", true},
		{"yarn 1", "yarn", "yarn/node_modules/yarn/bin/yarn.js", "install --non-interactive", false},
		{"yarn 4", "yarn", "yarn4/node_modules/@yarnpkg/cli-dist/bin/yarn.js", "install", true},
	} {
		if c.root != root {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			program := fromNpm(c.program)
			if program == "" {
				t.Skip(c.name + " is not installed: test/setup.sh does it")
			}
			servedOnce(t, func(t *testing.T, s *site) {
				s.atHome(".npmrc", "registry=https://npm.example/\n//npm.example/:_authToken=TOKEN\n")
				s.put("package.json", `{"private":true,"dependencies":{"greet":"^1.0.0"}}`, 0o644)
				s.Accept()
				s.does(job{
					tell: []string{
						"--fresh", "--read", filepath.Dir(filepath.Dir(program)), "--env", "npm_config_fetch_retries=0", "--env", "npm_config_registry=https://npm.example/",
						"--env", "YARN_NPM_REGISTRY_SERVER=https://npm.example", "--env", "YARN_HTTP_RETRY=0", "--env", "YARN_NODE_LINKER=node-modules",
					},
					rule: []string{"--preset", c.preset},
					line: `node ` + program + ` ` + c.install + ` 2>&1 && node -p 'require("greet")'`,
					want: greeting, name: "npm.example", ports: "443",
				})
			}, "verdaccio")
		})
	}
}
