package book

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"casemate.dev/internal/secret"
	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// Keyed is a place whose key is at hand. It may have no key yet: the first Update makes one.
type Keyed struct {
	Place
	key *key
}

// Open reads the key, asking for its passphrase where it has one. Where there are neither key nor book, it is an empty one.
func Open(p Place, passphrase Ask) (*Keyed, error) {
	k := &Keyed{Place: p}
	if err := checkDir(p.Dir); err != nil {
		if notThere(err) {
			return k, nil
		}
		return nil, err
	}
	var err error
	for range 2 { // a second time, because another program may have made both in between, the key first
		if k.key, err = p.readKey(passphrase); err == nil || !notThere(err) {
			return k, err
		}
		if err = p.unmade(); err == nil {
			return k, nil
		}
	}
	return nil, err
}

// unmade says whether there may be no key: only where there is no book.
func (p Place) unmade() error {
	var st unix.Stat_t
	if unix.Lstat(p.File(), &st) == nil {
		return problem("put it back, or name it in "+KeyVariable+"; without it nobody can read the secrets: remove "+p.File()+" to begin anew",
			"the key file %q is not there, and the secrets in %q need it", p.Key, p.File())
	}
	return nil
}

// Read reads the book. The caller wipes it.
func (k *Keyed) Read() (*Book, error) {
	sealed, err := readChecked(k.File(), maxPlain+maxPlain/64)
	if notThere(err) {
		return &Book{}, nil
	}
	if err != nil {
		return nil, err
	}
	if k.key == nil { // both were made since Open
		if k.key, err = k.readKey(nil); err != nil {
			return nil, err
		}
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), k.key.identity)
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, problem("put back the key that belongs to it, or name it in "+KeyVariable, "%q was made with another key than %q", k.File(), k.Place.Key)
	}
	if err != nil {
		return nil, k.damaged()
	}
	plain, err := readAll(r, len(sealed))
	if err != nil {
		return nil, k.damaged()
	}
	b, err := decode(plain)
	if err != nil {
		return nil, problem("a newer casemate may have written it", "%q: %w", k.File(), err)
	}
	return b, nil
}

// Stamp tells one state of the file from another: every writer makes a new file.
type Stamp struct {
	there     bool
	dev, ino  uint64
	size      int64
	mode, uid uint32
	modified  unix.Timespec
	changed   unix.Timespec
}

// Stamp is that of the file as it is now. The zero one is that of nothing, and the same as no other.
func (p Place) Stamp() Stamp {
	var st unix.Stat_t
	switch err := unix.Lstat(p.File(), &st); {
	case err == unix.ENOENT:
		return Stamp{there: true} // its absence is a state too
	case err != nil:
		return Stamp{}
	}
	return Stamp{true, st.Dev, st.Ino, st.Size, st.Mode, st.Uid, st.Mtim, st.Ctim}
}

// Same says whether nothing has happened in between.
func (s Stamp) Same(t Stamp) bool { return s.there && s == t }

func (p Place) damaged() error {
	return problem("put back the file as it was, from a backup; casemate has changed nothing", "%q is damaged: it is not as it was written", p.File())
}

// readAll reads into one buffer, so that there is one to clear. Nothing is used of a file that does not decrypt to its end.
func readAll(r io.Reader, most int) ([]byte, error) {
	b := make([]byte, most)
	n, err := io.ReadFull(r, b)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		return b[:n], nil
	}
	clear(b)
	if err == nil {
		err = errors.New("it is longer than its encrypted form")
	}
	return nil, err
}

// Update changes the book under the lock: it reads what is there now, lets change change it, and replaces the file. Where change fails nothing is written.
func (k *Keyed) Update(change func(*Book) error) error {
	unlock, err := k.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := k.makeKey(); err != nil {
		return err
	}
	b, err := k.Read()
	if err != nil {
		return err
	}
	defer b.Wipe()
	if err := change(b); err != nil {
		return err
	}
	plain, err := b.encode()
	if err != nil {
		return err
	}
	defer clear(plain)
	sealed, err := encrypt(plain, k.key.identity.Recipient())
	if err != nil {
		return err
	}
	if err := replace(k.File(), k.temporary(), sealed); err != nil {
		return fmt.Errorf("the secrets stay as they were: %w", err)
	}
	return nil
}

func (p Place) temporary() string { return p.Dir + "/" + newBook }

// makeKey sees to it that there is a key, under the lock. The key is on disk before anything is encrypted to it.
func (k *Keyed) makeKey() error {
	if k.key != nil {
		return nil
	}
	var err error
	if k.key, err = k.readKey(nil); err == nil || !notThere(err) { // another program was first
		return err
	}
	if err := k.unmade(); err != nil {
		return err
	}
	made, err := newKeyPair()
	if err != nil {
		return err
	}
	if err := k.writeKey(made, secret.Value{}, 0); err != nil {
		return err
	}
	k.key = made
	return nil
}

// Protect writes the key anew: with the passphrase, or without one where it is empty. The key itself stays as it is, and so does the book.
func (k *Keyed) Protect(passphrase secret.Value) error { return k.protect(passphrase, work) }

func (k *Keyed) protect(passphrase secret.Value, work int) error {
	unlock, err := k.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := k.makeKey(); err != nil {
		return err
	}
	return k.writeKey(k.key, passphrase, work)
}
