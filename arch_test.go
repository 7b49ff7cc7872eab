package casemate

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "casemate.dev"

// layers lists the packages from bottom to top. A package may import only packages on earlier lines.
var layers = []string{
	"internal/stdout internal/policy internal/host internal/event internal/gate/wire internal/syscalls internal/store internal/engine/native/inside internal/limits internal/relay internal/beneath internal/merge internal/gate/confine internal/secret",
	"internal/secret/ask internal/secret/uses",
	"internal/secret/book internal/secret/login",
	"internal/secret/stores",
	"internal/secret/serve internal/secret/signer",
	"internal/gate/sigv4 internal/gate/rules internal/gate/names internal/gate/address internal/gate/claim internal/gate/records internal/gate/authority",
	"internal/gate/http1 internal/gate/broker",
	"internal/gate/dns internal/gate/requests",
	"internal/gate/keeper",
	"internal/history internal/preset internal/shim",
	"internal/guest internal/plan internal/workspace internal/cache",
	"internal/engine/native internal/engine/enginetest internal/review internal/commits",
	"internal/session internal/screen",
	"internal/cli",
	"cmd/casemate cmd/casemate-probe cmd/casemate-review cmd/casemate-gate cmd/casemate-secret",
}

// only is the allow-list of outside imports for the packages whose compromise would matter most. Default deny.
var only = map[string][]string{
	"internal/policy": {
		"bytes", "cmp", "crypto/sha256", "encoding/hex", "encoding/json", "errors", "fmt", "io", "maps", "math", "net/netip", "path", "slices", "sort",
		"strconv", "strings", "sync", "time", "unicode", "unicode/utf8", "embed", "go.yaml.in/yaml/v3",
	},
	"internal/engine/native/inside": {"bytes", "errors", "fmt", "slices", "strconv", "strings", "syscall", "unsafe", "runtime", "golang.org/x/sys/unix"},
	"internal/event":                {"time"},
	"internal/gate/claim":           {"bytes", "errors", "fmt", "slices", "strconv", "strings"},
	"internal/gate/address":         {"fmt", "net/netip", "sync"},
}

// nowhere lists imports that no package linked into the lean binary may have, because their inits run in every sandbox start.
var nowhere = []string{"net/http", "crypto/tls", "text/template", "html/template", "regexp"}

// besideOnly are the packages that nothing but the gate or casemate-secret links (beside sees to it), and that open connections.
var besideOnly = []string{"internal/gate/requests", "internal/gate/authority", "internal/gate/http1", "internal/gate/broker", "internal/secret/stores", "internal/secret/login"}

// beside lists what only one of the sibling programs may import, so that nothing of it comes into casemate: packages of ours, and modules, with those who may.
var beside = map[string]string{
	module + "/internal/screen":            "cmd/casemate-review",
	"github.com/gdamore/tcell/v3":          "internal/screen",
	"github.com/clipperhouse/displaywidth": "internal/screen",
	module + "/internal/gate/keeper":       "cmd/casemate-gate",
	module + "/internal/gate/dns":          "internal/gate/keeper",
	module + "/internal/gate/requests":     "internal/gate/keeper",
	module + "/internal/gate/authority":    "internal/gate/keeper",
	module + "/internal/gate/http1":        "internal/gate/requests",
	module + "/internal/gate/sigv4":        "internal/gate/broker",
	module + "/internal/gate/broker":       "internal/gate/requests internal/gate/keeper",
	"github.com/andybalholm/brotli":        "internal/gate/broker",
	"github.com/klauspost/compress":        "internal/gate/broker",
	"filippo.io/age":                       "internal/secret/book",
	"github.com/godbus/dbus/v5":            "internal/secret/stores",
	module + "/internal/secret/serve":      "cmd/casemate-secret",
	module + "/internal/secret/signer":     "cmd/casemate-secret",
	"golang.org/x/crypto":                  "internal/secret/signer",
	module + "/internal/secret/stores":     "internal/secret/serve cmd/casemate-secret",
	module + "/internal/secret/login":      "internal/secret/stores internal/secret/serve cmd/casemate-secret",
	module + "/internal/secret/book":       "internal/secret/stores internal/secret/serve cmd/casemate-secret",
	"golang.org/x/net/dns/dnsmessage":      "internal/gate/dns",
	"golang.org/x/net/http/httpproxy":      "internal/gate/keeper",
}

// TestArchitecture parses the files instead of asking `go list`, so that the test cache sees every change.
func TestArchitecture(t *testing.T) {
	rank := map[string]int{}
	for i, line := range layers {
		for p := range strings.FieldsSeq(line) {
			rank[p] = i
		}
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || path == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() && slices.Contains([]string{"util", "utils", "common", "types", "manager", "helper", "helpers", "misc"}, d.Name()) {
			t.Errorf("%s: a package's name says what it is about", path)
		}
		if strings.HasSuffix(path, ".go") {
			checkFile(t, rank, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, rank map[string]int, path string) {
	pkg := filepath.ToSlash(filepath.Dir(path))
	if pkg == "." || pkg == "test" || strings.HasPrefix(pkg, "test/") {
		return // the tests of the whole may import anything
	}
	r, known := rank[pkg]
	if !known {
		t.Errorf("%s: package %s is not in layers: decide where it belongs", path, pkg)
		return
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	isTest := strings.HasSuffix(path, "_test.go")
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		for sibling, only := range beside {
			if (imp == sibling || strings.HasPrefix(imp, sibling+"/")) && !slices.Contains(strings.Fields(only), pkg) && !isTest { // tests are in no program
				t.Errorf("%s imports %s, which only %s may", path, imp, only)
			}
		}
		if dep, ours := strings.CutPrefix(imp, module+"/"); ours {
			switch d, ok := rank[dep]; {
			case dep == pkg:
			case isTest && dep == "test/bench/count": // what is counted is tested where it is made
			case !ok:
				t.Errorf("%s imports %s, which is not in layers", path, dep)
			case d >= r:
				t.Errorf("%s imports %s, which is not below %s", path, dep, pkg)
			}
			continue
		}
		if isTest {
			continue
		}
		if allowed, limited := only[pkg]; limited && !slices.Contains(allowed, imp) {
			t.Errorf("%s imports %s, which %s may not", path, imp, pkg)
		}
		if slices.Contains(nowhere, imp) && !slices.Contains(besideOnly, pkg) {
			t.Errorf("%s imports %s, whose init would run in every sandbox start", path, imp)
		}
	}
}
