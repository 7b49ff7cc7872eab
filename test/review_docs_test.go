package test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// screens finds the pictures of a screen in a page: a comment that gives its size and the command, and a block with what it shows.
var screens = regexp.MustCompile("(?s)<!-- screen ([0-9]+)x([0-9]+): ([^\n]*) -->\n```text\n(.*?)```\n")

// TestDocsScreens compares the screens that the documents show with the real ones. With -update it takes new pictures.
func TestDocsScreens(t *testing.T) {
	for name, prepare := range map[string]func(s *shop, before string){
		"docs/how-to/review-changes.md": func(s *shop, _ string) { s.run(agent) },
		"docs/tutorial.md": func(s *shop, before string) {
			s.project = filepath.Join(s.home, "tutorial")
			s.put("x", "")
			var script strings.Builder
			for _, e := range examples(before) { // TestDocsRun runs them with all that they print
				script.WriteString(e.command + "\n")
			}
			s.sh("exec >/dev/null 2>&1\n" + script.String() + "true")
			s.project = filepath.Join(s.project, "shop")
		},
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			file := filepath.Join("..", name)
			page, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			at := screens.FindSubmatchIndex(page)
			if at == nil {
				t.Fatal("there is no screen in it")
			}
			group := func(i int) string { return string(page[at[2*i]:at[2*i+1]]) }
			s := newShop(t)
			prepare(s, string(page[:at[0]]))
			columns, _ := strconv.Atoi(group(1))
			rows, _ := strconv.Atoi(group(2))
			sc := s.screen(columns, rows)
			sc.types("quit", group(3), "Enter")
			shown := sc.until("lines are counted", func(shown string) bool {
				return strings.Contains(shown, "quit") && !strings.Contains(shown, "counting")
			}) + "\n"
			if *update {
				if err := os.WriteFile(file, bytes.Join([][]byte{page[:at[8]], []byte(shown), page[at[9]:]}, nil), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if shown != group(4) {
				t.Errorf("the page shows\n%s\nthe screen\n%s", group(4), shown)
			}
			sc.types("nothing was applied", "q")
		})
	}
}
