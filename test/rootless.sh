#!/usr/bin/env bash
# rootless.sh WORK: runs the compiled tests in WORK/tests as an ordinary user, in a copy of the tree that the user can read.
set -euo pipefail
cd "$(dirname "$0")/.."

user=casemate-test
work=$1
mkdir "$work/home" "$work/tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} cp --parents {} "$work/tree/" 2>/dev/null || true
git clone -q . "$work/tree/.clone" && mv "$work/tree/.clone/.git" "$work/tree/.git" && rm -rf "$work/tree/.clone"
chown -R "$user:" "$work/home" "$work/tree"
mapfile -t packages < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | sed "s|^$PWD/*||; s|^$|.|")

cd "$work/tree"
setpriv --reuid="$user" --regid="$user" --init-groups env -i \
	HOME="$work/home" USER="$user" LOGNAME="$user" SHELL=/bin/bash LANG=C.UTF-8 TERM=xterm PATH="$PATH" TMPDIR=/tmp \
	CASEMATE_BIN="$work/bin/casemate" CASEMATE_PROBE="$work/bin/casemate-probe" CI="${CI:-}" \
	GOCACHE="$work/home/.cache/go-build" GOFLAGS=-mod=mod \
	./test/packages.sh "$work/tests" "${packages[@]}"
