package book

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"casemate.dev/internal/secret"
)

// What is encrypted: a line, the length of the description in four bytes, the description in JSON, and after it the values one after the other, in the order
// of the entries and with the lengths it says. So no value ever passes through package json, whose buffers live on.
const magic = "casemate secrets 1\n"

const (
	maxPlain   = 16 << 20
	maxEntries = 512
)

// Book is the whole of it.
type Book struct {
	Entries []Entry
	values  map[string]secret.Value // of the entries whose store is File
}

type row struct {
	Entry
	Bytes int `json:"bytes,omitempty"` // how long the value is that stands after the description
}

// Entry finds one by its name; nil where there is none.
func (b *Book) Entry(name string) *Entry {
	if i := slices.IndexFunc(b.Entries, func(e Entry) bool { return e.Name == name }); i >= 0 {
		return &b.Entries[i]
	}
	return nil
}

// Add puts a new entry in its place in the order of names.
func (b *Book) Add(e Entry) {
	b.Entries = append(b.Entries, e)
	slices.SortFunc(b.Entries, func(x, y Entry) int { return strings.Compare(x.Name, y.Name) })
}

// Remove takes an entry out, and wipes its value.
func (b *Book) Remove(name string) {
	b.Entries = slices.DeleteFunc(b.Entries, func(e Entry) bool { return e.Name == name })
	b.values[name].Wipe()
	delete(b.values, name)
}

// Value is the one that lies in the file; a zero Value where there is none. It is the book's to wipe.
func (b *Book) Value(name string) secret.Value { return b.values[name] }

// SetValue puts the value of an entry into the file. It is the book's from then on.
func (b *Book) SetValue(name string, v secret.Value) {
	if b.values == nil {
		b.values = map[string]secret.Value{}
	}
	b.values[name].Wipe()
	b.values[name] = v
}

// Wipe overwrites all values.
func (b *Book) Wipe() {
	if b == nil {
		return
	}
	for _, v := range b.values {
		v.Wipe()
	}
	b.values = nil
}

// encode returns bytes that the caller clears.
func (b *Book) encode() ([]byte, error) {
	if len(b.Entries) > maxEntries {
		return nil, fmt.Errorf("there are %d secrets already, and cannot be more", maxEntries)
	}
	rows, total := make([]row, len(b.Entries)), 0
	for i, e := range b.Entries {
		rows[i].Entry = e
		if e.Source.Store != File {
			continue
		}
		rows[i].Bytes = b.values[e.Name].Len()
		if rows[i].Bytes == 0 {
			return nil, fmt.Errorf("bug: secret %q has no value", e.Name)
		}
		total += rows[i].Bytes
	}
	description, err := json.Marshal(rows)
	if err != nil {
		return nil, err
	}
	size := len(magic) + 4 + len(description) + total
	if size > maxPlain {
		return nil, fmt.Errorf("the secrets would be more than %d MiB", maxPlain>>20)
	}
	plain := make([]byte, 0, size) // never grown: that would leave a copy
	plain = append(plain, magic...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(description)))
	plain = append(plain, description...)
	for _, r := range rows {
		if r.Bytes == 0 {
			continue
		}
		if err := b.values[r.Name].Use(func(v []byte) error { plain = append(plain, v...); return nil }); err != nil {
			clear(plain)
			return nil, err
		}
	}
	return plain, nil
}

var errOther = errors.New("it is not one that this version of casemate reads")

// decode reads what encode wrote, and overwrites it.
func decode(plain []byte) (*Book, error) {
	defer clear(plain)
	rest, ok := strings.CutPrefix(string(plain[:min(len(plain), len(magic))]), magic)
	if !ok || rest != "" || len(plain) < len(magic)+4 {
		return nil, errOther
	}
	n, body := int64(binary.BigEndian.Uint32(plain[len(magic):])), plain[len(magic)+4:]
	if n > int64(len(body)) {
		return nil, errOther
	}
	var rows []row
	if json.Unmarshal(body[:n], &rows) != nil || len(rows) > maxEntries {
		return nil, errOther
	}
	b := &Book{values: map[string]secret.Value{}}
	if err := b.fill(rows, body[n:]); err != nil {
		b.Wipe()
		return nil, err
	}
	return b, nil
}

func (b *Book) fill(rows []row, values []byte) error {
	for _, r := range rows {
		if err := r.check(); err != nil {
			return err
		}
		if b.Entry(r.Name) != nil || r.Bytes < 0 || r.Bytes > len(values) || (r.Bytes > 0) != (r.Source.Store == File) {
			return errOther
		}
		b.Entries = append(b.Entries, r.Entry)
		if r.Bytes == 0 {
			continue
		}
		v, err := secret.New(values[:r.Bytes])
		if err != nil {
			return err
		}
		b.values[r.Name], values = v, values[r.Bytes:]
	}
	if len(values) != 0 {
		return errOther
	}
	return nil
}
