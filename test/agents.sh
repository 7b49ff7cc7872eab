#!/usr/bin/env bash
# Runs the real agents, each at the version that its preset names, as an ordinary user: they are no root's.
set -euo pipefail
cd "$(dirname "$0")/.."

user=casemate-test
work=$(mktemp -d /var/tmp/casemate-agents.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cp -r bin "$work/bin"
go test -c -tags agents -o "$work/agents.test" ./test
chmod -R a+rX "$work"
run=(env)
if [ "$(id -u)" = 0 ]; then
	mkdir "$work/home"
	chown "$user:" "$work/home"
	run=(setpriv --reuid="$user" --regid="$user" --init-groups env -i HOME="$work/home" USER="$user" LOGNAME="$user" SHELL=/bin/bash LANG=C.UTF-8 TERM=xterm PATH="$PATH" TMPDIR=/tmp)
fi
cd test
"${run[@]}" CASEMATE_BIN="$work/bin/casemate" CASEMATE_PROBE="$work/bin/casemate-probe" "$work/agents.test" -test.v -test.timeout 20m -test.run 'TestAgent|TestMoreAgent'
