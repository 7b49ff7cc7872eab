package policy

// levelSettings is what a level says. It is Go and not YAML because a run without policy files must not pay for a parser.
func levelSettings(l Level) Settings {
	at := Origin{Tier: LevelTier, File: string(l)}
	s := Settings{
		Home:   Value[Home]{HomeProject, at},
		Git:    Git{Identity: Value[Identity]{IdentityImport, at}},
		Engine: Value[string]{Native, at},
		Env:    Env{Pass: harmless(at)},
	}
	s.Files.Hide = hidden()
	switch l {
	case Full:
		s.Files.Workspace = Value[Workspace]{Live, at}
	case Restricted:
		s.Files.Workspace = Value[Workspace]{Held, at}
	default: // minimal, and the narrowest for what nobody knows
		s.Files.Workspace = Value[Workspace]{Scratch, at}
		s.Home = Value[Home]{HomeNone, at}
		s.Git.Identity = Value[Identity]{IdentityNone, at}
	}
	return s
}

// harmless are the variables without which terminals and messages look wrong. They say how the person reads, not who they are.
func harmless(at Origin) []Value[string] {
	var out []Value[string]
	for _, n := range []string{"TERM", "COLORTERM", "NO_COLOR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ"} {
		out = append(out, Value[string]{n, at})
	}
	return out
}

// hidden is the built-in list as values.
func hidden() []Value[string] {
	at := Origin{Tier: BuiltIn, File: "hide list"}
	rows := BuiltinHide()
	out := make([]Value[string], len(rows))
	for i, r := range rows {
		out[i] = Value[string]{r.Pattern, at}
	}
	return out
}
