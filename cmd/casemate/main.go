// Casemate runs commands in a sandbox that denies by default.
package main

import (
	"os"

	"casemate.dev/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
