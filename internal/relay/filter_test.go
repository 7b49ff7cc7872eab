package relay

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func filtered(f *Filter, parts ...string) string {
	var out []byte
	for _, p := range parts {
		out = append(out, f.Next([]byte(p))...)
	}
	return string(out)
}

func TestFilter(t *testing.T) {
	const same = "\x00same"
	for _, tt := range []struct {
		name, in, want string
	}{
		// What conformance case T05 prints.
		{"clipboard", "a\x1b]52;c;ZXZpbA==\ab", "ab"},
		{"title report", "a\x1b[21tb", "ab"},
		{"icon name report", "a\x1b[20tb", "ab"},
		{"an empty XTGETTCAP", "\x1bP+q\x1b\\", same},
		{"title", "\x1b]0;x\a", same},
		{"cursor position", "\x1b[6n", same},
		{"device attributes", "\x1b[c\x1b[>c\x1b[=c\x1b[0c", same},

		{"clipboard, ended by ST", "a\x1b]52;;ZXZpbA==\x1b\\b", "ab"},
		{"clipboard, read", "a\x1b]52;c;?\ab", "ab"},
		{"clipboard, number with zeros", "a\x1b]0052;c;ZXZpbA==\ab", "ab"},
		{"clipboard, in a title that is broken off", "\x1b]0;a\x1b]52;c;eA==\ab", "\x1b]0;a\x1b\\b"},
		{"clipboard, after a cancelled title", "\x1b]0;a\x18\x1b]52;c;eA==\ab", "\x1b]0;a\x1b\\b"},
		{"clipboard, with control bytes in its number", "a\x1b]5\r2;c;eA==\ab", "ab"},
		{"clipboard, by C1 in UTF-8", "a\u009d52;c;eA==\ab", "a\xc2\uFFFD52;c;eA==\ab"},
		{"clipboard, by a bare C1", "a\x9d52;c;eA==\ab", "a\uFFFD52;c;eA==\ab"},
		{"clipboard, by an overlong ESC", "a\xc0\x9b]52;c;eA==\ab", "a\xc0\uFFFD]52;c;eA==\ab"},
		{"clipboard, by an overlong C1", "a\xe0\x82\x9d52;c;eA==\ab", "a\xe0\uFFFD\uFFFD52;c;eA==\ab"},
		{"clipboard, through tmux", "a\x1bPtmux;\x1b\x1b]52;c;eA==\a\x1b\\b", "a\x1b\\b"},
		{"clipboard, through screen", "a\x1bP\x1b]52;c;eA==\a\x1b\\b", "a\x1b\\b"},
		{"clipboard, of kitty", "a\x1b]5522;type=write\ab", "ab"},
		{"font (CVE-2022-45063)", "a\x1b]50;i$(touch /tmp/x)\a\x1b]50;?\ab", "ab"},
		{"DECRQSS that is echoed (CVE-2008-2383)", "a\x1bP$q\nid\n\x1b\\b", "a\x1bP$qid\x1b\\b"},
		{"DECRQSS too long for a setting", "a\x1bP$qtouch\x1b\\b", "ab"},
		{"DECRQSS", "\x1bP$q q\x1b\\\x1bP$qm\x1b\\", same},
		{"rxvt graphics (CVE-2021-33477)", "a\x1bGQb", "aQb"},
		{"XTGETTCAP", "\x1bP+q544e;636f6c6f7273\x1b\\", same},
		{"XTGETTCAP with something else", "a\x1bP+q54;id\x1b\\b", "ab"},
		{"definition of a key", "a\x1bP0;1|17/69640d\x1b\\b", "ab"},
		{"answerback", "a\x05b", "ab"},
		{"program of ConEmu (OSC 9;7)", "a\x1b]9;7;cmd\a\x1b]9;6;\"x\"\ab", "ab"},
		{"notification and progress", "\x1b]9;done\a\x1b]9;4;1;50\a\x1b]9;4\a\x1b]777;notify;a;b\a\x1b]9;\u00d8\a", same},
		{"extension of urxvt", "a\x1b]777;cmd;x\ab", "ab"},
		{"files and clipboard of iTerm2", "a\x1b]1337;CopyToClipboard=x\ab", "ab"},
		{"where the next window opens", "a\x1b]7;file://h/tmp\ab", "ab"},
		{"files of kitty's graphics", "a\x1b_Ga=T,t=f;L2V0Yy9wYXNzd2Q=\x1b\\b", "ab"},
		{"privacy message and start of string", "a\x1b^x\x1b\\b\x1bXy\x1b\\c", "abc"},
		{"printer", "a\x1b[5ib\x1b[4ic\x1b[?5id", "abcd"},
		{"window moved, resized, hidden", "a\x1b[3;0;0tb\x1b[8;1;1tc\x1b[2td\x1b[1;2t", "abcd"},
		{"window's size and title stack", "\x1b[14t\x1b[18t\x1b[22;0;0t\x1b[23;0;0t", same},
		{"checksum of the screen", "a\x1b[1;1;1;1;1;1*yb", "ab"},
		{"keyboard lock", "a\x1b[2hb\x1b[4;2hc\x1b[4h", "abc\x1b[4h"},
		{"VT52 mode", "a\x1b[?2lb", "ab"},
		{"8-bit answers", "a\x1b Gb", "ab"},

		{"links and colours", "\x1b]8;;https://example.test\x1b\\x\x1b]8;;\x1b\\\x1b]11;?\x1b\\\x1b]4;1;?\a\x1b]104\a", same},
		{"modes", "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[>4;2m\x1b[>1u\x1b[?u\x1b[?12$p\x1b[!p\x1b[4 q", same},
		{"colours", "\x1b[38;2;1;2;3;48:2::4:5:6m\x1b[0m", same},
		{"sixels", "\x1bP0;1;0q\"1;1;8;8#0;2;0;0;0#0!8~-\x1b\\", same},
		{"character sets", "\x1b(0lqqk\x1b(B\x0e\x0f\x1b%G", same},
		{"text", "grün 漢字 🙂 \u200d naïve \u00a0 \u00d8\r\n\t\b\a\x7f\x00", same},
		{"characters with continuation bytes that look like C1", "“quoted” ═╗ \u0410\u041d", same},
		{"controls within a sequence are done first", "\x1b[3\b1m", "\b\x1b[31m"},
		{"a sequence that is cancelled", "a\x1b[3\x18b", "ab"},
		{"a sequence that is begun again", "a\x1b[3\x1b[1mb", "a\x1b[1mb"},
		{"a sequence that is not well-formed", "a\x1b[1 2mb\x1b[1?mc", "abc"},
		{"a sequence without end", "a\x1b[" + strings.Repeat("1;", 1000) + "mb", "ab"},
		{"palette of the Linux console", "a\x1b]P0AABBCCb\x1b]Rc", "abc"},
		{"unknown strings", "a\x1b]4242;x\ab\x1b]x\ac\x1b]\ad", "abcd"},
		{"a string of two lines loses no text after it", "\x1b]2;a\nb\ac", "\x1b]2;ab\ac"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want == same {
				want = tt.in
			}
			if got := filtered(new(Filter), tt.in); got != want {
				t.Errorf("%q\ngot  %q\nwant %q", tt.in, got, want)
			}
			if got := filtered(&Filter{Off: true}, tt.in); got != tt.in {
				t.Errorf("switched off, it changed %q to %q", tt.in, got)
			}
			for i := range tt.in {
				if got := filtered(new(Filter), tt.in[:i], tt.in[i:]); got != want {
					t.Errorf("split at %d: got %q, want %q", i, got, want)
				}
			}
		})
	}
}

func TestFilterClipboard(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"\x1b]52;c;ZXZpbA==\a", "\x1b]52;c;ZXZpbA==\a"},
		{"\x1b]52;;ZXZpbA==\x1b\\", "\x1b]52;;ZXZpbA==\x1b\\"},
		{"\x1b]52;c;\a", "\x1b]52;c;\a"},
		{"\x1b]52;c;?\a", ""},
		{"\x1b]52;cpqs01234567;?\x1b\\", ""},
		{"\x1b]52;c\a", ""},
	} {
		if got := filtered(&Filter{Clipboard: true}, tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

// What real programs say when they start and end. Nothing of it may be lost, and no mode may be taken to be left on.
func TestFilterPassesPrograms(t *testing.T) {
	for _, tt := range []struct{ name, start, end string }{
		{"vim 9", "\x1b[?1049h\x1b[22;0;0t\x1b[22;0t\x1b[>4;2m\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[1;24r\x1b[?12h\x1b[?12l\x1b[22;2t\x1b[22;1t" +
			"\x1b[27m\x1b[23m\x1b[29m\x1b[m\x1b[H\x1b[2J\x1b[?25l\x1b[2;1H▽\x1b[6n\x1b[2;1H  \x1b[>c\x1b]10;?\a\x1b]11;?\a\x1bP+q436f\x1b\\\x1bP+q6b75\x1b\\\x1bP$q q\x1b\\\x1b[?12$p\x1b[?25h",
			"\x1b[23;2t\x1b[23;1t\x1b[24;1H\x1b[K\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[?1049l\x1b[23;0;0t\x1b[?25h\x1b[>4;m"},
		{"less", "\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\r", "\r\x1b[K\x1b[?1l\x1b>\x1b[?1049l\x1b[23;0;0t"},
		{"htop", "\x1b[?1049h\x1b[22;0;0t\x1b[1;24r\x1b(B\x1b[m\x1b[4l\x1b[?7h\x1b[?1h\x1b=\x1b[?25l\x1b[39;49m\x1b[?1000h\x1b[?1006h",
			"\x1b[?1000l\x1b[?1006l\x1b[39;49m\x1b[24;1H\x1b[?12l\x1b[?25h\x1b[?1049l\x1b[23;0;0t\r\x1b[?1l\x1b>"},
		{"an agent", "\x1b[?2004h\x1b[?1004h\x1b[?2031h\x1b[>1u\x1b[>4;2m\x1b[?25l\x1b[?2026h\x1b]0;✳ task\a\x1b]9;4;3;\a\x1b[?2026l\x1b[>0q\x1b[c",
			"\x1b]9;4;0;\a\x1b[?2004l\x1b[?1004l\x1b[?2031l\x1b[<u\x1b[>4m\x1b[?25h"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f Filter
			if got := filtered(&f, tt.start); got != tt.start {
				t.Errorf("start: got %q", got)
			}
			if !f.Altered() {
				t.Error("the modes it set were not noticed")
			}
			if got := filtered(&f, tt.end); got != tt.end {
				t.Errorf("end: got %q", got)
			}
			if f.Altered() {
				t.Errorf("modes are taken to be on still: %+v", f.modes)
			}
			filtered(&f, tt.start, Reset)
			if f.Altered() {
				t.Errorf("Reset does not end what it set: %+v", f.modes)
			}
		})
	}
}

func TestResetEndsEveryModeThatIsTracked(t *testing.T) {
	for _, mode := range privateModes {
		if mode == 47 || mode == 1047 {
			continue // left by 1049l
		}
		want := []byte("?" + string(appendInt(nil, max(mode, -mode))) + "l")
		if mode < 0 {
			want[len(want)-1] = 'h'
		}
		if !bytes.Contains([]byte(Reset), want) {
			t.Errorf("Reset lacks %q", want)
		}
	}
}

func appendInt(b []byte, n int) []byte {
	if n >= 10 {
		b = appendInt(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

// dangerous finds what must never come out, in the ways that a terminal would understand it.
var dangerous = regexp.MustCompile(`(?s)\x1b\]0*(3|7|50|51|52|633|1337|5522)[;\x07\x1b]` + `|\x1b\[0*2[01](;[0-9;]*)?t` + `|\x1b_|\x1bX|\x1b\^|\x1bG|\x05` +
	`|\x1b\[[0-9;?]*i` + `|\xc2[\x80-\x9f]`)

func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		"plain", "\x1b]52;c;eA==\a", "\x1b]0;t\x1b[m", "\x1bP$qm\x1b\\", "\x1b[?1049h\x1b[20t", "\u009d52;\xe2\x9d\x9d", "\x1b]P0123456x", "\x1b]9;\xc3\x98\a", "\x1b[1\x18\x1b\x1b[",
	} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, s string, at uint8) {
		whole := filtered(new(Filter), s)
		cut := int(at) % (len(s) + 1)
		if got := filtered(new(Filter), s[:cut], s[cut:]); got != whole {
			t.Errorf("%q split at %d: %q, whole: %q", s, cut, got, whole)
		}
		var bytewise []string
		for i := range len(s) {
			bytewise = append(bytewise, s[i:i+1])
		}
		if got := filtered(new(Filter), bytewise...); got != whole {
			t.Errorf("%q byte by byte: %q, whole: %q", s, got, whole)
		}
		if again := filtered(new(Filter), whole); again != whole {
			t.Errorf("%q: filtering %q again gives %q", s, whole, again)
		}
		if m := dangerous.FindString(whole); m != "" {
			t.Errorf("%q: %q came through as part of %q", s, m, whole)
		}
		// Text is whatever has no control bytes that this is about. It must survive whatever the filter was in the middle of,
		// once that has been ended.
		if text := plainText(s); filtered(new(Filter), "\x1b]52;x", "\x1b[3\x1b]0;\a", text) != "\x1b]0;\a"+text {
			t.Errorf("text was lost: %q", text)
		}
	})
}

func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == esc || r == enq || r >= 0x80 && r < 0xa0 || r == '\uFFFD' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

func BenchmarkFilter(b *testing.B) {
	for _, tt := range []struct{ name, unit string }{
		{"ascii", "The quick brown fox jumps over the lazy dog, again and again, until it is tired.\r\n"},
		{"coloured", "\x1b[32mok\x1b[0m   casemate.dev/internal/relay \x1b[1m0.1s\x1b[0m\r\n"},
		{"utf8", "┌────────┬────────┐ │ grün 漢字│\r\n"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			data := []byte(strings.Repeat(tt.unit, 400))
			b.SetBytes(int64(len(data)))
			var f Filter
			for b.Loop() {
				f.Next(data)
			}
		})
	}
}
