package test

import (
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What the registries hold: one package each, which says hello. All are made here.

const greeting = "hello from the registry"

// layWares makes those of the servers that only serve files, and the repository for git over https.
func layWares(dir string) error {
	return errors.Join(layModule(filepath.Join(dir, "go")), layWheel(filepath.Join(dir, "pypi")), layDebian(filepath.Join(dir, "deb")),
		lay(filepath.Join(dir, "apt", "sources.list"), "deb [trusted=yes] https://deb.example/ ./\ndeb [trusted=yes] http://deb.example/ ./\n"), layRepository(filepath.Join(dir, "git")))
}

func lay(path, content string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644))
}

// zipped is an archive of names and contents, in turn.
func zipped(namesAndContents ...string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(namesAndContents); i += 2 {
		f, err := z.Create(namesAndContents[i])
		if err != nil {
			panic(err)
		}
		io.WriteString(f, namesAndContents[i+1])
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// layModule lays a module as the go command keeps it in cache/download, which is what it asks a proxy for.
func layModule(dir string) error {
	at := filepath.Join(dir, "greet.example/greet/@v")
	mod := "module greet.example/greet\n"
	in := "greet.example/greet@v1.0.0/"
	return errors.Join(lay(at+"/list", "v1.0.0\n"), lay(at+"/v1.0.0.info", `{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}`), lay(at+"/v1.0.0.mod", mod),
		lay(at+"/v1.0.0.zip", zipped(in+"go.mod", mod, in+"greet.go", "package greet\n\nconst Hello = \""+greeting+"\"\n")))
}

// layWheel lays a simple index (PEP 503) with one wheel (PEP 427).
func layWheel(dir string) error {
	wheel := zipped("greet.py", "hello = '"+greeting+"'\n",
		"greet-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.0.0\n",
		"greet-1.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"greet-1.0.0.dist-info/RECORD", "greet.py,,\ngreet-1.0.0.dist-info/METADATA,,\ngreet-1.0.0.dist-info/WHEEL,,\ngreet-1.0.0.dist-info/RECORD,,\n")
	const file = "greet-1.0.0-py3-none-any.whl"
	link := fmt.Sprintf("<a href=\"../../files/%s#sha256=%x\">%s</a>\n", file, sha256.Sum256([]byte(wheel)), file)
	return errors.Join(lay(dir+"/files/"+file, wheel), lay(dir+"/simple/greet/index.html", link))
}

// layDebian lays a repository with one package.
func layDebian(dir string) error {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		return nil // a machine without Debian's tools: its test names them
	}
	tree := filepath.Join(dir, "..", "deb-tree")
	control := "Package: greet\nVersion: 1.0.0\nArchitecture: all\nMaintainer: Tests <tests@example.com>\nDescription: says hello\n"
	if err := errors.Join(lay(tree+"/DEBIAN/control", control), lay(tree+"/usr/share/greet/hello", greeting+"\n"), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	const file = "greet_1.0.0_all.deb"
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, filepath.Join(dir, file)).CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, out)
	}
	deb, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	packages := fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n", control, file, len(deb), sha256.Sum256(deb))
	release := fmt.Sprintf("Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n %x %d Packages\n", sha256.Sum256([]byte(packages)), len(packages))
	return errors.Join(lay(dir+"/Packages", packages), lay(dir+"/Release", release))
}

// layRepository makes two that may be pushed to.
func layRepository(dir string) error {
	line := `for name in https other; do git init -q --bare -b main "$0/$name.git" && git -C "$0/$name.git" config http.receivepack true || exit; done`
	if out, err := exec.Command("sh", "-c", line, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("git init: %w: %s", err, out)
	}
	return nil
}

// publishNpm publishes the packages.
func publishNpm() error {
	return errors.Join(publishOne("greet"), publishOne("is-number"))
}

// publishOne publishes a package with what npm sends.
func publishOne(name string) error {
	dir, err := os.MkdirTemp("", "casemate-npm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	manifest := `{"name":"` + name + `","version":"1.0.0","main":"index.js"}`
	if err := errors.Join(lay(dir+"/package/package.json", manifest), lay(dir+"/package/index.js", "module.exports = '"+greeting+"'\n")); err != nil {
		return err
	}
	tar, err := exec.Command("tar", "-C", dir, "-czf", "-", "package").Output()
	if err != nil {
		return err
	}
	document := map[string]any{
		"_id": name, "name": name, "dist-tags": map[string]string{"latest": "1.0.0"},
		"versions": map[string]any{"1.0.0": map[string]any{
			"name": name, "version": "1.0.0", "main": "index.js", "_id": name + "@1.0.0",
			"dist": map[string]string{"tarball": "http://" + behind + ":4873/" + name + "/-/" + name + "-1.0.0.tgz", "shasum": fmt.Sprintf("%x", sha1.Sum(tar))},
		}},
		"_attachments": map[string]any{name + "-1.0.0.tgz": map[string]any{"content_type": "application/octet-stream", "data": base64.StdEncoding.EncodeToString(tar), "length": len(tar)}},
	}
	body, err := json.Marshal(document)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodPut, "http://"+behind+":4873/"+name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: &http.Transport{}}).Do(request) // no proxy of the environment's
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("publish: %s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
