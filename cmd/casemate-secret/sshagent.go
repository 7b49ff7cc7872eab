package main

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"casemate.dev/internal/gate/confine"
	"casemate.dev/internal/secret/ask"
	"casemate.dev/internal/secret/signer"
	"golang.org/x/sys/unix"
)

// sshAgent is what casemate starts where the policy names ssh keys. It parses what programs inside say to their agent, so before it listens to them it has
// given up files, programs and sockets of its own.
func (d *desk) sshAgent(args []string) error {
	for _, fd := range []int{ask.FD, ask.SSHFD} {
		var st unix.Stat_t
		if len(args) != 0 || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return wrongUse("casemate secret --help", "ssh-agent is run by casemate run")
		}
		unix.CloseOnExec(fd)
	}
	// The keys of the terminal are the command's.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTSTP)
	runtime.GOMAXPROCS(1)          // what runs inside decides how much there is to do
	debug.SetMemoryLimit(32 << 20) // and to keep
	home := d.getenv("HOME")
	return signer.Run(ask.FD, ask.SSHFD, signer.Options{Home: home, Agent: d.getenv("SSH_AUTH_SOCK"), Known: signer.KnownHosts(home), Confined: confine.Alone})
}
