package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// modelsVariable asks a world for stand-ins for the APIs of models, at the vendors' own names.
const modelsVariable = "CASEMATE_TEST_WORLD_MODELS"

// modelHosts are the vendors' hosts: in that world only, no real one is ever asked.
var modelHosts = map[string]string{
	"api.anthropic.com": "203.0.113.30", "api.openai.com": "203.0.113.31", "generativelanguage.googleapis.com": "203.0.113.32", "dashscope.aliyuncs.com": "203.0.113.33",
	claudeTokens: "203.0.113.34", "chatgpt.com": "203.0.113.35", codexTokens: "203.0.113.36",
}

// proof is what each stand-in has the agent do: a command that leaves a file in the project with the id of the sandbox that it ran in.
const proof = `printf %s "$CASEMATE" >proof.txt`

// serveModels adds the stand-ins to the world's TLS server, which tells of each request.
func serveModels(string) error {
	if os.Getenv(modelsVariable) == "" {
		return nil
	}
	for host, address := range modelHosts {
		if err := ip("addr add " + address + "/32 dev lo"); err != nil {
			return err
		}
		overTLS[host] = model(host)
	}
	for _, l := range []loggedIn{claudeLogin(), codexLogin()} {
		overTLS[l.vendor] = &tokenEndpoint{good: l.oldRefresh, of: l}
	}
	return nil
}

// model answers for one vendor, and tells what it was asked: with which key, and whether the result of the command has come.
func model(host string) http.Handler {
	answer := map[string]func(w http.ResponseWriter, path string, body request){
		"api.anthropic.com": anthropic, "api.openai.com": openAI("api.openai.com"), "chatgpt.com": openAI("chatgpt.com"), "generativelanguage.googleapis.com": gemini, "dashscope.aliyuncs.com": completions,
	}[host]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.Header.Get("X-Api-Key") + r.Header.Get("X-Goog-Api-Key")
		body := request{text: string(text)}
		json.Unmarshal(text, &body.json)
		fmt.Println("model", host, r.Method, r.URL.Path, key)
		fmt.Println("account", host, r.Header.Get("ChatGPT-Account-Id"))
		if r.Header.Get("Upgrade") != "" { // it speaks no WebSocket, which Codex tries first
			http.Error(w, "no", http.StatusUpgradeRequired)
			return
		}
		if r.Method != http.MethodPost {
			http.Error(w, `{"error":{"type":"not_found_error","message":"no"}}`, http.StatusNotFound)
			return
		}
		answer(w, r.URL.Path, body)
	})
}

// request is what a model was asked.
type request struct {
	text string
	json struct{ Stream bool }
}

// tool is the first of the names that is offered, or "".
func (r request) tool(names ...string) string {
	for _, n := range names {
		if strings.Contains(r.text, `"name":"`+n+`"`) {
			return n
		}
	}
	return ""
}

// events writes server-sent events, each with its name where it has one, and tells that a result came.
func events(w http.ResponseWriter, list ...any) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range list {
		text, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		if m, ok := e.(fields); ok && m["type"] != nil {
			fmt.Fprintf(w, "event: %s\n", m["type"])
		}
		fmt.Fprintf(w, "data: %s\n\n", text)
		w.(http.Flusher).Flush()
	}
}

type fields = map[string]any

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// arguments is the input of a tool that runs a command.
func arguments(key string) fields { return fields{key: proof, "description": "leaves a proof"} }

// anthropic speaks the Messages API.
func anthropic(w http.ResponseWriter, path string, r request) {
	if strings.HasSuffix(path, "/count_tokens") {
		reply(w, fields{"input_tokens": 10})
		return
	}
	content, stop := fields{"type": "text", "text": "done"}, "end_turn"
	if strings.Contains(r.text, `"tool_result"`) {
		fmt.Println("result api.anthropic.com")
	} else if tool := r.tool("Bash", "bash"); tool != "" {
		content, stop = fields{"type": "tool_use", "id": "toolu_1", "name": tool, "input": arguments("command")}, "tool_use"
	}
	message := fields{"id": "msg_1", "type": "message", "role": "assistant", "model": "stand-in", "stop_reason": stop, "stop_sequence": nil, "usage": fields{"input_tokens": 10, "output_tokens": 10}}
	if !r.json.Stream {
		message["content"] = []any{content}
		reply(w, message)
		return
	}
	start := fields{}
	for k, v := range message {
		start[k] = v
	}
	start["content"], start["stop_reason"] = []any{}, nil
	var delta fields
	begin := fields{"type": content["type"]}
	if content["type"] == "text" {
		begin["text"], delta = "", fields{"type": "text_delta", "text": content["text"]}
	} else {
		input, _ := json.Marshal(content["input"])
		begin["id"], begin["name"], begin["input"], delta = content["id"], content["name"], fields{}, fields{"type": "input_json_delta", "partial_json": string(input)}
	}
	events(w, fields{"type": "message_start", "message": start}, fields{"type": "content_block_start", "index": 0, "content_block": begin},
		fields{"type": "content_block_delta", "index": 0, "delta": delta}, fields{"type": "content_block_stop", "index": 0},
		fields{"type": "message_delta", "delta": fields{"stop_reason": stop, "stop_sequence": nil}, "usage": fields{"output_tokens": 10}}, fields{"type": "message_stop"})
}

// openAI speaks the Responses API.
func openAI(host string) func(w http.ResponseWriter, path string, r request) {
	return func(w http.ResponseWriter, path string, r request) { responses(host, w, path, r) }
}

func responses(host string, w http.ResponseWriter, path string, r request) {
	if !strings.HasSuffix(path, "/responses") {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusNotFound)
		return
	}
	item := fields{"type": "message", "role": "assistant", "id": "msg_1", "content": []any{fields{"type": "output_text", "text": "done"}}}
	if strings.Contains(r.text, `"function_call_output"`) || strings.Contains(r.text, `"custom_tool_call_output"`) {
		fmt.Println("result", host)
	} else if tool := r.tool("exec_command", "shell_command", "shell"); tool != "" {
		input, _ := json.Marshal(map[string]fields{
			"exec_command": {"cmd": proof}, "shell_command": {"command": proof}, "shell": {"command": []string{"sh", "-c", proof}},
		}[tool])
		item = fields{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool, "arguments": string(input)}
	} else if r.tool("exec") != "" { // code mode: JavaScript that calls the tools
		item = fields{"type": "custom_tool_call", "id": "ct_1", "call_id": "call_1", "namespace": "functions", "name": "exec", "input": "const r = await tools.exec_command({cmd: " + quoted(proof) + "}); text(r.output);"}
	}
	response := fields{"id": "resp_1", "object": "response", "status": "completed", "model": "stand-in", "output": []any{item},
		"usage": fields{"input_tokens": 10, "output_tokens": 10, "total_tokens": 20, "input_tokens_details": fields{"cached_tokens": 0}, "output_tokens_details": fields{"reasoning_tokens": 0}}}
	if !r.json.Stream {
		reply(w, response)
		return
	}
	events(w, fields{"type": "response.created", "response": fields{"id": "resp_1", "object": "response", "status": "in_progress", "output": []any{}}},
		fields{"type": "response.output_item.added", "output_index": 0, "item": item}, fields{"type": "response.output_item.done", "output_index": 0, "item": item}, fields{"type": "response.completed", "response": response})
}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// gemini speaks generateContent.
func gemini(w http.ResponseWriter, path string, r request) {
	if strings.HasSuffix(path, ":countTokens") {
		reply(w, fields{"totalTokens": 10})
		return
	}
	part := fields{"text": "done"}
	if strings.Contains(r.text, `"functionResponse"`) {
		fmt.Println("result generativelanguage.googleapis.com")
	} else if tool := r.tool("run_shell_command"); tool != "" {
		part = fields{"functionCall": fields{"id": "call_1", "name": tool, "args": arguments("command")}}
	} else if strings.Contains(r.text, "responseJsonSchema") || strings.Contains(r.text, "responseSchema") {
		part = fields{"text": `{"model_choice":"flash","reasoning":"short","complexity_score":1,"complexity_reasoning":"short"}`}
	}
	response := fields{"candidates": []any{fields{"index": 0, "finishReason": "STOP", "content": fields{"role": "model", "parts": []any{part}}}},
		"usageMetadata": fields{"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20}, "modelVersion": "stand-in"}
	if strings.HasSuffix(path, ":streamGenerateContent") {
		events(w, response)
		return
	}
	reply(w, response)
}

// completions speaks OpenAI's chat completions, as others do too.
func completions(w http.ResponseWriter, path string, r request) {
	if !strings.HasSuffix(path, "/chat/completions") {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusNotFound)
		return
	}
	message, finish := fields{"role": "assistant", "content": "done"}, "stop"
	if strings.Contains(r.text, `"tool_call_id"`) {
		fmt.Println("result dashscope.aliyuncs.com")
	} else if tool := r.tool("run_shell_command", "bash"); tool != "" {
		input := arguments("command")
		input["is_background"] = false
		text, _ := json.Marshal(input)
		message, finish = fields{"role": "assistant", "content": nil, "tool_calls": []any{fields{"index": 0, "id": "call_1", "type": "function", "function": fields{"name": tool, "arguments": string(text)}}}}, "tool_calls"
	}
	usage := fields{"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
	chunk := func(delta fields, finish any) fields {
		return fields{"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": "stand-in", "choices": []any{fields{"index": 0, "delta": delta, "finish_reason": finish}}}
	}
	if !r.json.Stream {
		reply(w, fields{"id": "chat_1", "object": "chat.completion", "created": 1, "model": "stand-in", "choices": []any{fields{"index": 0, "message": message, "finish_reason": finish}}, "usage": usage})
		return
	}
	last := chunk(fields{}, finish)
	last["usage"] = usage
	events(w, chunk(message, nil), last)
	fmt.Fprint(w, "data: [DONE]\n\n")
}
