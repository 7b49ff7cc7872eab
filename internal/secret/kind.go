package secret

// Kind is a sort of credential that is known: what its values begin with, and the hosts that are its provider's.
type Kind struct {
	Name     string
	Prefixes []string // public ones; the longest that fits is a value's
	Hosts    []string
}

// Kinds lists those that are known. An entry whose name is a kind's gets its hosts without asking.
func Kinds() []Kind {
	return []Kind{
		{"anthropic", []string{"sk-ant-api03-", "sk-ant-admin01-"}, []string{"api.anthropic.com"}},
		{"claude", []string{"sk-ant-oat01-"}, []string{"api.anthropic.com"}}, // a claude.ai account's, of Claude Code's login or claude setup-token
		{"codex", []string{"eyJ"}, []string{"chatgpt.com"}},                  // a JWT, of Codex's login with a ChatGPT account
		{"codex-account", nil, []string{"chatgpt.com"}},
		{"openai", []string{"sk-", "sk-proj-", "sk-svcacct-", "sk-admin-"}, []string{"api.openai.com"}},
		{"openrouter", []string{"sk-or-v1-"}, []string{"openrouter.ai"}},
		{"gemini", []string{"AIza"}, []string{"generativelanguage.googleapis.com"}},
		{"mistral", nil, []string{"api.mistral.ai"}},
		{"groq", []string{"gsk_"}, []string{"api.groq.com"}},
		{"xai", []string{"xai-"}, []string{"api.x.ai"}},
		{"deepseek", nil, []string{"api.deepseek.com"}},
		{"dashscope", nil, []string{"dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"}},
		{"github", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, []string{"api.github.com", "github.com"}},
		{"gitlab", []string{"glpat-"}, []string{"gitlab.com"}},
		{"huggingface", []string{"hf_"}, []string{"huggingface.co"}},
		{"slack", []string{"xoxb-", "xoxp-", "xapp-"}, []string{"slack.com"}},
		{"stripe", []string{"sk_live_", "sk_test_", "rk_live_", "rk_test_"}, []string{"api.stripe.com"}},
		{"npm", []string{"npm_"}, nil},
		{AWS, []string{"AKIA", "ASIA"}, nil}, // its hosts are those of all its customers too
	}
}

// KindOf is the kind of a name; ok says whether there is one.
func KindOf(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
