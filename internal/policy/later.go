package policy

// NotInThisVersion are the things a policy says that would have no effect yet. They are errors, each at its place: a word of a policy is never ignored.
// network.deny is none of them: there is no network, so all is denied.
func NotInThisVersion(p *Policy) []error {
	var l later
	const noNetwork = "remove it: the sandbox has no network"
	each(&l, "network.allow", p.Network.Allow, noNetwork)
	each(&l, "network.publish", p.Network.Publish, noNetwork)
	each(&l, "network.host_ports", p.Network.HostPorts, noNetwork)
	each(&l, "network.internal", p.Network.Internal, noNetwork)
	each(&l, "secrets", p.Secrets, "remove it: no credential is inside, and no network to use it on")
	l.scalar("agent", p.Agent.IsSet(), p.Agent.V, p.Agent.Origin, "remove it: the sandbox is the same for every command, and every agent's own directory is empty in it")
	each(&l, "presets", p.Presets, "remove it: the sandbox is the same for every command")
	each(&l, "git.push", p.Git.Push, "remove it: commits are kept; review, then `casemate apply` and push outside")
	l.scalar("home", p.Home.V == HomeAgent, "agent", p.Home.Origin, "write project or none: homes are kept for one project")
	each(&l, "cache", p.Cache, "remove it: the sandbox has caches of its own, in its home")
	each(&l, "devices", p.Devices, "remove it: the sandbox sees no device of the host")
	l.scalar("engine", p.Engine.V != Native, p.Engine.V, p.Engine.Origin, "write native")
	return l.errs
}

type later struct{ errs []error }

func (l *later) scalar(key string, is bool, text string, o Origin, instead string) {
	if is {
		l.errs = append(l.errs, bad(instead, "%s: %s is not in this version", key, text).at(o))
	}
}

func each[T any](l *later, key string, vs []Value[T], instead string) {
	for _, v := range printed(vs) {
		l.scalar(key, true, v.V, v.Origin, instead)
	}
}
