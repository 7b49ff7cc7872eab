package test

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// TestNothingCarriesOver: what a run sets of the project's own directory, and nothing else, is not there in the next one, which takes the same directory of an
// empty layer. An access list would make the next run's files writable for everybody, on the host too once they are applied.
func TestNothingCarriesOver(t *testing.T) {
	needs(t, "setfattr")
	namespaced(t, func(t *testing.T, s *site) {
		const everybody = "0x0200000001000700ffffffff04000700ffffffff20000700ffffffff" // u::rwx,g::rwx,o::rwx, as acl(5) has it in an attribute
		look := `getfattr --absolute-names -d -m - . 2>/dev/null | grep -v overlay; stat -c %y . | cut -c1-4; umask 077; : >new; stat -c %a new; rm new`
		set := "setfattr -n user.left -v secret . && setfattr -n system.posix_acl_default -v " + everybody + " . && touch -d 1999-01-01 . && "
		if o := s.do("run", "--", "sh", "-c", set+look); !strings.Contains(o.stdout, "secret") || !strings.Contains(o.stdout, "1999") || !strings.Contains(o.stdout, "666") { // control
			t.Fatal(o)
		}
		for _, args := range [][]string{{"run"}, {"run", "--fresh"}} {
			if o := s.do(append(args, "--", "sh", "-c", look)...); strings.Contains(o.stdout, "left") || strings.Contains(o.stdout, "acl") || strings.Contains(o.stdout, "1999") || !strings.HasSuffix(o.stdout, "600\n") {
				t.Error(o)
			}
		}
	})
}

// TestOwnerChanges: root's sandboxes are their project's owner's, and what one of them has left is not another's.
func TestOwnerChanges(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root's sandboxes belong to somebody else; make test runs this as root")
	}
	s := newSite(t, best())
	for _, owner := range []string{"1001", "1234", "0", "1001"} {
		if out, err := exec.Command("chown", "-R", owner+":"+owner, s.command().Dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var runs sync.WaitGroup
		for range 4 {
			runs.Go(func() {
				cmd := s.command("run", "--", "sh", "-c", "sleep 0.3; echo ran")
				if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ran\n" {
					t.Errorf("a project of user %s: %v: %s", owner, err, out)
				}
			})
		}
		runs.Wait()
	}
}
