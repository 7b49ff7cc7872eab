package guest

import (
	"bytes"
	"strconv"
)

// record is a list of texts, each ended by NUL, which neither a path nor a sentence holds. encoding/json takes five times as long to read a
// view, and every start reads one.
type record struct {
	data []byte
	bad  bool
}

func (r *record) put(texts ...string) {
	for _, s := range texts {
		r.data = append(append(r.data, s...), 0)
	}
}

func (r *record) putNumber(n uint64) { r.put(strconv.FormatUint(n, 36)) }

func (r *record) next() string {
	text, rest, ok := bytes.Cut(r.data, []byte{0})
	if !ok {
		r.bad = true
		return ""
	}
	r.data = rest
	return string(text)
}

func (r *record) number() uint64 {
	n, err := strconv.ParseUint(r.next(), 36, 64)
	if err != nil {
		r.bad = true
	}
	return n
}

// count reads the length of a list. Every element has at least one byte, so a damaged length cannot ask for more than there is.
func (r *record) count() int {
	n := r.number()
	if r.bad || n > uint64(len(r.data)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func putList[T any](r *record, list []T, put func(*record, T)) {
	r.putNumber(uint64(len(list)))
	for _, x := range list {
		put(r, x)
	}
}

func list[T any](r *record, get func(*record) T) []T {
	var out []T
	for range r.count() {
		out = append(out, get(r))
	}
	return out
}

func (v View) record() []byte {
	var r record
	putList(&r, v.System, putPlace)
	putList(&r, v.Tools, func(r *record, t Tool) {
		r.put(t.Name, t.Why)
		putList(r, t.Places, putPlace)
		putList(r, t.Env, func(r *record, e Variable) { r.put(e.Name, e.Value, e.Why) })
	})
	r.put(v.Path)
	putList(&r, v.Refused, func(r *record, f Refusal) { r.put(f.Path, f.Why) })
	return r.data
}

// viewOf reads what record wrote, and says whether that is what it found.
func viewOf(data []byte) (View, bool) {
	r := record{data: data}
	v := View{System: list(&r, place)}
	v.Tools = list(&r, func(r *record) Tool {
		t := Tool{Name: r.next(), Why: r.next()}
		t.Places = list(r, place)
		t.Env = list(r, func(r *record) Variable { return Variable{r.next(), r.next(), r.next()} })
		return t
	})
	v.Path = r.next()
	v.Refused = list(&r, func(r *record) Refusal { return Refusal{r.next(), r.next()} })
	return v, !r.bad && len(r.data) == 0
}

func putPlace(r *record, p Place) {
	kind := "directory"
	switch {
	case p.Link:
		kind = "link"
	case p.File:
		kind = "file"
	}
	r.put(kind, p.Target, p.Source)
	r.putNumber(p.Dev)
	r.putNumber(p.Ino)
	putList(r, p.Hide, func(r *record, h string) { r.put(h) })
}

func place(r *record) Place {
	kind := r.next()
	p := Place{Link: kind == "link", File: kind == "file", Target: r.next(), Source: r.next()}
	p.Dev, p.Ino = r.number(), r.number()
	p.Hide = list(r, (*record).next)
	return p
}
