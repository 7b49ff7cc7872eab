#!/usr/bin/env bash
# Installs what the tests need and makes the ordinary user that they also run as. With "bench": what the measurements compare against; with "agents": the
# agents of make test-agents too.
set -euo pipefail

user=casemate-test
want=(tmux:tmux vim:vim less:less htop:htop python3:python3 setpriv:util-linux strace:strace setfattr:attr git:git ssh-keygen:openssh-client
	ip:iproute2 redis-server:redis-server /usr/sbin/sshd:openssh-server psql:postgresql-client curl:curl wget:wget openssl:openssl dbus-daemon:dbus)
[ "${1:-}" = bench ] && want=(bwrap:bubblewrap git:git socat:socat ip:iproute2)

# Packages of servers start them, unless the machine's policy says no: the tests start their own.
no_daemons() {
	[ ! -e /usr/sbin/policy-rc.d ] || return 0
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

# from_npm NAME PACKAGE VERSION [OVERRIDES]: installs a package of exactly that version, once: in a place that the ordinary user can read too. Which
# registry it comes from is npm's configuration; nothing of the package is executed.
from_npm() {
	local cache=${XDG_CACHE_HOME:-$HOME/.cache} name=$1 package=$2 version=$3 overrides=${4:-{\}} dir
	[ "$(id -u)" = 0 ] && cache=/var/cache
	dir=$cache/casemate-test/$name
	[ "$(cat "$dir/done" 2>/dev/null)" != "$version" ] || return 0
	if ! command -v npm >/dev/null; then
		echo "setup: without npm there is no $name to test with" >&2
		return 0
	fi
	rm -rf "$dir"
	mkdir -p "$dir"
	printf '{"private":true,"dependencies":{"%s":"%s"},"overrides":%s}\n' "$package" "$version" "$overrides" >"$dir/package.json"
	(cd "$dir" && npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts) || {
		echo "setup: no $name to test with: npm install $package did not work" >&2
		return 0
	}
	chmod -R a+rX "$cache/casemate-test"
	echo "$version" >"$dir/done"
}

missing=()
for pair in "${want[@]}"; do
	command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
if [ "${1:-}" != bench ]; then
	/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
	/usr/bin/python3 -c 'import pip' 2>/dev/null || missing+=(python3-pip)
fi
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [ "${1:-}" = bench ] || missing+=(postgresql)
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "setup: please install: ${missing[*]}" >&2
		exit 1
	fi
	no_daemons
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ "$(id -u)" = 0 ] && ! id "$user" >/dev/null 2>&1; then
	useradd --create-home --shell /bin/bash "$user"
fi
# The versions that presets say they were tested with.
from_npm codex @openai/codex 0.169.0
[ "${1:-}" != bench ] || exit 0
from_npm claude @anthropic-ai/claude-code 2.1.330
# verdaccio asks for node-fetch by a tag, which registries that mirror another may not have
from_npm verdaccio verdaccio 6.3.2 '{"node-fetch":"2.7.0"}'
from_npm pnpm pnpm 10.12.1
from_npm yarn yarn 1.22.22
from_npm yarn4 @yarnpkg/cli-dist 4.9.2
[ "${1:-}" = agents ] || exit 0
from_npm gemini @google/gemini-cli 0.61.0
from_npm qwen @qwen-code/qwen-code 0.15.10
from_npm opencode opencode-ai 1.18.33
