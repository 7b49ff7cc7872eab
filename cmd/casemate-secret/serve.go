package main

import (
	"os"
	"os/signal"
	"syscall"

	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/serve"
	"golang.org/x/sys/unix"
)

// serve is what casemate starts beside a gate. It belongs to the terminal's foreground, to ask for a passphrase; once it is ready, the keys that end the
// command inside are not meant for it, and it ends when the gate does.
func (d *desk) serve(args []string) error {
	var st unix.Stat_t
	if len(args) != 0 || unix.Fstat(ask.FD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return wrongUse("casemate secret --help", "serve is run by casemate run")
	}
	unix.CloseOnExec(ask.FD)
	d.left = func() {
		if packet, err := ask.EncodeReady(ask.Ready{Error: "the passphrase was not given"}); err == nil {
			unix.Sendto(ask.FD, packet, unix.MSG_NOSIGNAL, nil)
		}
	}
	return serve.Run(ask.FD, serve.Options{
		Place: d.place, Log: d.log, Getenv: d.getenv, Passphrase: d.passphrase(), Renew: d.renew,
		Ready: func() { // not Ignore, which the commands of stores would inherit
			signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTSTP)
		},
	})
}
