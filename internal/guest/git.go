package guest

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// GitOptions says whose git settings, and for which project.
type GitOptions struct {
	Home       string // on the host
	ConfigHome string // $XDG_CONFIG_HOME, or empty
	Project    string // decides which conditional includes hold; empty without one
	Safe       []string
	Offline    bool // nothing outside can be reached: pushes are answered by us
	Logins     []GitLogin
}

// Bounds of reading the user's git settings.
const (
	maxGitFile  = 1 << 20
	maxGitFiles = 32
	maxGitDepth = 8
	maxGitValue = 4096
)

// GitConfig returns git settings for inside: who the user is and how they like git to look, and what a sandbox needs. Nothing in it names a
// program, a credential, an address or a key. The user's files are read by our own parser: running git here would run what they name.
func GitConfig(o GitOptions) []byte {
	r := gitReader{o: o}
	dir := o.ConfigHome
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(o.Home, ".config")
	}
	r.file(filepath.Join(dir, "git", "config"), 0)
	r.file(filepath.Join(o.Home, ".gitconfig"), 0)
	return r.write()
}

type gitEntry struct{ section, sub, key, value string }

type gitReader struct {
	o       GitOptions
	files   int
	entries []gitEntry
}

// file reads one file of the user's, and what it includes. Like git, it goes on without a file that is missing; unlike git, also without
// one that is broken: what came before the error counts.
func (r *gitReader) file(name string, depth int) {
	if r.files++; r.files > maxGitFiles || depth > maxGitDepth {
		return
	}
	data := r.read(name)
	parseGitConfig(data, func(e gitEntry) {
		if e.key == "path" && (e.section == "include" && e.sub == "" || e.section == "includeif" && r.holds(e.sub, name)) {
			if to := r.expand(e.value, name); to != "" {
				r.file(to, depth+1)
			}
			return
		}
		if gitAllowed(e) {
			r.add(e)
		}
	})
}

// read returns a regular file that belongs to the user or root, lies in the home or the configuration directory, and that nobody else can
// write. Whose file it is and where it lies is asked of the opened descriptor.
func (r *gitReader) read(name string) []byte {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o002 != 0 || st.Size > maxGitFile {
		return nil
	}
	if uid := uint32(os.Geteuid()); st.Uid != uid && st.Uid != 0 && uid != 0 {
		return nil
	}
	data := make([]byte, st.Size)
	n, err := unix.Read(fd, data)
	if err != nil {
		return nil
	}
	return data[:n]
}

// expand makes the path of an include absolute, and empty if it leads out of the user's own files.
func (r *gitReader) expand(value, from string) string {
	to := value
	switch {
	case strings.HasPrefix(value, "~/"):
		to = filepath.Join(r.o.Home, value[2:])
	case !filepath.IsAbs(value):
		to = filepath.Join(filepath.Dir(from), value)
	}
	real, err := filepath.EvalSymlinks(to)
	if err != nil {
		return ""
	}
	for _, dir := range []string{r.o.Home, r.o.ConfigHome} {
		if root, err := filepath.EvalSymlinks(dir); err == nil && dir != "" && below(real, root) && !(r.o.Project != "" && within(real, r.o.Project)) {
			return real
		}
	}
	return ""
}

// holds says whether the condition of an includeIf holds. Only those about the repository's place can be told from outside.
func (r *gitReader) holds(condition, from string) bool {
	kind, pattern, ok := strings.Cut(condition, ":")
	if !ok || r.o.Project == "" || kind != "gitdir" && kind != "gitdir/i" {
		return false
	}
	switch {
	case strings.HasPrefix(pattern, "~/"):
		pattern = r.o.Home + pattern[1:]
	case strings.HasPrefix(pattern, "./"):
		pattern = filepath.Dir(from) + pattern[1:]
	case !strings.HasPrefix(pattern, "/"):
		pattern = "**/" + pattern
	}
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	place := filepath.Join(r.o.Project, ".git")
	if kind == "gitdir/i" {
		pattern, place = strings.ToLower(pattern), strings.ToLower(place)
	}
	return matchDirs(strings.Split(pattern, "/"), strings.Split(place, "/"), 1000)
}

// matchDirs matches path elements; "**" is any number of them. steps bounds the work of a pattern with many of those.
func matchDirs(pattern, place []string, steps int) bool {
	reach := map[int]bool{0: true} // how much of place the pattern so far can have matched
	for _, p := range pattern {
		next := map[int]bool{}
		for i := range reach {
			if steps--; steps < 0 {
				return false
			}
			if p == "**" {
				for j := i; j <= len(place); j++ {
					next[j] = true
				}
				continue
			}
			if i < len(place) {
				if ok, err := path.Match(p, place[i]); ok && err == nil {
					next[i+1] = true
				}
			}
		}
		reach = next
	}
	return reach[len(place)]
}

func (r *gitReader) add(e gitEntry) {
	same := func(x gitEntry) bool { return x.section == e.section && x.sub == e.sub && x.key == e.key }
	r.entries = append(slices.DeleteFunc(r.entries, same), e)
}

// gitAllowed says whether a setting is harmless inside and useful there.
func gitAllowed(e gitEntry) bool {
	if len(e.value) > maxGitValue || strings.ContainsAny(e.value, "\x00\r") || strings.Contains(e.value, "://") {
		return false
	}
	switch e.section {
	case "color":
		return true // names of colours, also per command
	case "alias":
		return e.sub == "" && !strings.Contains(e.value, "!") // with it, an alias is a command line for a shell
	case "advice", "column", "pretty":
		return e.sub == ""
	}
	return e.sub == "" && slices.Contains(gitHarmless(e.section), e.key)
}

// gitHarmless lists the keys of a section that say how git behaves and looks, and that name no program, file, address or key.
func gitHarmless(section string) []string {
	switch section {
	case "user", "author", "committer":
		return []string{"name", "email", "useconfigonly"}
	case "core":
		return []string{"autocrlf", "eol", "safecrlf", "quotepath", "whitespace", "abbrev", "commentchar", "commentstring"}
	case "init":
		return []string{"defaultbranch"}
	case "pull":
		return []string{"rebase", "ff"}
	case "push":
		return []string{"default", "autosetupremote", "followtags"}
	case "fetch":
		return []string{"prune", "prunetags"}
	case "rebase":
		return []string{"autosquash", "autostash", "updaterefs", "missingcommitscheck", "abbreviatecommands", "stat"}
	case "merge":
		return []string{"conflictstyle", "ff", "stat", "log", "renames"}
	case "diff":
		return []string{"algorithm", "colormoved", "colormovedws", "renames", "renamelimit", "mnemonicprefix", "noprefix", "context", "interhunkcontext", "wserrorhighlight", "indentheuristic", "submodule", "statgraphwidth", "relative"}
	case "log":
		return []string{"date", "abbrevcommit", "decorate", "follow"}
	case "status":
		return []string{"short", "branch", "showuntrackedfiles", "relativepaths", "showstash", "submodulesummary", "aheadbehind"}
	case "commit":
		return []string{"verbose", "cleanup", "status"}
	case "branch":
		return []string{"autosetuprebase", "autosetupmerge", "sort"}
	case "tag":
		return []string{"sort"}
	case "stash":
		return []string{"showpatch", "showstat", "showincludeuntracked"}
	case "rerere":
		return []string{"enabled", "autoupdate"}
	case "help":
		return []string{"autocorrect"}
	case "blame":
		return []string{"coloring", "date", "showemail", "blankboundary"}
	case "grep":
		return []string{"linenumber", "patterntype", "column", "extendedregexp", "fullname"}
	case "format":
		return []string{"pretty"}
	case "versionsort":
		return []string{"suffix"}
	case "apply":
		return []string{"whitespace"}
	case "checkout":
		return []string{"defaultremote", "guess"}
	}
	return nil
}

// write puts the settings into git's own format.
func (r *gitReader) write() []byte {
	var b strings.Builder
	b.WriteString("# made by casemate from the user's own settings; what names programs, keys, addresses or credentials is left out\n")
	section := ""
	put := func(e gitEntry) {
		head := "[" + e.section + "]\n"
		if e.sub != "" {
			head = "[" + e.section + " " + quoteGit(e.sub) + "]\n"
		}
		if head != section {
			b.WriteString(head)
			section = head
		}
		b.WriteString("\t" + e.key + " = " + quoteGit(e.value) + "\n")
	}
	for _, e := range r.entries {
		put(e)
	}
	for _, dir := range r.o.Safe {
		if !strings.ContainsAny(dir, "\x00\r") {
			put(gitEntry{"safe", "", "directory", dir})
		}
	}
	put(gitEntry{"credential", "", "helper", ""}) // an empty one forgets those named before
	for _, l := range r.o.Logins {
		l.write(put)
	}
	put(gitEntry{"gc", "", "auto", "0"}) // would copy the project's packs into the change layer
	put(gitEntry{"maintenance", "", "auto", "false"})
	if r.o.Offline {
		r.denyPushes(put)
	}
	return []byte(b.String())
}

// quoteGit writes a value as git reads it (git-config(1), Syntax). A strings.Replacer would build tables of 140 KiB first, at every start.
func quoteGit(v string) string {
	b := []byte{'"'}
	for i := range len(v) {
		switch c := v[i]; c {
		case '\\', '"':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
