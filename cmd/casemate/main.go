// Casemate runs commands in a sandbox that denies by default.
package main

import (
	"os"
	"runtime"

	"casemate.dev/internal/cli"
)

func init() {
	// The sandbox ends when the thread that made it does (PR_SET_PDEATHSIG), so the main goroutine keeps the main thread.
	runtime.LockOSThread()
}

func main() { os.Exit(cli.Main(os.Args[1:])) }
