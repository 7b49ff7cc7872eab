#!/usr/bin/env bash
# Runs every package's tests as an ordinary user: most users are not root. The tests are compiled here, because the user has no module cache,
# and run in a copy of the tree that the user can read.
set -euo pipefail
cd "$(dirname "$0")/.."

user=casemate-test
if [ "$(id -u)" != 0 ]; then
	echo "rootless: make test ran as an ordinary user already; the tests as root were not run (they need root)"
	exit 0
fi

work=$(mktemp -d /var/tmp/casemate-rootless.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/bin" "$work/home" "$work/tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 -I{} cp --parents {} "$work/tree/" 2>/dev/null || true
cp bin/casemate bin/casemate-probe bin/casemate-review bin/casemate-gate "$work/bin/"
git clone -q . "$work/tree/.clone" && mv "$work/tree/.clone/.git" "$work/tree/.git" && rm -rf "$work/tree/.clone"
for dir in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do
	rel=${dir#"$PWD"}
	go test -c -o "$work/tree$rel/rootless.test" "$dir"
done
chown -R "$user:" "$work"

status=0
while IFS= read -r test; do
	dir=$(dirname "$test")
	printf '%s\n' "rootless ${dir#"$work/tree"}"
	(cd "$dir" && setpriv --reuid="$user" --regid="$user" --init-groups env -i \
		HOME="$work/home" USER="$user" LOGNAME="$user" SHELL=/bin/bash LANG=C.UTF-8 TERM=xterm PATH="$PATH" TMPDIR=/tmp \
		CASEMATE_BIN="$work/bin/casemate" CASEMATE_PROBE="$work/bin/casemate-probe" CI="${CI:-}" \
		GOCACHE="$work/home/.cache/go-build" GOFLAGS=-mod=mod \
		./rootless.test -test.timeout 30m) || status=1
done < <(find "$work/tree" -name rootless.test | sort)
exit $status
