package guest

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Certificates returns what stands between the lines of PEM (RFC 7468), decoded. What is no certificate is left out.
func Certificates(text []byte) [][]byte {
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	var list [][]byte
	for {
		_, rest, found := bytes.Cut(text, []byte(begin))
		body, rest, closed := bytes.Cut(rest, []byte(end))
		if !found || !closed {
			return list
		}
		text = rest
		body = bytes.Join(bytes.Fields(body), nil)
		der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
		if n, err := base64.StdEncoding.Decode(der, body); err == nil && n > 0 {
			list = append(list, der[:n])
		}
	}
}

// The format of Java's own key stores (JavaKeyStore.java of the JDK): a head, entries, and a digest over a password, a phrase and all before it. Each Java
// from 1.2 to today reads it, whatever its keystore.type says (keystore.type.compat in java.security). What only certificates are in is public, and its
// password by convention this one; Java asks for none where it only reads.
const (
	javaMagic    = 0xfeedfeed
	javaVersion  = 2
	javaHead     = 12 // magic, version, number of entries
	javaPassword = "changeit"
	javaPhrase   = "Mighty Aphrodite"
	javaTrusted  = 2 // the kind of an entry that is a certificate
)

// KeyStore returns Java's trust store with one more certificate. One that is of another format, as PKCS #12 in new JDKs, is not read: then a store is
// made of the system's authorities. Where there are none, the store stays as it is, and Java does not trust the gate.
func KeyStore(store, system []byte, more []byte) []byte {
	var out []byte
	switch authorities := Certificates(system); {
	case len(store) >= javaHead+sha1.Size && binary.BigEndian.Uint32(store) == javaMagic && binary.BigEndian.Uint32(store[4:]) == javaVersion:
		out = bytes.Clone(store[:len(store)-sha1.Size])
	case len(authorities) == 0:
		return store
	default:
		out = binary.BigEndian.AppendUint32(nil, javaMagic)
		out = binary.BigEndian.AppendUint32(out, javaVersion)
		out = binary.BigEndian.AppendUint32(out, 0)
		for i, der := range authorities {
			out = javaEntry(out, fmt.Sprintf("system-%d", i+1), der)
		}
	}
	out = javaEntry(out, "casemate-gate", more)
	return append(out, javaDigest(out)...)
}

// javaEntry adds a certificate and counts it.
func javaEntry(out []byte, alias string, der []byte) []byte {
	count := binary.BigEndian.Uint32(out[8:])
	binary.BigEndian.PutUint32(out[8:], count+1)
	out = binary.BigEndian.AppendUint32(out, javaTrusted)
	out = javaText(out, alias)
	out = binary.BigEndian.AppendUint64(out, 0) // when it was made
	out = javaText(out, "X.509")
	out = binary.BigEndian.AppendUint32(out, uint32(len(der)))
	return append(out, der...)
}

// javaText is a string as DataOutput.writeUTF writes those of ASCII.
func javaText(out []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(out, uint16(len(text))), text...)
}

func javaDigest(content []byte) []byte {
	h := sha1.New()
	for _, c := range []byte(javaPassword) {
		h.Write([]byte{0, c})
	}
	h.Write([]byte(javaPhrase))
	h.Write(content)
	return h.Sum(nil)
}
