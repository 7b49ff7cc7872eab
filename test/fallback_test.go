package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFallbackOwnFiles: modes and times of the sandbox's own files can be changed as anywhere, though the fallback's supervisor does it.
func TestFallbackOwnFiles(t *testing.T) {
	needs(t, "python3")
	if os.Getuid() == 0 {
		t.Skip("the fallback is for ordinary users")
	}
	s := newSite(t, fallback())
	s.script("metadata.py")
	s.Accept()
	s.works(t, nil, "python3", "work/metadata.py", "calls")
	s.works(t, []string{"--workspace", "none", "--read", filepath.Join(s.Work, "work")}, "python3", filepath.Join(s.Work, "work", "metadata.py"), "calls")
	s.unchanged(t)
}

// TestFallbackReadOnlyFiles: what the user owns and lets the sandbox read cannot be changed by any name or descriptor.
func TestFallbackReadOnlyFiles(t *testing.T) {
	needs(t, "python3")
	eachMode(t, func(t *testing.T, s *site) {
		s.script("metadata.py")
		s.put("../shown/file", "read me\n", 0o644)
		s.Accept()
		file := filepath.Join(s.Dir, "shown", "file")
		s.works(t, []string{"--read", filepath.Dir(file)}, "python3", "work/metadata.py", "outside", file)
		s.unchanged(t)
		t.Run("control", func(t *testing.T) {
			cmd := exec.Command("python3", filepath.Join("work", "metadata.py"), "outside", file)
			cmd.Dir = s.Work
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("outside nothing went through either: %s", out)
			}
		})
	})
}
