package native

import "golang.org/x/sys/unix"

const (
	sysNewfstatat = unix.SYS_NEWFSTATAT
	sysRename     = unix.SYS_RENAME
)

var oldCalls = [...]announced{
	{nr: unix.SYS_CHMOD, change: mode, dir: -1, path: 0, value: 1, flags: -1},
	{nr: unix.SYS_CHOWN, change: owner, dir: -1, path: 0, value: 1, flags: -1},
	{nr: unix.SYS_LCHOWN, change: owner, dir: -1, path: 0, value: 1, flags: -1, nofollow: true},
	{nr: unix.SYS_UTIME, change: times, dir: -1, path: 0, value: 1, flags: -1, layout: utimbuf},
	{nr: unix.SYS_UTIMES, change: times, dir: -1, path: 0, value: 1, flags: -1, layout: timevals},
	{nr: unix.SYS_FUTIMESAT, change: times, dir: 0, path: 1, value: 2, flags: -1, layout: timevals},
}
