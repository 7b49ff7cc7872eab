// Command casemate-gate is the way out of a sandbox: casemate starts it beside the command where the policy opens the network. It is a program of its own
// because it parses what hostile programs send: it has its sockets and its rules, and nothing else.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"

	"casemate.dev/internal/gate/confine"
	"casemate.dev/internal/gate/keeper"
	"casemate.dev/internal/gate/wire"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "casemate-gate:", err)
		os.Exit(1)
	}
}

// run confines the process before it reads anything, even from its supervisor.
func run() error {
	log.SetOutput(io.Discard)      // net/http writes there what clients and servers do wrong
	debug.SetMemoryLimit(64 << 20) // rather collect garbage than grow, where many peers are slow; more is had where it is needed
	if err := confine.Confine(); err != nil {
		return err
	}
	limits := keeper.DefaultLimits()
	limits.Processors = 1
	return keeper.Run(wire.FD, limits)
}
