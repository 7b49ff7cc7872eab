package guest

// How a row of /etc comes to be.
type etcHow string

const (
	fromHost etcHow = "copy" // what the host has, links included, as far as everybody may read it
	ourOwn   etcHow = "make" // made by us, whatever the host has
)

// etcRow is one file or directory of the sandbox's /etc.
type etcRow struct {
	path   string // below /etc; for copies a pattern as path.Match takes it
	how    etcHow
	exec   bool     // for what is made: it is a program
	in     bool     // for what is made: only in a directory that the host has
	skip   []string // for copies: names or patterns below the path that stay out
	watch  bool     // a change must be seen at the next start; others are seen when an entry of /etc itself changes, as packages do, or within a day
	reason string
}

// etcRows is the whole of the sandbox's /etc. What is not here is not there; see etcNever for what must not come here.
func etcRows() []etcRow {
	return []etcRow{
		{path: "passwd", how: ourOwn, reason: "names for root, nobody and the sandbox's user; the host's accounts are nobody's business inside"},
		{path: "group", how: ourOwn, reason: "the same for groups"},
		{path: "hosts", how: ourOwn, reason: "localhost and the sandbox's own name; the host's names are unreachable and may be internal"},
		{path: "hostname", how: ourOwn, reason: "as the UTS namespace says"},
		{path: "host.conf", how: ourOwn, reason: "musl and old glibc look for it"},
		{path: "resolv.conf", how: ourOwn, reason: "without the file, resolvers ask 127.0.0.1 anyway; with it they ask where the gate listens"},
		{path: "nsswitch.conf", how: ourOwn, reason: "the host's may name services (sss, systemd, mdns) whose sockets are not inside"},
		{path: "profile", how: ourOwn, reason: "the distribution's resets PATH in every login shell, which would lose the tool chains"},
		{path: "bash.bashrc", how: ourOwn, reason: "a prompt; the host's may hold a company's proxies and tokens (Debian's name)"},
		{path: "bashrc", how: ourOwn, reason: "the same (Fedora's name)"},
		{path: "mtab", how: ourOwn, reason: "df and old programs read mounts here"},
		{path: "gitconfig", how: ourOwn, reason: "git identity and safe.directory; the host's may name credential helpers"},
		{path: pushHelper + "/git-remote-casemate", how: ourOwn, exec: true, reason: "git asks it to push, and it says how that is done"},
		{path: "ssh/ssh_config", how: ourOwn, reason: "ssh dies on files that another user owns; the host's may name proxies and keys"},
		{path: "ssl/certs/" + trustLink, how: ourOwn, in: true, reason: "OpenSSL finds the gate's authority here, where TLS is opened; else the link leads nowhere"},
		{path: "pki/tls/certs/" + trustLink, how: ourOwn, in: true, reason: "the same (Fedora)"},
		{path: "pki/ca-trust/extracted/pem/directory-hash/" + trustLink, how: ourOwn, in: true, reason: "the same (Fedora from 43 on, which has no cert.pem)"},
		{path: "ssh/ssh_known_hosts", how: fromHost, reason: "public keys of known servers"},

		{path: "localtime", how: fromHost, reason: "local time"},
		{path: "timezone", how: fromHost, reason: "its name, for Java and Node"},
		{path: "locale.conf", how: fromHost, reason: "language settings"},
		{path: "default/locale", how: fromHost, reason: "language settings (Debian)"},
		{path: "locale.alias", how: fromHost, reason: "/usr/share/locale links to it"},
		{path: "ld.so.cache", how: fromHost, reason: "without it every program start searches, and libraries outside of the default directories are not found"},
		{path: "ld.so.conf", how: fromHost, reason: "where ldconfig looks; build systems read it. Never ld.so.preload"},
		{path: "ld.so.conf.d", how: fromHost, reason: "the same"},
		{path: "ld-musl-*.path", how: fromHost, reason: "musl's library directories"},
		{path: "alternatives", how: fromHost, watch: true, reason: "/usr/bin links to here for java, editor, cc and hundreds more"},

		{path: "ssl/certs", how: fromHost, watch: true, reason: "certificate authorities"},
		{path: "ssl/cert.pem", how: fromHost, watch: true, reason: "certificate authorities (Alpine, Arch). Never ssl/private"},
		{path: "ssl/ca-bundle.pem", how: fromHost, watch: true, reason: "certificate authorities (openSUSE)"},
		{path: "ssl/openssl.cnf", how: fromHost, reason: "OpenSSL's programs refuse to run without it"},
		{path: "ca-certificates.conf", how: fromHost, reason: "which authorities are trusted"},
		{path: "ca-certificates/extracted", how: fromHost, watch: true, reason: "certificate authorities (Arch): ssl/certs links to it"},
		{path: "pki/tls/certs", how: fromHost, watch: true, reason: "certificate authorities (Fedora). Never pki/tls/private"},
		{path: "pki/tls/cert.pem", how: fromHost, reason: "the same"},
		{path: "pki/tls/openssl.cnf", how: fromHost, reason: "as ssl/openssl.cnf"},
		{path: "pki/ca-trust/extracted", how: fromHost, watch: true, reason: "the bundles that pki/tls/certs links to"},
		{path: "pki/java", how: fromHost, reason: "Java's trust store (Fedora)"},
		{path: "crypto-policies", how: fromHost, skip: []string{"local.d"}, reason: "openssl.cnf and GnuTLS include it (Fedora)"},

		{path: "java-*", how: fromHost, skip: []string{"jmxremote.password", "jmxremote.password.template"}, reason: "Java does not start without its security directory (Debian)"},
		{path: "java", how: fromHost, skip: []string{"jmxremote.password", "jmxremote.password.template"}, reason: "the same (Fedora)"},
		{path: "python3*", how: fromHost, reason: "/usr/lib/python3 links to sitecustomize.py here"},
		{path: "perl", how: fromHost, reason: "/usr/share/perl links to libnet.cfg here"},
		{path: "php", how: fromHost, skip: []string{"fpm", "apache2", "cgi"}, reason: "which extensions PHP's command loads; not its servers' pools"},
		{path: "php.d", how: fromHost, reason: "the same (Fedora)"},
		{path: "R", how: fromHost, skip: []string{"Renviron.site", "Rprofile.site"}, reason: "R's own start script reads it; site files may hold tokens"},
		{path: "maven", how: fromHost, skip: []string{"settings.xml", "settings-security.xml"}, reason: "mvn does not start without m2.conf; settings.xml may hold passwords"},
		{path: "ant", how: fromHost, reason: "ant's own settings"},
		{path: "groovy", how: fromHost, reason: "groovy's own settings"},
		{path: "mono", how: fromHost, reason: "which libraries mono maps to which"},
		{path: "dotnet", how: fromHost, reason: "where .NET is installed"},
		{path: "texmf", how: fromHost, reason: "TeX's own settings"},
		{path: "ImageMagick-*", how: fromHost, reason: "convert warns without its policy"},
		{path: "fonts", how: fromHost, reason: "headless browsers and graphics need fontconfig"},
		{path: "xml", how: fromHost, reason: "xmllint and documentation builds look for catalogues"},
		{path: "dictionaries-common", how: fromHost, reason: "/usr/share/dict/words links to it"},
		{path: "terminfo", how: fromHost, reason: "terminals that the system's own list lacks"},
		{path: "vim", how: fromHost, reason: "/usr/share/vim links to vimrc here"},
		{path: "nanorc", how: fromHost, reason: "nano's settings"},
		{path: "inputrc", how: fromHost, reason: "keys of shells and REPLs"},
		{path: "DIR_COLORS", how: fromHost, reason: "colours of ls (Fedora)"},
		{path: "manpath.config", how: fromHost, reason: "git help and man"},
		{path: "man_db.conf", how: fromHost, reason: "the same (Fedora)"},
		{path: "groff", how: fromHost, reason: "man prints warnings without its macro files"},

		{path: "protocols", how: fromHost, reason: "names of protocols"},
		{path: "services", how: fromHost, reason: "names of ports"},
		{path: "networks", how: fromHost, reason: "names of networks"},
		{path: "rpc", how: fromHost, reason: "names of RPC programs"},
		{path: "gai.conf", how: fromHost, reason: "order of IPv6 and IPv4"},
		{path: "netconfig", how: fromHost, reason: "libtirpc's transports"},
		{path: "shells", how: fromHost, reason: "which login shells there are"},
		{path: "mime.types", how: fromHost, reason: "types by file name, for web servers and Python"},
		{path: "magic", how: fromHost, reason: "local types for file(1)"},
		{path: "magic.mime", how: fromHost, reason: "the same"},
		{path: "os-release", how: fromHost, reason: "build tools choose by distribution"},
		{path: "lsb-release", how: fromHost, reason: "the same"},
		{path: "debian_version", how: fromHost, reason: "the same"},
		{path: "*-release", how: fromHost, reason: "the same (Fedora, Alpine, Arch and others)"},
	}
}

// etcNever lists what no row may bring in, whatever the table says later: each holds secrets, or lets a file decide what every program loads.
func etcNever() []string {
	return []string{
		"shadow", "gshadow", "shadow-", "gshadow-", "sudoers", "sudoers.d", "machine-id", "ld.so.preload", "environment", "environment.d", "security/opasswd",
		"ssh/ssh_host_*", "ssl/private", "pki/tls/private", "pki/CA", "krb5.keytab", "npmrc", "pip.conf", "netrc", "wgetrc", "docker", "kubernetes", "rancher",
		"NetworkManager", "wireguard", "openvpn", "ppp", "wpa_supplicant", "cups", "apt", "yum.repos.d", "profile.d", "cron*", "systemd", "fstab", "crypttab",
	}
}
