package book

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"casemate.dev/internal/secret"
	"filippo.io/age"
)

// Ask asks the person for a passphrase. The Value is the asker's to wipe.
type Ask func() (secret.Value, error)

// key is what the book is encrypted to. With a passphrase, it is the key file that is encrypted (scrypt): one place where it is asked for, once for each
// program; the book itself is written without it. age has the identity as a Go string, which nobody can wipe.
type key struct{ identity *age.X25519Identity }

const (
	maxKeyFile = 64 << 10
	plainKey   = "AGE-SECRET-KEY-1"
	sealedKey  = "age-encryption.org/v1"

	// maxWork bounds the memory (2^n KiB) that a key file which somebody else wrote can cost.
	maxWork = 20

	// work is the logarithm of scrypt's cost: 128 MiB and some tenths of a second for each guess, what OWASP's password storage cheat sheet asks for at least.
	work = 17
)

// readKey reads the key file, and asks for its passphrase where it has one. An error of fs.ErrNotExist: there is none.
func (p Place) readKey(passphrase Ask) (*key, error) {
	b, err := readChecked(p.Key, maxKeyFile)
	defer clear(b)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b, []byte(sealedKey)) {
		if b, err = p.unseal(b, passphrase); err != nil {
			return nil, err
		}
		defer clear(b)
	}
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		identity, err := age.ParseX25519Identity(string(line))
		if err != nil {
			break // age's error quotes the key
		}
		return &key{identity}, nil
	}
	return nil, p.keyDamaged()
}

func (p Place) unseal(sealed []byte, passphrase Ask) ([]byte, error) {
	if passphrase == nil {
		return nil, problem("run it on a terminal, or name a file that holds the passphrase in "+PassphraseVariable, "the key of the secrets has a passphrase, and there is nobody to ask for it")
	}
	v, err := passphrase()
	if err != nil {
		return nil, err
	}
	defer v.Wipe()
	var identity *age.ScryptIdentity
	if err := v.Use(func(b []byte) (err error) { identity, err = age.NewScryptIdentity(string(b)); return err }); err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(maxWork)
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, problem("try again; nothing was changed", "the passphrase is wrong")
	}
	if err != nil {
		return nil, p.keyDamaged()
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		clear(plain)
		return nil, p.keyDamaged()
	}
	return plain, nil
}

func (p Place) keyDamaged() error {
	return problem("put back the file as it was, from a backup; without its key nobody can read the secrets", "the key file %q is damaged", p.Key)
}

// PassphraseVariable names a file that holds the passphrase, where no person can be asked.
const PassphraseVariable = "CASEMATE_SECRET_PASSPHRASE_FILE"

// writeKey replaces the key file: encrypted, or where the passphrase is empty as it is.
func (p Place) writeKey(k *key, passphrase secret.Value, work int) error {
	contents := []byte("# The key of casemate's secrets (" + bookName + "). Who has both files has the secrets.\n" + k.identity.String() + "\n")
	defer clear(contents)
	if passphrase.Len() > 0 {
		sealed, err := seal(contents, passphrase, work)
		if err != nil {
			return err
		}
		return replace(p.Key, p.temporaryKey(), sealed)
	}
	return replace(p.Key, p.temporaryKey(), contents)
}

// temporaryKey lies beside the key, wherever that is: rename needs one file system.
func (p Place) temporaryKey() string { return p.Key[:strings.LastIndexByte(p.Key, '/')+1] + newKey }

func seal(contents []byte, passphrase secret.Value, work int) ([]byte, error) {
	var recipient *age.ScryptRecipient
	if err := passphrase.Use(func(b []byte) (err error) { recipient, err = age.NewScryptRecipient(string(b)); return err }); err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(work)
	return encrypt(contents, recipient)
}

func encrypt(plain []byte, to age.Recipient) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func newKeyPair() (*key, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("a new key: %w", err)
	}
	return &key{identity}, nil
}
