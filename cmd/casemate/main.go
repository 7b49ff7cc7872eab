// Casemate runs commands in a sandbox that denies by default.
package main

import (
	"os"

	"casemate.dev/internal/cli"
)

func main() {
	grow(false)
	os.Exit(cli.Main(os.Args[1:]))
}

// grow makes the stack as large as a run needs while there is nothing on it: a function with a large frame asks for it on entry, used or not.
// Otherwise the runtime doubles it five times on the way down and copies what is there, which was 2 % of a start.
//
//go:noinline
func grow(used bool) (sum byte) {
	if used {
		var frame [48 << 10]byte
		for i := range frame {
			sum += frame[i&len(os.Args)]
		}
	}
	return sum
}
