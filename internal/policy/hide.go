package policy

// HideRow is one pattern of the built-in hide list.
type HideRow struct {
	Pattern string
	Reason  string
}

// BuiltinHide is what is hidden unasked, wherever it is in the project: gitignore patterns, in order.
func BuiltinHide() []HideRow {
	return []HideRow{
		{".env", "environment files hold passwords and tokens"},
		{".env.*", "environment files of one machine or stage"},
		{"!.env.example", "shows which variables exist, without values"},
		{"!.env.sample", "the same"},
		{"!.env.template", "the same"},
	}
}
