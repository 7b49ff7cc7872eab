package preset

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// secret stands in every file below where tools keep credentials. No parser may return it.
const secret = "s3cr3t-T0KEN-9f8e7d6c5b4a"

func lines(list []setting) string {
	var out []string
	for _, l := range list {
		out = append(out, fmt.Sprintf("%d %s=%s", l.line, l.key, l.value))
	}
	return strings.Join(out, "\n")
}

// TestParsers reads files as people have them, and as somebody may have prepared them.
func TestParsers(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	for _, c := range []struct {
		name string
		read func(string) []setting
		text string
		want string
	}{
		{"npmrc", npmrc, "; mine\nregistry=https://mirror.example/npm/\n@acme:registry = \"https://npm.acme.example/\"\n//mirror.example/npm/:_authToken=" + secret + "\nalways-auth=true\n",
			"2 registry=https://mirror.example/npm/\n3 @acme:registry=https://npm.acme.example/"},
		{"npmrc with comments after values, CRLF and a section", npmrc, "registry = https://a.example/ ; not this\r\n# registry=https://no.example/\r\n[other]\r\nregistry=https://section.example/\r\n", "1 registry=https://a.example/"},
		{"npmrc that looks nearly so", npmrc, "registryx=https://a.example/\nmy:registry=https://b.example/\n//c.example/:registry=https://c.example/\nregistry\n=https://d.example/\nregistry = \n", "6 registry="},
		{"npmrc in one long line", npmrc, "registry=" + long, "1 registry=" + long},
		{"yarnrc", yarnrc, "# yarn lockfile v1\nregistry \"https://mirror.example/npm/\"\nlastUpdateCheck 1\n\"@acme:registry\" https://npm.acme.example\n", "2 registry=https://mirror.example/npm/\n4 @acme:registry=https://npm.acme.example"},
		{"yarnrc.yml", yarnYAML, "npmRegistryServer: https://mirror.example/npm\nnpmAuthToken: " + secret + "\nnpmScopes:\n  acme:\n    npmRegistryServer: https://npm.acme.example\n    npmAuthToken: " + secret + "\n",
			"1 registry=https://mirror.example/npm\n5 @acme:registry=https://npm.acme.example"},
		{"yarnrc.yml with an alias bomb", yarnYAML, "a: &a [x,x,x]\nb: &b [*a,*a]\nc: [*b,*b]\nnpmRegistryServer: https://m.example\n", "4 registry=https://m.example"},
		{"yarnrc.yml that is none", yarnYAML, "\x00\xff{{{", ""},
		{"pip.conf", pipConf, "[global]\nindex-url = https://user:" + "pw@mirror.example/simple\nextra-index-url =\n    https://one.example/simple\n    # between\n    https://two.example/simple\ntimeout = 60\n[freeze]\nindex-url = https://other.example\n[install]\nfind_links: https://three.example/wheels\n",
			"2 index-url=https://user:pw@mirror.example/simple\n4 extra-index-url=https://one.example/simple\n6 extra-index-url=https://two.example/simple\n11 find-links=https://three.example/wheels"},
		{"pip.conf without a section, with an unclosed one", pipConf, "index-url=https://a.example\n[global\nINDEX_URL = https://b.example\n", "3 index-url=https://b.example"},
		{"pip.conf that goes on after another option", pipConf, "[global]\npassword = " + secret + "\n  " + secret + "\nnonsense\n  https://a.example\n", ""},
		{"uv.toml", uvTOML, "# mine\nindex-url = \"https://mirror.example/simple\"\n[[index]]\nname = \"x\"\nurl = 'https://two.example/simple'\n", "2 index-url=https://mirror.example/simple\n5 extra-index-url=https://two.example/simple"},
		{"requirements", requirements, "-i https://a.example/simple\n--extra-index-url=https://b.example\nflask==2.0 # --index-url https://no.example\n", "1 index-url=https://a.example/simple\n2 index-url=https://b.example"},
		{"go env", goEnv, "GOPROXY=https://mirror.example/go,direct\nGOFLAGS=-x\nGOSUMDB='sum.example'\n", "1 GOPROXY=https://mirror.example/go,direct\n3 GOSUMDB=sum.example"},
		{"cargo", cargoTOML, "[source.crates-io]\nreplace-with = 'mirror' # here\n[source.mirror]\nregistry = \"sparse+https://mirror.example/index/\"\n[registries.acme]\nindex = \"sparse+https://cargo.acme.example/\"\ntoken = \"" + secret + "\"\n",
			"2 replace crates-io=mirror\n4 source mirror=sparse+https://mirror.example/index/\n6 registry acme=sparse+https://cargo.acme.example/"},
		{"cargo in other words", cargoTOML, "source.\"crates-io\" = { replace-with = \"m\" }\nsource.m.registry = \"https://m.example\"\n[net]\nretry = 2\n", "1 replace crates-io=m\n2 source m=https://m.example"},
		{"cargo with a key within a text", cargoTOML, "[env]\nX = \"\"\"\n[registries.evil]\nindex = \"https://evil.example\"\n\"\"\"\n", ""},
		{"cargo with an unclosed text", cargoTOML, "[registries.a]\nindex = \"https://a.example\ntoken = \"x\n", ""},
		{"apt list", aptList, "# deb https://no.example x\ndeb [arch=amd64 signed-by=/x.gpg] https://mirror.example/debian stable main # more\n  deb-src  http://mirror.example/debian stable main\nrpm https://no.example\ndeb [unclosed https://no.example x\ndeb\n",
			"2 URIs=https://mirror.example/debian\n3 URIs=http://mirror.example/debian"},
		{"apt sources", aptSources, "Types: deb\nURIs: https://mirror.example/debian\n https://two.example/debian\nSuites: stable\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n https://key.example\n\nTypes: deb\nEnabled: no\nURIs: https://off.example\n\nuris: http://three.example\n# URIs: https://no.example\n",
			"2 URIs=https://mirror.example/debian\n3 URIs=https://two.example/debian\n14 URIs=http://three.example"},
		{"apt sources that are switched off after their URIs", aptSources, "URIs: https://off.example\nEnabled: False", ""},
		{"apt mirrors", aptMirrors, "https://one.example/debian\tpriority:1\n# no\n\nhttp://two.example/debian\n", "1 URIs=https://one.example/debian\n4 URIs=http://two.example/debian"},
		{"maven settings", mavenXML, "<?xml version='1.0'?>\n<settings><!-- <mirror><url>https://no.example</url></mirror> -->\n<servers><server><id>m</id><password>" + secret + "</password></server></servers>\n<mirrors><mirror>\n<mirrorOf>*</mirrorOf>\n<url> https://mirror.example/maven </url></mirror></mirrors>\n<profiles><profile><repositories><repository><url>https://two.example</url></repository></repositories></profile></profiles></settings>",
			"5 mirrorOf=*\n6 mirror=https://mirror.example/maven\n7 repository=https://two.example"},
		{"maven publishes elsewhere", mavenXML, "<project><url>https://home.example</url><distributionManagement><repository><url>https://publish.example</url></repository></distributionManagement></project>", ""},
		{"maven with entities and a document type", mavenXML, "<!DOCTYPE x [<!ENTITY a 'https://evil.example'>]><settings><mirror><url>&a;</url></mirror></settings>", "1 mirror=&a;"}, // which is no URL
		{"maven that ends within", mavenXML, "<settings><mirror><url>https://a.example", ""},
		{"maven nested without end", mavenXML, strings.Repeat("<mirror>", 10000) + "<url>https://a.example</url>", ""},
		{"gemrc", gemrc, "---\n:verbose: true\n:sources:\n- https://mirror.example/gems/\n- https://two.example/\n:rubygems_api_key: " + secret + "\n", "4 source=https://mirror.example/gems/\n5 source=https://two.example/"},
		{"bundle config", bundleConfig, "---\nBUNDLE_MIRROR__ALL: \"https://mirror.example/\"\nBUNDLE_GEMS__EXAMPLE__COM: \"" + secret + "\"\n", "2 source=https://mirror.example/"},
		{"Gemfile", gemfile, "source 'https://a.example'\nsource(\"no\")\n  source \"https://b.example\" do\ngem 'x', source: 'https://c.example'\nsource ENV['X']\n", "1 source=https://a.example\n3 source=https://b.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := lines(c.read(c.text))
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if strings.Contains(got, secret) {
				t.Error("a credential left the parser")
			}
			many := c.read(strings.Repeat(c.text+"\n", 300))
			if len(many) > maxSettings+10 {
				t.Errorf("%d settings of one file", len(many))
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"https://mirror.example/npm/", "mirror.example https://mirror.example/npm/"},
		{"HTTPS://Mirror.Example:8443", "mirror.example:8443 https://mirror.example:8443"},
		{"http://mirror.example", "mirror.example:80 http://mirror.example"},
		{"http://10.1.2.3:8081/repository", "10.1.2.3:8081 http://10.1.2.3:8081/repository"},
		{"https://[2001:db8::1]:4873/", "[2001:db8::1]:4873 https://[2001:db8::1]:4873/"},
		{"sparse+https://mirror.example/index/", "mirror.example https://mirror.example/index/"},
		{"git+ssh://git@mirror.example/x.git", "mirror.example:22 ssh://mirror.example/x.git"},
		{"https://user:" + secret + "@mirror.example/simple", "mirror.example https://mirror.example/simple"},
		{"https://a@b:" + secret + "@mirror.example/simple", "mirror.example https://mirror.example/simple"},
		{"https://mirror.example/simple?token=" + secret + "#" + secret, "mirror.example https://mirror.example/simple"},
		{"https://mirror.example/" + secret + "/simple", "mirror.example https://mirror.example"},
		{"https://mirror.example/x/user:pass@y", "mirror.example https://mirror.example"},
		{"https://mirror.example/artifactory/api/npm/npm-virtual-2024/", "mirror.example https://mirror.example/artifactory/api/npm/npm-virtual-2024/"},
		{"https://mirror.example/$(id)", "mirror.example https://mirror.example"},
		{`https://evil.example\@mirror.example/`, "evil.example https://evil.example"},
		{"https://mirror.example:0/", "its port is none"},
		{"https://mirror.example:99999/", "its port is none"},
		{"https://" + secret + " @/", "its host is no host name"},
		{"https://2130706433/", "its host is no host name"},
		{"https://mirror.example%00.evil.example/", "its host is no host name"},
		{"https://", "its host is no host name"},
		{"ftp://mirror.example", "its scheme is none of https, http and ssh"},
		{"file:///srv/mirror", "it leads to no other machine"},
		{"mirror.example", "it is no URL"},
		{"", "it is no URL"},
	} {
		p, err := parsePlace(c.text)
		got := p.target() + " " + p.url()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
		if strings.Contains(got, secret) {
			t.Errorf("%q: a credential is in %q", c.text, got)
		}
	}
	for _, host := range []string{"localhost", "x.localhost", "127.0.0.1", "127.1.2.3", "::1"} {
		if !(place{host: host}).isLoopback() {
			t.Errorf("%s is loopback", host)
		}
	}
	for _, host := range []string{"127.example", "localhost.example", "10.0.0.1"} {
		if (place{host: host}).isLoopback() {
			t.Errorf("%s is not loopback", host)
		}
	}
}

// fuzz holds for every parser: it ends, its lines are lines of the text, and it takes no more than a bound.
func fuzz(f *testing.F, seeds []string, parsers ...func(string) []setting) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range parsers {
			list := parse(text)
			if len(list) > maxSettings {
				t.Fatalf("%d settings", len(list))
			}
			for _, l := range list {
				if l.line < 1 || l.line > 1+strings.Count(text, "\n") {
					t.Fatalf("line %d of %d", l.line, 1+strings.Count(text, "\n"))
				}
				p, err := parsePlace(l.value)
				if err != nil {
					continue
				}
				if p.port < 1 || p.port > 65535 || p.host == "" || strings.ContainsAny(p.url(), " @\n\x00?#") || !utf8.ValidString(p.url()) {
					t.Fatalf("%q is read as %q", l.value, p.url())
				}
				if again, err := parsePlace(p.url()); err != nil || again.host != p.host || again.port != p.port {
					t.Fatalf("%q is read as %q, and that as %q (%v)", l.value, p.url(), again.url(), err)
				}
			}
		}
	})
}

func FuzzNpmrc(f *testing.F) {
	fuzz(f, []string{"registry=https://a.example/\n", "@a:registry=\"https://u:p@b.example:1/x\"", "registry=https://[::1]:4/"}, npmrc, yarnrc, gemfile, goEnv)
}

func FuzzPip(f *testing.F) {
	fuzz(f, []string{"[global]\nindex-url = https://a.example\n  https://b.example\n", "[install]\nfind_links: https://a.example?x"}, pipConf, requirements)
}

func FuzzApt(f *testing.F) {
	fuzz(f, []string{"deb [a=b] https://a.example x\n", "URIs: https://a.example\n https://b.example\nEnabled: no\n\n"}, aptList, aptSources, aptMirrors)
}

func FuzzTOML(f *testing.F) {
	fuzz(f, []string{"[registries.a]\nindex = \"https://a.example\"\n", "source.\"a\" = {registry = '''x'''}\n[[index]]\nurl=[\"\"\"a\\\n\"\"\", {b=1}]"}, cargoTOML, uvTOML)
}

func FuzzXMLAndYAML(f *testing.F) {
	fuzz(f, []string{"<settings><mirror><url>https://a.example</url></mirror></settings>", ":sources:\n- https://a.example", "npmScopes: {a: {npmRegistryServer: https://b.example}}"}, mavenXML, gemrc, yarnYAML, bundleConfig)
}
