package cache

// row is a package manager with a cache.
type row struct {
	name   string
	preset string // the preset that opens its registry, if that has another name
	parts  []part
}

// part is one directory of a cache. Where a directory holds more than downloads, only parts of it are named here; "hide" is for what lies among them.
type part struct {
	name     string
	what     string   // for people
	at       []place  // what says where it is, in the tool's own order
	defaults []string // below the home directory
	own      string   // the default inside, where it is another than the first
	marks    []string // patterns, of which one exists in any that is in use
	hide     []string // patterns
}

func env(name, sub string) place { return place{env: name, sub: sub} }

func said(key, sub string, files ...string) place { return place{files: files, key: key, sub: sub} }

// credentials are names under which tools keep tokens and passwords. They stay out of sight at the top of every cache: none belongs there, so one that is
// there was put there.
func credentials() []string {
	return []string{
		".env", ".git-credentials", ".netrc", ".npmrc", ".pypirc", ".yarnrc.yml", "NuGet.Config", "_netrc", "auth.json", "credentials", "credentials.json",
		"credentials.toml", "gradle.properties", "nuget.config", "pip.conf", "settings-security.xml", "settings.xml", "stored_tokens", "token",
	}
}

// rows is in the order of policy.Caches.
func rows() []row {
	npmrc := []string{"~/.npmrc"}
	xdg := func(sub string) place { return env("XDG_CACHE_HOME", sub) }
	return []row{
		{name: "bun", parts: []part{{
			name: "packages", what: "packages", at: []place{env("BUN_INSTALL_CACHE_DIR", ""), env("BUN_INSTALL", "install/cache")}, defaults: []string{".bun/install/cache"},
		}}},
		{name: "bundler", preset: "rubygems", parts: []part{{
			name: "gems", what: "gems and indexes", at: []place{env("BUNDLE_USER_CACHE", ""), env("BUNDLE_USER_HOME", "cache")}, defaults: []string{".bundle/cache"},
			hide: []string{"git"}, // clones keep the address that they came from, with a password that is in it
		}}},
		{name: "cargo", parts: []part{
			{
				name: "registry", what: "crates and indexes", at: []place{env("CARGO_HOME", "registry")}, defaults: []string{".cargo/registry"},
				marks: []string{"index", "cache", "src", "CACHEDIR.TAG"},
			},
			{
				name: "git", what: "git dependencies", at: []place{env("CARGO_HOME", "git")}, defaults: []string{".cargo/git"},
				marks: []string{"db", "checkouts", "CACHEDIR.TAG"}, hide: []string{"db/*/FETCH_HEAD"}, // which has addresses as they were written
			},
		}},
		{name: "composer", parts: []part{{
			name: "files", what: "packages", at: []place{env("COMPOSER_CACHE_DIR", ""), env("COMPOSER_HOME", "cache"), xdg("composer")},
			defaults: []string{".cache/composer", ".composer/cache"}, own: ".composer/cache", // without XDG variables, as inside
			hide: []string{"vcs"}, // clones, with their addresses
		}}},
		{name: "deno", parts: denoParts("deps", "gen", "npm", "remote")},
		{name: "go", parts: []part{
			{
				name: "modules", what: "modules", at: []place{
					env("GOMODCACHE", ""), said("GOMODCACHE", "", "~config/go/env"), env("GOPATH", "pkg/mod"), said("GOPATH", "pkg/mod", "~config/go/env"),
				},
				defaults: []string{"go/pkg/mod"}, marks: []string{"cache"}, hide: []string{"cache/vcs"}, // whole histories of private repositories, with their addresses
			},
			{
				name: "build", what: "compiled packages and the results of tests, of every project", at: []place{env("GOCACHE", ""), said("GOCACHE", "", "~config/go/env"), xdg("go-build")},
				defaults: []string{".cache/go-build"}, marks: []string{"README", "00"},
			},
		}},
		{name: "gradle", parts: []part{
			{
				name: "caches", what: "artifacts and build results, of every project", at: []place{env("GRADLE_USER_HOME", "caches")}, defaults: []string{".gradle/caches"},
				hide: []string{"cc-keystore", "*/cc-keystore"}, // the key of the configuration cache, in which builds keep what they were told
			},
			{name: "wrapper", what: "releases of Gradle", at: []place{env("GRADLE_USER_HOME", "wrapper/dists")}, defaults: []string{".gradle/wrapper/dists"}},
		}},
		{name: "huggingface", parts: []part{{
			name: "hub", what: "models and data sets", at: []place{env("HF_HUB_CACHE", ""), env("HUGGINGFACE_HUB_CACHE", ""), env("HF_HOME", "hub"), xdg("huggingface/hub")},
			defaults: []string{".cache/huggingface/hub"}, marks: []string{"models--*", "datasets--*", "spaces--*", "version.txt"},
		}}},
		{name: "maven", parts: []part{{
			name: "repository", what: "artifacts", at: []place{said("localRepository", "", "~/.m2/settings.xml")}, defaults: []string{".m2/repository"},
		}}},
		{name: "npm", parts: []part{{
			name: "content", what: "packages", at: []place{env("npm_config_cache", "_cacache"), env("NPM_CONFIG_CACHE", "_cacache"), said("cache", "_cacache", npmrc...)},
			defaults: []string{".npm/_cacache"}, marks: []string{"index-v*", "content-v*", "tmp"},
		}}},
		{name: "nuget", parts: []part{{
			name: "packages", what: "packages", at: []place{env("NUGET_PACKAGES", "")}, defaults: []string{".nuget/packages"},
		}}},
		{name: "pip", preset: "pypi", parts: []part{{
			name: "files", what: "packages", at: []place{
				env("PIP_CACHE_DIR", ""), said("cache-dir", "", "~config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf"), xdg("pip"),
			},
			defaults: []string{".cache/pip"}, marks: []string{"http", "http-v*", "wheels", "selfcheck"},
		}}},
		{name: "playwright", parts: []part{{
			name: "browsers", what: "browsers", at: []place{env("PLAYWRIGHT_BROWSERS_PATH", ""), xdg("ms-playwright")}, defaults: []string{".cache/ms-playwright"},
			marks: []string{"*-[0-9]*"}, hide: []string{".links"}, // which names your other projects
		}}},
		{name: "pnpm", parts: []part{{
			name: "store", what: "packages", at: []place{
				env("npm_config_store_dir", ""), said("store-dir", "", "~config/pnpm/rc", "~/.npmrc"), env("PNPM_HOME", "store"), env("XDG_DATA_HOME", "pnpm/store"),
			},
			defaults: []string{".local/share/pnpm/store", ".pnpm-store"}, marks: []string{"v[0-9]*"}, hide: []string{"v*/projects"}, // links to your other projects
		}}},
		{name: "uv", preset: "pypi", parts: []part{{
			name: "files", what: "packages", at: []place{env("UV_CACHE_DIR", ""), said("cache-dir", "", "~config/uv/uv.toml", "/etc/uv/uv.toml"), xdg("uv")},
			defaults: []string{".cache/uv"}, marks: []string{"CACHEDIR.TAG", "*-v[0-9]*"}, hide: []string{"git-v*/db/*/FETCH_HEAD"},
		}}},
		{name: "yarn", parts: []part{
			{
				name: "classic", what: "packages", at: []place{env("YARN_CACHE_FOLDER", ""), said("cache-folder", "", "~/.yarnrc"), xdg("yarn")}, defaults: []string{".cache/yarn"},
				marks: []string{"v[0-9]*"},
			},
			{
				name: "berry", what: "packages of yarn 2 and later", at: []place{env("YARN_GLOBAL_FOLDER", "cache"), said("globalFolder", "cache", "~/.yarnrc.yml")},
				defaults: []string{".yarn/berry/cache"}, marks: []string{"*.zip"},
			},
		}},
	}
}

// denoParts are the directories with downloads. Beside them lie what pages have stored and the history of what was typed.
func denoParts(names ...string) (list []part) {
	for _, n := range names {
		list = append(list, part{name: n, what: "modules", at: []place{env("DENO_DIR", n), env("XDG_CACHE_HOME", "deno/"+n)}, defaults: []string{".cache/deno/" + n}})
	}
	return list
}
