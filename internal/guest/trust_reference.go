package guest

import (
	"fmt"
	"strings"
)

// TrustReference is docs/reference/trust.md.
func TrustReference() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# How programs inside are made to trust the gate

Where a rule of the policy is about single requests (%[1]smethods%[1]s, %[1]spaths%[1]s), the gate opens TLS to its hosts. It shows programs inside certificates of an
authority that was made for this sandbox and this run, can speak for these hosts only, and whose key never leaves the gate. Programs have to trust it. Nothing of this is
there where no rule needs it, nothing of it is written to where programs of the host look, and it goes with the run. %[1]scasemate plan%[1]s lists it.

The certificate is %[1]s%[2]s%[1]s inside. %[1]s%[3]s%[1]s holds the system's authorities and that one.

## Files

Each of these that the host has is seen as it is on the host, with the certificate added. What they link to is replaced, and each once.

| file | of |
|---|---|
`, "`", authority, bundle)
	for _, f := range trustFiles() {
		of := f.of
		if f.java {
			of += "; Java's key store"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.path, of)
	}
	fmt.Fprintf(&b, `| `+"`lib/security/cacerts`, `jre/lib/security/cacerts`"+` | each Java that PATH, JAVA_HOME, /usr/lib/jvm or a tool chain in your home leads to |
| `+"`%s`"+` in `+"`/etc/%s`"+` | the name under which OpenSSL finds the certificate in a directory (openssl-rehash(1)) |

A key store of Java's in the format of PKCS #12, as new JDKs bring one, is replaced by one made of the system's authorities.

## Variables

A variable that your policy sets or passes by its name is left as it is, and the plan says so.

| variable | value | needed by | source |
|---|---|---|---|
`, trustLink, strings.Join(trustDirs(), "`, `/etc/"))
	for _, r := range TrustRows() {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", r.Name, r.Value, r.Why, r.Source)
	}
	b.WriteString(trustPrograms)
	return b.String()
}

// trustPrograms is what was measured, on Debian 12 with nothing but one of the ways at a time.
const trustPrograms = `
## Programs

Each refused the authority before, and took it by the way that is named, alone; measured on Debian 12.

| program | trusts the gate by |
|---|---|
| curl 7.88, git 2.39, wget 1.21, cargo 1.95, static Go programs | the system's bundle |
| openssl 3.0, Python 3.11 and 3.13 (urllib, pip 24), Ruby 3.1, PHP 8.2, Perl 5.36 | the name in /etc/ssl/certs: on Debian OpenSSL reads no bundle |
| Java 17 and 25 | its key store |
| requests 2.34, botocore 1.43, pip 23.2 | REQUESTS_CA_BUNDLE |
| Node 20 | NODE_EXTRA_CA_CERTS |
| Deno 2.9 | NODE_EXTRA_CA_CERTS or DENO_CERT |
| Bun 1.4 | NODE_EXTRA_CA_CERTS or the name in /etc/ssl/certs |

## What does not trust it

- Browsers: Firefox and Chromium have authorities of their own, and read additional ones from a profile's database (NSS).
- Programs that expect one certificate, or one authority (pinning), and programs with authorities compiled in that no variable adds to. Python's grpcio is one that reads a
  variable which is not set: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH.
- A Java that brings its own runtime image in a place that nothing names, as some IDEs and Bazel do.
- A curl or git that is not the system's and has a bundle of its own, such as conda's: it reads CURL_CA_BUNDLE, or GIT_SSL_CAINFO.
- What you pin by a setting in the project, such as npm's cafile.

For these, set the program's own variable to one of the two files above (` + "`env: {set: ...}`" + `), or allow the host without methods and paths: then its TLS is passed through as it is.
`
