//go:build agents

package test

import "testing"

// These run in make test-agents only: three more would make the suite too slow.

func TestMoreAgentGemini(t *testing.T) {
	realAgent{name: "gemini", node: true, file: "node_modules/@google/gemini-cli/bundle/gemini.js", host: "generativelanguage.googleapis.com", key: "gemini",
		args: []string{"--yolo", "--skip-trust", "-p", "leave a proof"}}.works(t)
}

func TestMoreAgentQwen(t *testing.T) {
	realAgent{name: "qwen", node: true, file: "node_modules/@qwen-code/qwen-code/cli.js", host: "dashscope.aliyuncs.com", key: "dashscope",
		args: []string{"--yolo", "--model", "qwen3-coder-plus", "-p", "leave a proof"}}.works(t)
}

func TestMoreAgentOpencode(t *testing.T) {
	realAgent{name: "opencode", file: "node_modules/opencode-linux-*/bin/opencode", host: "api.anthropic.com", key: "anthropic",
		args: []string{"run", "--model", "anthropic/claude-sonnet-4-5", "leave a proof"}}.works(t)
}
