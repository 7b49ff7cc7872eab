package enginetest

// Gap is a conformance case, or a part of one, that the tests here do not show.
type Gap struct {
	ID    string // of conformance.yaml
	Whole bool   // nothing of it is shown; else Why names the part
	Why   string
	Issue int // that brings it; 0: it takes another machine
}

// NotShown lists what the table and the whole-binary tests leave out, with the reason.
func NotShown() []Gap {
	return []Gap{
		{"N01", false, "the event that names the refused destination where no network was asked for: nobody hears the attempt then", 0},
		{"N24", false, "the search for secrets in what is sent to an allowed host: connections are passed through; that the bytes are counted is shown", 5},
		{"K15", false, "the broker's answer to a race: there is no broker yet; that a race reaches nothing, and that the notifier stays ours, is shown", 4},
		{"P08", true, "no command enters a running sandbox in this version", 0},
		{"L03", true, "needs a kernel with AppArmor's restriction of user namespaces; the diagnosis is a test of package host", 0},
		{"L13", false, "inside Docker or Kubernetes: needs them; casemate inside casemate is shown", 0},
		{"L14", false, "the refusal of interop programs: needs WSL2; that its doors are not visible, and AF_VSOCK, is shown", 0},
		{"F24", false, "a case-insensitive file system: needs ext4 with casefold or a Windows drive; other spellings on a plain one are shown", 0},
		{"T05", false, "an optional filter for terminals; that lists and diffs show control bytes instead of sending them is shown", 0},
	}
}
