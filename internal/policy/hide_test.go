package policy

import (
	"strings"
	"testing"
)

func TestBuiltinHide(t *testing.T) {
	var patterns []string
	seen := map[string]bool{}
	for _, r := range BuiltinHide() {
		if r.Reason == "" || seen[r.Pattern] {
			t.Errorf("%s: no reason, or twice", r.Pattern)
		}
		if _, err := pattern(r.Pattern); err != nil {
			t.Error(err)
		}
		seen[r.Pattern] = true
		patterns = append(patterns, r.Pattern)
	}
	p := mustPaths(t, patterns...)
	hidden := func(path string) bool {
		h, _ := p.Match(strings.TrimSuffix(path, "/"), strings.HasSuffix(path, "/"))
		return h
	}
	for path := range strings.FieldsSeq(`
		.env a/b/.env .env.local .env.production x/.env.d .dev.vars .secrets .envrc.local
		server.pem certs/privkey.pem config/master.key AuthKey_X.p8 a.p12 a.pfx upload-keystore.jks release.keystore x.keytab
		.ssh/config .ssh/known_hosts id_rsa deploy/id_ed25519 ssh_host_rsa_key .gnupg/private-keys-v1.d/x
		.aws/credentials home/.aws/sso/cache/x.json .config/gcloud/access_tokens.db a/.config/gcloud/x service-account-prod.json
		x-firebase-adminsdk-abc.json client_secret_123.apps.googleusercontent.com.json user_accessKeys.csv
		.kube/config a/.kube/config prod.kubeconfig .docker/config.json terraform.tfstate env/terraform.tfstate.backup .vault-token .vault_pass.txt
		.netrc .git-credentials .config/gh/hosts.yml .pgpass .my.cnf .pypirc .cargo/credentials.toml .m2/settings.xml auth.json .composer/auth.json
		.env~ .env.local~ .env.swp a/.server.key.swp .id_rsa.swo server.key~ certs/x.pem~ id_ed25519~ a/#.env#
		.claude/.credentials.json .claude/.credentials.json.casemate-0123456789abcdef .codex/auth.json android/key.properties .vscode/sftp.json .vagrant/machines/default/virtualbox/private_key`) {
		if !hidden(path) {
			t.Errorf("%s is not hidden", path)
		}
	}
	for path := range strings.FieldsSeq(`
		.env.example a/.env.sample .env.template .envrc env env/ .environment src/env.d.ts environment.yml
		.venv/lib/python3/site-packages/certifi/cacert.pem certs/ca-bundle.pem jwt.pub.pem server.crt ca.cer x.csr id_rsa.pub id_rsa_test.go ssh_host_rsa_key.pub
		debug.keystore keystore/ key.go keys.json keyboard.ts monkey.py i18n/en/auth.json src/token.json service_accounts.go
		main.go~ .swp sw.go .a.sws.go notes.swp #main.go# id_rsa.pub
		.npmrc .yarnrc.yml pip.conf gradle.properties prod.tfvars charts/x/templates/secrets.yaml
		.kube/deploy.yaml docker/config.json config.json pkg/kubeconfig/ credentials.go config/credentials.yml.enc .config/git/config
		package-lock.json .git/config .github/workflows/ci.yml .claude/settings.json .vscode/settings.json hosts.yml`) {
		if hidden(path) {
			t.Errorf("%s is hidden", path)
		}
	}
}
