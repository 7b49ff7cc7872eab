#!/usr/bin/env bash
# Compiles every package's tests, once, and runs them as the user that we are and, where that is root, as an ordinary user too: most users are
# not root. The two run beside each other. One package at a time each: the tests measure.
set -uo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d /var/tmp/casemate.XXXXXX)
memory=$(mktemp -d /tmp/t.XXXXXX)
trap 'umount -l "$memory" 2>/dev/null; rm -rf "$work" "$memory"' EXIT
chmod 755 "$work"
mkdir "$work/bin" "$work/tests"
cp bin/casemate bin/casemate-* "$work/bin/"
go test -c -o "$work/tests/" ./... >/dev/null || exit 1
export CASEMATE_BIN="$work/bin/casemate" CASEMATE_PROBE="$work/bin/casemate-probe"

status=0
if [ "$(id -u)" = 0 ]; then
	env --default-signal=INT,QUIT ./test/rootless.sh "$work" >"$work/rootless.log" 2>&1 & # a script's background jobs ignore these, and so would all they start
	rootless=$!
	# Root's files lie in memory and the user's on the disk: each kind of file system has its ways, and the tests of both, on one ext4, wait for its inodes.
	if mount -t tmpfs -o mode=1777,size=16g casemate-tests "$memory"; then
		export TMPDIR="$memory"
	else
		echo "no tmpfs can be mounted here: root's tests run on the disk as well, and take longer"
	fi
else
	echo "make test ran as an ordinary user: the tests as root were not run (they need root)"
fi
./test/packages.sh "$work/tests" $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | sed "s|^$PWD/*||; s|^$|.|") || status=1
if [ "$(id -u)" = 0 ]; then
	wait "$rootless" || status=1
	cat "$work/rootless.log"
fi
exit $status
