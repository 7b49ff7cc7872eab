#!/usr/bin/env bash
# Runs every package's tests as the user that we are and, where that is root, as an ordinary user too. The two run beside each other: both wait
# more than they compute.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
go test -count=1 -timeout 30m ./internal/limits || status=1 # it measures /dev/shm, which both fill beside each other
env --default-signal=INT,QUIT ./test/rootless.sh >"$log" 2>&1 & # a script's background jobs ignore these, and so would all they start
rootless=$!
go test -count=1 -p 1 -timeout 30m $(go list ./... | grep -v internal/limits) || status=1 # one package at a time: the tests measure; and never from the cache: it does not know that ./test runs the programs
wait "$rootless" || status=1
cat "$log"
exit $status
