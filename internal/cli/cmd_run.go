package cli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"casemate.dev/internal/engine/native/inside"
	"casemate.dev/internal/policy"
	"casemate.dev/internal/session"
	"casemate.dev/internal/workspace"
)

func runCommand() command {
	return command{
		name: "run", args: "-- COMMAND [ARGUMENT...]", summary: "run a command in a sandbox", direct: true,
		example: "casemate run -- npm test",
		help: `
Runs COMMAND in a sandbox of its own. It sees the project, its tool chain and
nothing else of this machine: no credentials, no other files, no other
processes, and of the network only the hosts that --allow or the policy names.
What it changes in the project is held aside until you have looked at it. On a
terminal you are asked at the end what is to happen (Enter keeps it; --then
answers beforehand); later: casemate review, apply or discard.

The project is the nearest directory above with a git repository or a
casemate.yaml, else the working directory. The next run in the project goes on
where this one ended, unless --fresh is given; --sandbox names another kept one,
such as a copy that casemate fork made.`,
		exits: `
124  a time limit ended the command
125  casemate refused and the command did not run, or it failed; it says which
126  the command could not be executed
127  the command was not found
128+N signal N ended the command
else the command's own status`,
		flags: func(fs *flag.FlagSet) func(*IO, []string) error {
			var o session.Options
			policyFlags(fs, &o.Flags)
			fs.Lookup("workspace").Usage += "; ask: an agent's run asks you again"
			fs.BoolVar(&o.Fresh, "fresh", false, "start with a new layer instead of the project's kept one")
			fs.StringVar(&o.Name, "name", "", "`NAME` by which sandboxes on the same --internal network reach it; default: its id")
			fs.StringVar(&o.Sandbox, "sandbox", "", "go on with this kept `SANDBOX`; default: the project's newest")
			asJSON := fs.Bool("json", false, "end with one line of JSON on standard error")
			fs.Func("login", "whether an agent uses your login through the gate, `HOW`: yes (and no key), no, or ask: ask again; default: you are asked once, if there is no key", func(s string) error {
				if o.Login = s; s != session.LoginYes && s != session.LoginNo && s != session.LoginAsk {
					return fmt.Errorf("%q is none of yes, no and ask", s)
				}
				return nil
			})
			quiet := fs.Bool("quiet", false, "no words of casemate's own unless something fails")
			var t then
			fs.Var(&t, "then", "what to do with the changes, `WHAT`: keep, review, apply (if the command succeeds) or discard; default: ask on a terminal, else keep")
			noTTY := fs.Bool("no-terminal", false, "do not give the command a terminal, even on one")
			return func(std *IO, args []string) error {
				if len(args) == 0 {
					return usageError(errors.New("there is no command to run"), "casemate run -- COMMAND [ARGUMENT...]")
				}
				if o.Sandbox != "" && o.Fresh {
					return usageError(errors.New("--fresh starts a new sandbox, and --sandbox goes on with a kept one"), "give one of them")
				}
				o.Command = args
				if o.Flags.Workspace == askAgain {
					o.Flags.Workspace, o.AskAgain = "", true
				}
				typed := isTerminal(std.In)
				o.Terminal = !*noTTY && typed && isTerminal(std.Out)
				if o.Attended = !*quiet && !*asJSON && typed && mayAsk(std); o.Attended {
					o.Ask = func() (policy.Workspace, bool) { return askWorkspace(std) }
					o.AskLogin = func(agent string) (yes, ok bool) { return askLogin(std, agent) }
				} else if o.AskAgain {
					return usageError(errors.New("--workspace ask needs a terminal to ask on"), "casemate run --workspace held or live says it for one run")
				}
				if o.Login == session.LoginAsk && !o.Attended {
					return usageError(errors.New("--login ask needs a terminal to ask on"), "casemate run --login yes or no says it for one run")
				}
				return runOnce(std, o, t, *asJSON, *quiet)
			}
		},
	}
}

// askAgain is the value of --workspace with which an agent's person is asked again.
const askAgain = "ask"

func runOnce(std *IO, o session.Options, t then, asJSON, quiet bool) error {
	person, err := session.Self()
	if err != nil {
		return err
	}
	o.Umask = std.umask
	if !quiet && isTerminal(std.Err) {
		o.Progress = func(what string) { fmt.Fprintln(std.Err, "casemate:", what) }
		o.Meanwhile = !asJSON
	}
	r, err := session.Prepare(person, o)
	if err != nil {
		return notStarted(std, err, asJSON)
	}
	sayNotices(std, r, quiet)
	res, err := r.Do([3]int{int(std.In.Fd()), int(std.Out.Fd()), int(std.Err.Fd())})
	if err != nil && res.Reason != session.Failed {
		return refused(std, err, asJSON)
	}
	if err != nil {
		report(std.Err, err)
	}
	sayNotices(std, r, quiet || asJSON) // of the run itself
	var presets []string
	if !asJSON {
		if res.Live != nil && !quiet {
			sayLive(std, r, res)
		}
		if res.Detail != "" && err == nil {
			fmt.Fprintln(std.Err, "casemate:", workspace.Visible(res.Detail))
		}
		if !quiet {
			sayDenied(std, res)
			presets = sayPresets(std, r, res)
		}
		for _, name := range res.Taken {
			fmt.Fprintf(std.Err, "casemate: %s %s and was taken out of the project (it is in %s)\n", workspace.Visible(name), r.WhyTaken(name), workspace.Visible(res.Aside))
		}
		sayLinks(std, res.Links)
	}
	if len(presets) > 0 && res.Exit != 0 && o.Attended && t == thenAsk && mayAsk(std) {
		again, saved, err := offerPresets(std, r, presets)
		if err != nil {
			report(std.Err, err) // and what is held is still to be decided about
		}
		if again {
			return runOnce(std, goOn(o, r, res, presets, saved), t, asJSON, quiet)
		}
	}
	if err := finished(std, res, t, asJSON, quiet); err != nil {
		return err
	}
	if res.Exit != 0 {
		return exitStatus(res.Exit)
	}
	return nil
}

// sayLinks names the symlinks that a run left on the host and that lead out of the project.
func sayLinks(std *IO, links *session.Links) {
	if links == nil {
		return
	}
	for _, l := range links.List {
		fmt.Fprintf(std.Err, "casemate: the link %s appeared in the project and leads out of it, to %s\n", quoteHead(l.Path), quoteHead(l.Target))
	}
	if links.More > 0 {
		fmt.Fprintf(std.Err, "casemate: and %d more such links\n", links.More)
	}
	if links.Cut {
		fmt.Fprintln(std.Err, "casemate: not all that was written through could be looked at: more links in it may lead out of the project (find DIRECTORY -type l)")
	}
}

// quoteHead quotes a name of any length that a sandbox chose, on one line.
func quoteHead(s string) string {
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return workspace.Quote(s)
}

// goOn are the options for the same command with presets, in the sandbox that it failed in.
func goOn(o session.Options, r *session.Run, res session.Result, presets []string, saved bool) session.Options {
	if !saved {
		o.Flags.Presets = append(slices.Clone(o.Flags.Presets), presets...)
	}
	if res.Changes != nil {
		o.Sandbox, o.Fresh = r.Box.Record.ID, false
	}
	o.AskAgain = false
	if o.Login == session.LoginAsk {
		o.Login = ""
	}
	return o
}

func sayNotices(std *IO, r *session.Run, quiet bool) {
	for _, n := range r.Notices {
		if !quiet {
			fmt.Fprintln(std.Err, "casemate:", workspace.Visible(n))
		}
	}
	r.Notices = nil
}

// refused says in JSON as well why nothing ran.
func refused(std *IO, err error, asJSON bool) error {
	if !asJSON {
		return err
	}
	reason := "policy"
	var step *inside.StepError
	if errors.As(err, &step) {
		reason = "setup"
	}
	report(std.Err, err)
	status := statusOf(err)
	if status == exitUsage {
		reason = "usage"
	}
	line, e := json.Marshal(session.Result{Exit: status, Reason: reason, Detail: err.Error()})
	if e != nil {
		return e
	}
	fmt.Fprintf(std.Err, "%s\n", line)
	return exitStatus(status)
}

// notStarted gives a command that does not exist the status that a shell would give it.
func notStarted(std *IO, err error, asJSON bool) error {
	var missing *session.NotExecuted
	if !errors.As(err, &missing) {
		return refused(std, err, asJSON)
	}
	if asJSON {
		reason := "not-found"
		if missing.Status == exitNoExec {
			reason = "not-executable"
		}
		line, e := json.Marshal(session.Result{Exit: missing.Status, Reason: reason, Detail: missing.Error()})
		if e != nil {
			return e
		}
		fmt.Fprintf(std.Err, "%s\n", line)
		return exitStatus(missing.Status)
	}
	return coded{missing, missing.Hint(), missing.Status}
}

// policyFlags are the policy's keys as flags.
func policyFlags(fs *flag.FlagSet, f *policy.Flags) {
	fs.StringVar(&f.Level, "level", "", "`LEVEL` to start from: minimal, restricted (default) or full")
	fs.StringVar(&f.Workspace, "workspace", "", "how the project is seen, `HOW`: held, live, readonly or none")
	fs.StringVar(&f.Home, "home", "", "the sandbox's own home, `WHOSE`: project (kept) or none")
	for _, l := range []struct {
		name, usage string
		to          *[]string
	}{
		{"read", "let it read a host `PATH`; may be repeated", &f.Read},
		{"readonly", "a `PATH` of the project that it may not change", &f.Readonly},
		{"write", "a `PATH` of the project that is written through to the host", &f.Write},
		{"hide", "a `PATTERN` of the project to hide, as in gitignore", &f.Hide},
		{"protect", "a `PATTERN` whose changes need consent", &f.Protect},
		{"allow", "let it reach a `HOST`, or HOST:PORT (443 without); *.example.com is all below; may be repeated", &f.Allow},
		{"publish", "offer a `PORT` inside, or HOST:INSIDE, on your loopback; auto offers each as it opens; may be repeated", &f.Publish},
		{"host-port", "let it reach a `PORT` of your own loopback, such as a database's; may be repeated", &f.HostPorts},
		{"internal", "join the private network `NAME`, with those sandboxes that do so too; may be repeated", &f.Internal},
		{"ssh", "sign logins at `HOST`, HOST:PORT or HOST=KEY with your ssh key, which stays outside (default: your agent's only one); opens no network: --allow HOST:22 does; may be repeated", &f.SSH},
		{"preset", "let it reach what a tool chain or an agent needs, `NAME` such as npm (see casemate preset); an agent's command takes its own, unless none is given; may be repeated", &f.Presets},
		{"cache", "let it begin with your cache of a package manager, `NAME` such as npm (see casemate cache); may be repeated", &f.Cache},
		{"allow-fallback", "accept a weaker `MODE` by name: landlock", &f.AllowFallback},
		{"require", "refuse to run without a `GUARANTEE`", &f.Require},
	} {
		fs.Var((*list)(l.to), l.name, l.usage)
	}
	fs.BoolFunc("ask", "where no rule allows or denies a host, let the connection wait for your answer in casemate watch", func(s string) error {
		if f.Ask = s; s == "" {
			return errors.New("it is empty")
		}
		return nil
	})
	fs.StringVar(&f.Memory, "memory", "", "memory limit, `SIZE` such as 4GiB")
	fs.StringVar(&f.Pids, "pids", "", "limit of processes and threads, a `NUMBER`")
	fs.StringVar(&f.CPUs, "cpus", "", "limit of processor cores, a `NUMBER`")
	fs.StringVar(&f.Disk, "disk", "", "limit of what may be written, `SIZE`")
	fs.StringVar(&f.Time, "time", "", "end it after a `DURATION` such as 30m")
	fs.StringVar(&f.Idle, "idle", "", "end it after a `DURATION` without output and work")
	fs.Var(variables{f}, "env", "pass the variable `NAME`, or set NAME=VALUE; may be repeated")
}

// variables is the flag --env: a bare name is passed from the host, one with a value is set.
type variables struct{ f *policy.Flags }

func (v variables) String() string { return "" }

func (v variables) Set(s string) error {
	if strings.Contains(s, "=") {
		v.f.Set = append(v.f.Set, s)
	} else {
		v.f.Pass = append(v.f.Pass, s)
	}
	return nil
}
