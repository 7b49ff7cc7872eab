# Two commands do everything on a fresh machine: make demo, make test.

export CGO_ENABLED = 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FLAGS := -trimpath -ldflags '-s -w -X casemate.dev/internal/cli.Version=$(VERSION)'
PREFIX ?= /usr/local

.PHONY: build demo test test-agents check bench docs install clean

build:
	go build $(FLAGS) -o bin/ ./cmd/...

demo: build
	./test/demo.sh bin

# Everything, as root (where we are root) and as an ordinary user.
test: build
	./test/setup.sh
	./test/all.sh

# Real agents that make test leaves out, as they take a minute each.
test-agents: build
	./test/setup.sh agents
	./test/agents.sh

check:
	./test/check.sh

bench: build
	./test/setup.sh bench
	go run ./test/bench -bin bin

# Regenerates docs/reference from the tables in the code; a test fails when they differ.
docs: build
	go test ./test -run 'TestReference' -update

install: build
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 bin/casemate bin/casemate-gate bin/casemate-probe bin/casemate-review bin/casemate-secret $(DESTDIR)$(PREFIX)/bin/

clean:
	rm -rf bin
