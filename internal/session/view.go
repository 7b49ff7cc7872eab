package session

import (
	"os"
	"path/filepath"

	"casemate.dev/internal/plan"
)

// view gathers what the command sees of the host's system.
func (r *Run) view(req *plan.Request) error {
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		req.System = append(req.System, plan.Tree{Source: "usr/" + l, Target: "/" + l, Link: true})
	}
	req.System = append(req.System, plan.Tree{Source: "/usr", Target: "/usr"})
	req.Etc = "/etc"
	req.Path = req.Argv[0]
	if !filepath.IsAbs(req.Path) {
		req.Path = "/usr/bin/" + req.Path
	}
	req.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + req.User.Home, "TERM=" + os.Getenv("TERM")}
	return nil
}

func (r *Run) mask(req *plan.Request) error {
	req.Mask = filepath.Join(r.Store.Project(r.Project), "mask")
	return r.ownDirectory(req.Mask, req.User)
}
