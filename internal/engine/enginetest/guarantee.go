package enginetest

// The guarantees that the attacks try to break, by the names that the plan gives them.
const (
	denyRead    = "files.deny-read"
	denyWrite   = "files.deny-write"
	hide        = "files.hide"
	protect     = "files.protect"
	metadata    = "files.metadata"
	netDeny     = "net.default-deny"
	isolation   = "proc.isolation"
	signals     = "proc.signals"
	privilege   = "privileges.none"
	surface     = "kernel.surface"
	keys        = "keys.isolation"
	injection   = "tty.injection"
	fdsClosed   = "fds.closed"
	cleanEnv    = "env.clean"
	noCore      = "limits.core"
	limitPids   = "limits.pids"
	limitMemory = "limits.memory"
	limitDisk   = "limits.disk"
)
