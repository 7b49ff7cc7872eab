package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// listDescriptors ends with the list of what ls has open: the directory that it lists is the fourth.
const listDescriptors = `readlink /proc/$$/fd/0 | cut -c1-5; cat; echo out; echo err >&2; exec ls /proc/self/fd`

// TestManyDescriptors starts casemate with as many descriptors open as bring its own to every number that a set-up may choose: none of them is the
// command's then, and its three are its own.
func TestManyDescriptors(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		null, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		for _, n := range []int{0, 40, 64, 70, 100, 187, 190, 195, 197, 199, 201, 203, 205, 207, 208, 209, 210, 211, 212, 213, 214, 215, 218, 222, 250, 300} {
			cmd := s.command("run", "--", "sh", "-c", listDescriptors)
			for range n {
				cmd.ExtraFiles = append(cmd.ExtraFiles, null)
			}
			cmd.Stdin = strings.NewReader("in\n")
			o := s.finish(cmd)
			if want := "pipe:\nin\nout\n0\n1\n2\n3\n"; o.stdout != want || !strings.HasSuffix(o.stderr, "err\n") || o.exit != 0 {
				t.Errorf("with %d descriptors more: %s", n, o)
			}
		}
	})
}

// TestManyOpenings: each opening needs descriptors while it is mounted.
func TestManyOpenings(t *testing.T) {
	namespaced(t, func(t *testing.T, s *site) {
		dir, err := os.MkdirTemp(s.Dir, "openings")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		args := []string{"run"}
		for i := range 300 {
			d := filepath.Join(dir, fmt.Sprintf("d%d", i))
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d, "f"), fmt.Appendf(nil, "%d\n", i), 0o644); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--read", d)
		}
		o := s.finish(s.command(append(args, "--", "sh", "-c", fmt.Sprintf(`for i in $(seq 0 299); do [ "$(cat %s/d$i/f)" = $i ] || echo wrong $i; done; echo done >held`, dir))...))
		if o.stdout != "" || o.exit != 0 {
			t.Error(o)
		}
	})
}

// TestFewDescriptors: a limit that lets few files be open at once is enough, and one that does not is named.
func TestFewDescriptors(t *testing.T) {
	eachMode(t, func(t *testing.T, s *site) {
		limited := func(files int) output {
			cmd := s.command("run", "--", "echo", "ran")
			line := fmt.Sprintf(`ulimit -n %d; exec "$@"`, files)
			*cmd = exec.Cmd{Path: "/bin/sh", Args: append([]string{"sh", "-c", line, "sh"}, cmd.Args...), Dir: cmd.Dir, Env: cmd.Env, SysProcAttr: cmd.SysProcAttr}
			return s.finish(cmd)
		}
		if o := limited(140); o.stdout != "ran\n" || o.exit != 0 {
			t.Error(o)
		}
		if o := limited(40); o.stdout != "" || o.exit != 125 || !strings.Contains(o.stderr, "ulimit -Hn") {
			t.Error(o)
		}
	})
}
