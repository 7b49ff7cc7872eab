package preset

import (
	"path/filepath"
	"slices"
	"strings"
)

// mavenXML reads the repositories and mirrors of settings.xml or pom.xml. Of everything else in it, such as passwords, nothing is kept.
func mavenXML(text string) (list []setting) {
	var open []string
	for pos := 0; pos < len(text) && len(list) < maxSettings; {
		start := strings.IndexByte(text[pos:], '<')
		if start < 0 {
			break
		}
		content, begin := strings.TrimSpace(text[pos:pos+start]), pos+start
		if skip := after(text[begin:], "<!--", "-->") + after(text[begin:], "<![CDATA[", "]]>") + after(text[begin:], "<?", "?>") + after(text[begin:], "<!D", ">"); skip > 0 {
			pos = begin + skip
			continue
		}
		end := strings.IndexByte(text[begin:], '>')
		if end < 0 {
			break
		}
		tag := text[begin+1 : begin+end]
		pos = begin + end + 1
		switch name := tagName(tag); {
		case strings.HasPrefix(tag, "/"):
			if key := mavenKey(open); key != "" && content != "" {
				list = append(list, setting{key, content, 1 + strings.Count(text[:begin], "\n")})
			}
			if len(open) == 0 || open[len(open)-1] != name {
				return list // not XML any more
			}
			open = open[:len(open)-1]
		case strings.HasSuffix(tag, "/"):
		case len(open) == 32:
			return list
		default:
			open = append(open, name)
		}
	}
	return list
}

// after is how long a part of the text is that begins and ends so, or 0.
func after(text, begin, end string) int {
	if !strings.HasPrefix(text, begin) {
		return 0
	}
	if i := strings.Index(text[len(begin):], end); i >= 0 {
		return len(begin) + i + len(end)
	}
	return len(text)
}

func tagName(tag string) string {
	f := strings.FieldsFunc(strings.Trim(tag, "/"), func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' })
	if len(f) == 0 {
		return ""
	}
	return f[0]
}

// mavenKey says what an element is about: where artifacts come from, and nothing of distributionManagement, which is where they are published to.
func mavenKey(open []string) string {
	n := len(open)
	if n < 2 || slices.Contains(open, "distributionManagement") {
		return ""
	}
	switch open[n-2] + ">" + open[n-1] {
	case "mirror>url":
		return "mirror"
	case "mirror>mirrorOf":
		return "mirrorOf"
	case "repository>url", "pluginRepository>url":
		return "repository"
	}
	return ""
}

// superPOM is the file within Maven's own archive that says where it looks by default.
const superPOM = "org/apache/maven/model/pom-4.0.0.xml"

// blocker is what Maven comes with as the mirror of every repository without TLS: it leads nowhere.
const blocker = "http://0.0.0.0/"

func (s *search) maven() {
	home := s.mavenHome()
	all := false
	for _, file := range []string{s.in(".m2/settings.xml"), filepath.Join(home, "conf/settings.xml"), s.etc("maven/settings.xml")} {
		for _, l := range mavenXML(s.read(file)) {
			if l.key == "mirrorOf" {
				all = all || slices.Contains(strings.Split(l.value, ","), "*") || slices.Contains(strings.Split(l.value, ","), "central")
				continue
			}
			if l.value == blocker {
				continue
			}
			s.openURL(s.expand(strings.ReplaceAll(l.value, "${env.", "${")), s.at(file, l.line), true)
		}
	}
	if !all && home != "" { // nothing stands in for what Maven has built in
		jars, _ := filepath.Glob(filepath.Join(home, "lib", "maven-model-builder-*.jar"))
		for _, jar := range jars {
			s.files = append(s.files, jar)
			lines, _ := s.ask(keepMaven, []string{"unzip"}, "-p", jar, superPOM)
			for _, l := range lines {
				s.openURL(l, "Maven's own pom-4.0.0.xml, in "+s.at(jar, 0), false)
			}
		}
		if len(jars) == 0 || s.lookFor("unzip") == "" {
			s.note("what Maven has built in cannot be read here: that takes unzip and " + filepath.Join(home, "lib", "maven-model-builder-*.jar"))
		}
	}
	s.projectRegistries(mavenXML, "pom.xml")
	s.projectRegistries(mavenXML, ".mvn/settings.xml")
}

// mavenHome is the directory that the program lies in, two levels up.
func (s *search) mavenHome() string {
	tool := s.lookFor("mvn")
	if tool == "" {
		return ""
	}
	real, err := filepath.EvalSymlinks(tool)
	if err != nil {
		return ""
	}
	return filepath.Dir(filepath.Dir(real))
}

func keepMaven(out string) (kept []string) {
	for _, l := range mavenXML(out) {
		if p, err := parsePlace(l.value); err == nil && !slices.Contains(kept, p.url()) {
			kept = append(kept, p.url())
		}
	}
	return kept
}
