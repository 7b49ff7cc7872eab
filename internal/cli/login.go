package cli

import (
	"fmt"

	"casemate.dev/internal/review"
)

const loginHelp = `y - yes: the agent works with your login (also Enter). The gate puts it into
    its requests to the agent's own host; inside there is only a placeholder
n - no: it has no login inside
The answer is kept; casemate run --login ask asks again.
`

// askLogin asks once for each agent. Ctrl-C is no answer.
func askLogin(std *IO, agent string) (yes, ok bool) {
	a := &review.Asker{In: std.In, Out: std.Err}
	a.Fresh()
	said := a.Key(fmt.Sprintf("Use your %s login through the gate? It stays outside. [Y/n] ", agent), "yn", loginHelp)
	return said == 'y', said != 0
}
