package session

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"casemate.dev/internal/guest"
	"casemate.dev/internal/plan"
	"casemate.dev/internal/preset"
	"casemate.dev/internal/store"
	"golang.org/x/sys/unix"
)

// trusted is what makes programs inside trust the gate, where it opens TLS: files of the sandbox's own, each of which is seen in place of one of the
// system's and holds what that held, and the gate's authority. They are made empty when the run is prepared, as the plan pins what it mounts, and filled when
// the gate has said what its authority is. Nothing of it is ever written to where the host's own programs look.
type trusted struct {
	dir   string
	over  []guest.Trusted
	files []string // in dir, for each of over
}

const (
	authorityFile = "authority.pem"
	bundleFile    = "bundle.pem" // what most programs trust: the first of the system's bundles
	maxBundle     = 16 << 20
)

// trust prepares the files and says to the plan what they stand for. A run before, whose sandbox is kept, may have left others: they go, and what still has
// them open has the old ones.
func (r *Run) trust(req *plan.Request, v guest.View) error {
	t := &trusted{over: v.Trusted(r.etc.Path), dir: filepath.Join(r.Store.Root, "sandboxes", "new", "trust")}
	if r.Box != nil {
		t.dir = filepath.Join(r.Box.Dir, "trust")
	}
	req.Trust = plan.Trust{Dir: t.dir, Target: guest.TrustDir}
	for i, o := range t.over {
		name := "bundle-" + strconv.Itoa(i) + ".pem"
		if o.Java {
			name = "cacerts-" + strconv.Itoa(i)
		} else if i == 0 {
			name = bundleFile
		}
		t.files = append(t.files, name)
		req.Trust.Over = append(req.Trust.Over, plan.Mount{Source: filepath.Join(t.dir, name), Target: o.Target})
	}
	for _, row := range guest.TrustRows() {
		req.Trust.Variables = append(req.Trust.Variables, plan.Variable{Name: row.Name, Value: row.Value})
	}
	r.verifiers = r.authorities()
	if len(t.over) == 0 || t.over[0].Java {
		r.notice("this machine has no bundle of authorities, as the package ca-certificates brings one: inside, programs trust the gate for the hosts whose TLS it opens, and may trust no other")
	}
	if r.Options.DryRun {
		return nil
	}
	r.trusted = t
	if err := t.make(); err != nil {
		return fmt.Errorf("authorities for the sandbox: %w", err)
	}
	return nil
}

// authorities are those of the person's own by which hosts are verified where their TLS is opened, as variables: the gate takes them from nowhere else. As with
// all that says where things come from, nothing in the project is believed: an agent could add an authority there.
func (r *Run) authorities() (env []string) {
	here := &preset.Here{Project: r.Project, Cache: filepath.Join(r.Store.Root, "presets")}
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		value := r.Person.getenv(name)
		if slices.ContainsFunc(filepath.SplitList(value), func(path string) bool { return !here.Believes(path) }) {
			r.notice("%s names %s, where an agent can write: it is not believed, and hosts whose TLS is opened are verified by the system's authorities (name a copy outside of the project)", name, value)
			continue
		}
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// names are all files, each once.
func (t *trusted) names() []string {
	names := []string{authorityFile}
	if len(t.files) == 0 || t.files[0] != bundleFile { // a system without authorities
		names = append(names, bundleFile)
	}
	return append(names, t.files...)
}

// make makes them empty. The sandbox's user reads them by others' rights: it need not own them, and outside nobody else comes past the directories above.
func (t *trusted) make() error {
	if err := os.RemoveAll(t.dir); err != nil {
		return err
	}
	if err := store.MakeDir(t.dir); err != nil {
		return err
	}
	if err := os.Chmod(t.dir, 0o755); err != nil {
		return err
	}
	for _, name := range t.names() {
		fd, err := unix.Openat(unix.AT_FDCWD, filepath.Join(t.dir, name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		err = unix.Fchmod(fd, 0o644) // whatever the umask
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// fill writes them, given the gate's authority.
func (t *trusted) fill(authority string) error {
	der := guest.Certificates([]byte(authority))
	if len(der) != 1 {
		return fmt.Errorf("gate: it has to open TLS, and came with %d certificates", len(der))
	}
	system := []byte{}
	for i, o := range t.over {
		old, err := store.Read(o.Source, maxBundle)
		if err != nil { // programs would trust the gate and nobody else
			return fmt.Errorf("authorities for the sandbox: %w", err)
		}
		if t.files[i] == bundleFile {
			system = old
		}
		text := with(old, authority)
		if o.Java {
			text = guest.KeyStore(old, system, der[0])
		}
		if err := t.write(t.files[i], text); err != nil {
			return err
		}
	}
	if len(t.files) == 0 || t.files[0] != bundleFile {
		if err := t.write(bundleFile, []byte(authority)); err != nil {
			return err
		}
	}
	return t.write(authorityFile, []byte(authority))
}

// with adds a certificate to others, on a line of its own.
func with(bundle []byte, authority string) []byte {
	if len(bundle) > 0 && bundle[len(bundle)-1] != '\n' {
		bundle = append(bundle, '\n')
	}
	return append(bundle, authority...)
}

// write fills a file that was made: the plan has pinned it.
func (t *trusted) write(name string, text []byte) error {
	fd, err := unix.Open(filepath.Join(t.dir, name), unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("authorities for the sandbox: %s: %w", name, err)
	}
	defer unix.Close(fd)
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("authorities for the sandbox: %s: %w", name, err)
		}
		text = text[max(n, 0):]
	}
	return nil
}

// remove takes them away when the run has ended: the authority's key went with the gate.
func (t *trusted) remove() {
	if t != nil {
		os.RemoveAll(t.dir)
	}
}
