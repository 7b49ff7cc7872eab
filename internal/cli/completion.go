package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"casemate.dev/internal/policy"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/session"
	"casemate.dev/internal/store"
)

func completionCommand() command {
	return command{
		name: "completion", args: "bash|zsh|fish", summary: "print a shell completion script",
		example: "casemate completion bash > ~/.local/share/bash-completion/completions/casemate",
		help:    "Prints the script for your shell. It asks casemate itself for the words, so it\nnever grows old.",
		exits:   "",
		flags: func(*flag.FlagSet) func(*IO, []string) error {
			return func(std *IO, args []string) error {
				if len(args) == 1 {
					if script, ok := scripts()[args[0]]; ok {
						fmt.Fprint(std.Out, script)
						return nil
					}
				}
				return usageError(errors.New("completion needs one of: bash, zsh, fish"), "casemate completion bash")
			}
		},
	}
}

func scripts() map[string]string {
	return map[string]string{
		"bash": `_casemate() {
	local IFS=$'\n'
	COMPREPLY=($(casemate __complete "${COMP_WORDS[@]:1:COMP_CWORD}"))
}
complete -o bashdefault -o default -F _casemate casemate
`,
		"zsh": `#compdef casemate
_casemate() {
	local -a words_
	words_=("${(@f)$(casemate __complete "${(@)words[2,CURRENT]}")}")
	if [[ -n $words_ ]]; then compadd -a words_; else _files; fi
}
if [[ $funcstack[1] == _casemate ]]; then _casemate "$@"; else compdef _casemate casemate; fi
`,
		"fish": `complete -c casemate -a '(casemate __complete (commandline -opc)[2..] (commandline -ct))'
`,
	}
}

// complete prints the words that the last one may become: commands, a command's flags, or sandboxes.
func complete(w io.Writer, words []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	if len(words) > 1 && words[0] == "secret" {
		completeSecret(w, words[1:])
		return
	}
	last := words[len(words)-1]
	for _, candidate := range candidates(words, last) {
		if strings.HasPrefix(candidate, last) {
			fmt.Fprintln(w, candidate)
		}
	}
}

func candidates(words []string, last string) (list []string) {
	if len(words) == 1 || len(words) == 2 && words[0] == "help" {
		for _, c := range commands() {
			list = append(list, c.name)
		}
		return list
	}
	for _, c := range commands() {
		if c.name != words[0] {
			continue
		}
		values, isValue := flagValues(words[len(words)-2])
		switch {
		case slices.Contains(words[1:len(words)-1], "--"): // another command's line
		case isValue:
			list = values()
		case strings.HasPrefix(last, "-"):
			fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
			c.flags(fs)
			fs.VisitAll(func(f *flag.Flag) { list = append(list, flagName(f)) })
		case c.name == "rm" || c.name == "review" || c.name == "fork" || c.name == "net" && len(words) == 2:
			list = sandboxNames()
		case c.name == "allow" && len(words) == 2:
			list = boxNames(func(b *store.Sandbox) bool { return b.Running })
		case c.name == "preset" && len(words) == 2:
			list = []string{"list", "show"}
		case c.name == "preset" && words[1] == "show":
			list = presetNames()
		case c.name == "policy" || c.name == "completion":
			list = strings.Split(c.args, "|")
		case c.name == "cache" && len(words) == 2:
			list = []string{"ls", "rm"}
		case c.name == "cache" && words[1] == "rm":
			list = policy.Words("cache")
		case c.name == "shim" && len(words) == 2:
			list = []string{"install", "list", "remove"}
		case c.name == "shim" && words[1] != "list":
			list = preset.Commands()
		case c.name == "home" && len(words) == 2:
			list = []string{"ls", "diff", "reset"}
		case c.name == "home" && words[1] != "ls":
			list = homeIDs()
		case c.name == "undo" && len(words) == 2:
			list = historyNumbers()
		}
	}
	return list
}

// flagValues lists what may follow a flag that takes one of a few words.
func flagValues(flag string) (values func() []string, ok bool) {
	words := func(list ...string) (func() []string, bool) { return func() []string { return list }, true }
	switch flag {
	case "--sandbox":
		return sandboxNames, true
	case "--preset":
		return func() []string { return append(presetNames(), session.NoPreset) }, true
	case "--then":
		return words(string(thenKeep), string(thenReview), string(thenApply), string(thenDiscard))
	case "--workspace":
		return words(append(policy.Words("files.workspace"), askAgain)...)
	case "--level", "--home":
		return words(policy.Words(flag[2:])...)
	case "--allow-fallback":
		return words(policy.Words("allow_fallback")...)
	case "--cache":
		return words(policy.Words("cache")...)
	case "--internal":
		return internalNetworks, true
	case "--publish":
		return words("auto")
	case "--require":
		return words(policy.Words("require")...)
	}
	return nil, false
}

func historyNumbers() (names []string) {
	person, err := session.Self()
	if err != nil {
		return nil
	}
	h, err := session.OpenHistory(person)
	if err != nil {
		return nil
	}
	defer h.Close()
	numbers, _ := h.Numbers()
	for _, n := range numbers {
		names = append(names, strconv.Itoa(n))
	}
	return names
}

func homeIDs() (names []string) {
	st, err := openStore()
	if err != nil {
		return nil
	}
	homes, _ := session.Homes(st)
	for _, h := range homes {
		names = append(names, h.ID)
	}
	return names
}

// internalNetworks are those on which a sandbox is now.
func internalNetworks() (names []string) {
	st, err := openStore()
	if err != nil {
		return nil
	}
	boxes, err := st.List()
	if err != nil {
		return nil
	}
	for _, b := range boxes {
		if b.Running {
			names = append(names, b.Record.Internal...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func presetNames() []string {
	person, err := session.Self()
	if err != nil {
		return nil
	}
	here, err := person.Presets(person.FindProject())
	if err != nil {
		return nil
	}
	return here.Names()
}

func sandboxNames() []string { return boxNames(func(*store.Sandbox) bool { return true }) }

func boxNames(fits func(*store.Sandbox) bool) (names []string) {
	st, err := openStore()
	if err != nil {
		return nil
	}
	boxes, err := st.List()
	if err != nil {
		return nil
	}
	for _, b := range boxes {
		if fits(b) {
			names = append(names, b.Record.ID)
		}
	}
	return names
}
