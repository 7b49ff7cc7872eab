#!/usr/bin/env bash
# Formatting, vet, staticcheck, govulncheck where its database can be had, and the architecture.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l $(git ls-files '*.go'))
if [ -n "$unformatted" ]; then
	echo "gofmt these files:" $unformatted >&2
	exit 1
fi
go vet ./...
GOARCH=arm64 go vet ./...
GOARCH=arm64 go build -o /dev/null ./cmd/... # the linker bounds the stack that pid 1 has, and each processor uses it differently
go tool -modfile=tools.mod staticcheck ./...
if ! out=$(go tool -modfile=tools.mod govulncheck ./... 2>&1); then
	case "$out" in
	*"vuln.go.dev"* | *"dial tcp"* | *"fetching"*) echo "govulncheck: its database cannot be reached from here, so known vulnerabilities were not looked up" ;;
	*) echo "$out" >&2; exit 1 ;;
	esac
fi
go test -count=1 -run TestArchitecture .
go mod tidy -diff
