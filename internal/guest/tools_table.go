package guest

// toolRow is one known way of installing tools in a home directory. It fits when a directory on PATH, or a program's link, leads into it.
type toolRow struct {
	name  string
	env   string   // variable that says where it is
	home  []string // where it is below the home directory otherwise
	mark  string   // pattern below the root, of which one must exist: for names that others use too
	show  []string // patterns below the root of what is shown; "." is everything
	also  []string // patterns below the home directory that it needs besides
	with  []string // rows that come with it
	from  string   // a program on PATH whose presence brings the row
	byEnv bool     // the variable alone brings the row, as it is how programs find it
	set   bool     // the variable is set inside
	links bool     // links in the bin directories lead out of the root, and are followed
	envs  []string // patterns below the root of Python environments, whose interpreters are needed too
	hide  []string // patterns below the root of what stays unreadable
	why   string
}

// toolRows is in order of precedence: the first row that fits a place has it. Where credentials lie beside programs, only the programs'
// directories are shown; "hide" is for those that lie among them.
func toolRows() []toolRow {
	npmrc := "etc/npmrc" // `npm config set --global` writes tokens there
	return []toolRow{
		{name: "nvm", env: "NVM_DIR", home: []string{".nvm", ".config/nvm"}, show: []string{"."}, hide: []string{".npmrc", "versions/node/*/" + npmrc, "versions/io.js/*/" + npmrc}, set: true,
			why: "node's versions and the nvm function"},
		{name: "fnm", env: "FNM_DIR", home: []string{".local/share/fnm", ".fnm"}, show: []string{"."}, hide: []string{"node-versions/*/installation/" + npmrc},
			why: "node's versions"},
		{name: "volta", env: "VOLTA_HOME", home: []string{".volta"}, show: []string{"."}, hide: []string{"hooks.json", "tools/image/node/*/" + npmrc}, set: true,
			why: "shims, and the tools they start; hooks.json may hold addresses with tokens"},
		{name: "nodenv", env: "NODENV_ROOT", home: []string{".nodenv"}, show: []string{"."}, hide: []string{"versions/*/" + npmrc}, set: true, why: "shims, and the versions they start"},
		{name: "pnpm", env: "PNPM_HOME", home: []string{".local/share/pnpm"}, show: []string{"."}, set: true, why: "pnpm and its global packages; its credentials are in ~/.npmrc and ~/.config/pnpm"},
		{name: "yarn", home: []string{".config/yarn/global"}, show: []string{"node_modules"}, why: "yarn's global packages"},
		{name: "yarn itself", home: []string{".yarn"}, show: []string{"bin", "releases"}, links: true, why: "yarn's own programs"},
		{name: "bun", env: "BUN_INSTALL", home: []string{".bun"}, show: []string{"bin", "install/global"}, why: "bun and its global packages; not its cache"},
		{name: "deno", env: "DENO_INSTALL", home: []string{".deno"}, show: []string{"bin"}, why: "deno and installed scripts"},

		{name: "pyenv", env: "PYENV_ROOT", home: []string{".pyenv"}, show: []string{"."}, hide: []string{"versions/*/pip.conf"}, set: true, why: "shims, and the versions they start"},
		{name: "uv", home: []string{".local/share/uv"}, show: []string{"python", "tools"}, envs: []string{"tools/*"}, from: "uv", why: "uv's interpreters and tools; never its credentials directory"},
		{name: "pipx", env: "PIPX_HOME", home: []string{".local/share/pipx", ".local/pipx"}, show: []string{"venvs", "shared", "py"}, envs: []string{"venvs/*"}, why: "the environments that links in ~/.local/bin lead to; not the logs"},
		{name: "conda", env: "MAMBA_ROOT_PREFIX", home: []string{"miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", "miniconda", "anaconda", ".miniconda3", ".local/share/mamba"},
			show: []string{"."}, hide: []string{".condarc", "condarc", "pip.conf", "envs/*/.condarc", "envs/*/pip.conf"}, why: "environments; .condarc may hold channels with tokens"},
		{name: "rye", env: "RYE_HOME", home: []string{".rye"}, show: []string{"shims", "self", "py", "tools", "uv"}, set: true, why: "shims, and the interpreters they start; not its credentials file"},
		{name: "poetry", env: "POETRY_HOME", home: []string{".local/share/pypoetry", ".poetry"}, show: []string{"venv", "bin", "lib"}, envs: []string{"venv"}, why: "poetry itself"},

		{name: "cargo", env: "CARGO_HOME", home: []string{".cargo"}, show: []string{"bin", "env"}, with: []string{"rustup"}, links: true,
			why: "programs only: the rest of CARGO_HOME is written by builds and holds credentials, so the sandbox has its own"},
		{name: "rustup", env: "RUSTUP_HOME", home: []string{".rustup"}, show: []string{"."}, set: true, why: "the tool chains that the programs in ~/.cargo/bin start"},
		{name: "go", env: "GOROOT", home: []string{"go", ".go", ".local/go", "golang", "sdk/go*", "go-sdk/go*"}, mark: "src/runtime", show: []string{"."}, byEnv: true, why: "Go itself"},
		{name: "go programs", env: "GOPATH", home: []string{"go"}, show: []string{"bin"}, also: []string{"sdk/go[0-9]*"}, why: "installed programs and the releases they download; not GOPATH's sources"},
		{name: "goenv", env: "GOENV_ROOT", home: []string{".goenv"}, show: []string{"."}, set: true, why: "shims, and the versions they start"},

		{name: "mise", env: "MISE_DATA_DIR", home: []string{".local/share/mise"}, show: []string{"installs", "shims", "plugins"}, from: "mise", set: true,
			also: []string{".tool-versions", ".config/mise/config.toml"}, hide: []string{"installs/node/*/" + npmrc, "installs/maven/*/*/conf/settings.xml"}, why: "shims, installed tools, and which versions are meant"},
		{name: "asdf", env: "ASDF_DATA_DIR", home: []string{".asdf"}, show: []string{"."}, also: []string{".tool-versions", ".asdfrc"}, set: true,
			hide: []string{"installs/nodejs/*/" + npmrc, "installs/maven/*/conf/settings.xml"}, why: "shims, installed tools, and which versions are meant"},
		{name: "sdkman", env: "SDKMAN_DIR", home: []string{".sdkman"}, show: []string{"."}, hide: []string{"candidates/maven/*/conf/settings.xml"}, set: true, why: "Java's tools; Maven's settings may hold passwords"},
		{name: "jenv", home: []string{".jenv"}, show: []string{"."}, why: "shims, and the versions they start"},
		{name: "java", env: "JAVA_HOME", home: []string{".jdks/*", "jdk*"}, mark: "bin/java", show: []string{"."}, byEnv: true, set: true, why: "Java itself"},
		{name: "android", env: "ANDROID_HOME", home: []string{"Android/Sdk"}, mark: "platform-tools", show: []string{"."}, byEnv: true, set: true, why: "the Android SDK; keys are in ~/.android"},
		{name: "coursier", home: []string{".local/share/coursier"}, show: []string{"bin"}, why: "installed programs"},

		{name: "rbenv", env: "RBENV_ROOT", home: []string{".rbenv"}, show: []string{"."}, set: true, why: "shims, and the versions they start"},
		{name: "rvm", home: []string{".rvm"}, show: []string{"."}, why: "rubies and gems"},
		{name: "gems", env: "GEM_HOME", home: []string{".gem", ".local/share/gem"}, show: []string{"ruby", "bin", "gems", "specifications", "extensions"}, why: "installed gems; not ~/.gem/credentials"},
		{name: "composer", env: "COMPOSER_HOME", home: []string{".config/composer", ".composer"}, show: []string{"vendor"}, why: "global packages; not auth.json"},
		{name: "phpenv", env: "PHPENV_ROOT", home: []string{".phpenv"}, show: []string{"."}, set: true, why: "shims, and the versions they start"},
		{name: "plenv", env: "PLENV_ROOT", home: []string{".plenv"}, show: []string{"."}, set: true, why: "shims, and the versions they start"},
		{name: "perlbrew", env: "PERLBREW_ROOT", home: []string{"perl5/perlbrew"}, show: []string{"."}, set: true, why: "perls"},
		{name: "luarocks", home: []string{".luarocks"}, show: []string{"bin", "lib", "share"}, why: "installed rocks; not upload_config.lua"},

		{name: "dotnet", env: "DOTNET_ROOT", home: []string{".dotnet"}, set: true, why: "the SDK and its tools, by name: corefx beside them holds private keys of certificates",
			show: []string{"dotnet", "host", "sdk", "shared", "packs", "templates", "sdk-manifests", "metadata", "library-packs", "tools"}},
		{name: "ghcup", home: []string{".ghcup"}, show: []string{"."}, why: "GHC, cabal and their versions"},
		{name: "cabal", home: []string{".cabal"}, show: []string{"bin"}, links: true, why: "installed programs; not config, which holds passwords"},
		{name: "julia", home: []string{".juliaup"}, show: []string{"."}, also: []string{".julia/juliaup"}, why: "the launcher and the versions it starts; not ~/.julia/servers"},
		{name: "flutter", env: "FLUTTER_ROOT", home: []string{"flutter", "development/flutter", "fvm/versions/*", "fvm/default"}, mark: "bin/flutter", show: []string{"."}, why: "the SDK, which is a checkout"},
		{name: "swiftly", env: "SWIFTLY_HOME_DIR", home: []string{".local/share/swiftly", ".swiftly"}, show: []string{"."}, set: true, why: "Swift's versions"},
		{name: "elan", env: "ELAN_HOME", home: []string{".elan"}, show: []string{"."}, set: true, why: "Lean's versions"},
		{name: "opam", env: "OPAMROOT", home: []string{".opam"}, show: []string{"."}, why: "OCaml's switches"},
		{name: "wasmer", home: []string{".wasmer"}, show: []string{"bin", "lib", "include"}, why: "the runtime; not wasmer.toml, which holds a token"},
		{name: "krew", env: "KREW_ROOT", home: []string{".krew"}, show: []string{"bin", "store"}, why: "kubectl's plugins"},
		{name: "homebrew", home: []string{".linuxbrew"}, show: []string{"bin", "sbin", "Cellar", "lib", "opt", "include", "share", "Homebrew", "libexec", "etc/openssl@3", "etc/ca-certificates"}, why: "installed packages; not var, where their services have sockets and data"},

		{name: "user programs", home: []string{".local/bin"}, show: []string{"."}, links: true, why: "the user's own directory of programs, and what links in it lead to"},
	}
}

// prefixHides lists what may hold credentials in an installation that no row knows.
func prefixHides() []string {
	return []string{"etc/npmrc", "conf/settings.xml", "pip.conf", ".condarc", ".npmrc", ".netrc", ".env", ".git-credentials", ".pypirc"}
}
