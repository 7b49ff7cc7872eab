package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// entry is one thing a document says: a scalar, or one element of a list. Merge looks at one after the other.
type entry struct {
	key    string
	text   string // as people read it
	origin Origin
	put    func(*Settings, Origin)       // makes it so
	lower  func(*Settings, Origin)       // for a limit that nobody set: makes it so where the default is not lower; else nil
	effect func(now *Settings) direction // what put would do
	same   func(now *Settings) bool      // put would change nothing
}

// direction is which way an entry moves a policy.
type direction uint8

const (
	narrows  direction = iota // or changes nothing
	mayWiden                  // whether it does depends on a default that only the host knows
	widens                    //
)

// field is how one key's text is read and what it does to the settings.
type field struct {
	item func(text string) (entry, error)
	show func(*Settings) []Value[string]
}

// scalar is a key with one value, the later tier's. looser says whether going from now to next widens.
func scalar[T comparable](at func(*Settings) *Value[T], read func(string) (T, error), looser func(now, next T) bool) field {
	return field{
		item: func(text string) (entry, error) {
			v, err := read(text)
			return entry{
				text:   display(v),
				put:    func(s *Settings, o Origin) { *at(s) = Value[T]{v, o} },
				effect: func(now *Settings) direction { return widensIf(looser(at(now).V, v)) },
				same:   func(now *Settings) bool { return at(now).V == v },
			}, err
		},
		show: func(s *Settings) []Value[string] {
			if !at(s).IsSet() {
				return nil
			}
			return []Value[string]{{display(at(s).V), at(s).Origin}}
		},
	}
}

// inOrder compares words by their place in a row that runs from narrow to wide.
func inOrder[T comparable](row ...T) func(now, next T) bool {
	return func(now, next T) bool { return slices.Index(row, next) > slices.Index(row, now) }
}

// differs is for words of which nobody can say which is wider.
func differs[T comparable](now, next T) bool { return now != next }

// list is a key whose elements add up, each once. opens says whether an element widens.
func list[T any](at func(*Settings) *[]Value[T], read func(string) (T, error), opens func(T) bool) field {
	return field{
		item: func(text string) (entry, error) {
			v, err := read(text)
			return listEntry(at, v, opens), err
		},
		show: func(s *Settings) []Value[string] { return printed(*at(s)) },
	}
}

func listEntry[T any](at func(*Settings) *[]Value[T], v T, opens func(T) bool) entry {
	text := fmt.Sprint(v)
	has := func(s *Settings) bool {
		return slices.ContainsFunc(*at(s), func(e Value[T]) bool { return reads(e.V, text) })
	}
	return entry{
		text: text,
		put: func(s *Settings, o Origin) {
			if !has(s) {
				*at(s) = append(*at(s), Value[T]{v, o})
			}
		},
		effect: func(now *Settings) direction { return widensIf(opens(v) && !has(now)) },
		same:   has,
	}
}

// patterns is the hide list: order decides, so an element that is there already is added again, and an exception always widens.
func patterns(at func(*Settings) *[]Value[string]) field {
	f := list(at, pattern, always)
	item := f.item
	f.item = func(text string) (entry, error) {
		e, err := item(text)
		e.put = func(s *Settings, o Origin) { *at(s) = append(*at(s), Value[string]{text, o}) }
		e.effect = func(*Settings) direction { return widensIf(strings.HasPrefix(text, "!")) }
		return e, err
	}
	return f
}

// limit is a key with one number, the later tier's. known is the default where it does not depend on the machine, else zero.
func limit[T cmp.Ordered](at func(*Settings) *Limit[T], read func(string) (T, error), known T) field {
	f := scalar(func(s *Settings) *Value[T] { return &at(s).Value }, read, nil)
	item := f.item
	f.item = func(text string) (entry, error) {
		e, err := item(text)
		v, _ := read(text)
		e.text = text
		set := func(s *Settings, o Origin, atMost bool) { *at(s) = Limit[T]{Value[T]{v, o}, atMost} }
		e.put = func(s *Settings, o Origin) { set(s, o, false) }
		e.lower = func(s *Settings, o Origin) { set(s, o, at(s).AtMost || !at(s).IsSet()) }
		e.effect = func(now *Settings) direction { return raises(*at(now), v, known) }
		return e, err
	}
	return f
}

func raises[T cmp.Ordered](now Limit[T], v, known T) direction {
	var zero T
	switch {
	case now.IsSet():
		return widensIf(v > now.V)
	case known != zero:
		return widensIf(v > known)
	}
	return mayWiden
}

func widensIf(yes bool) direction {
	if yes {
		return widens
	}
	return narrows
}

// reads says whether v prints as text. Most lists are of strings, and a hostile document makes them long.
func reads(v any, text string) bool {
	if s, ok := v.(string); ok {
		return s == text
	}
	return fmt.Sprint(v) == text
}

func always[T any](T) bool { return true }
func never[T any](T) bool  { return false }

// printed are the values as people read them.
func printed[T any](vs []Value[T]) []Value[string] {
	out := make([]Value[string], len(vs))
	for i, v := range vs {
		out[i] = Value[string]{display(v.V), v.Origin}
	}
	return out
}

// display is a value as a document would write it.
func display(v any) string {
	d, ok := v.(time.Duration)
	switch {
	case !ok:
		return fmt.Sprint(v)
	case d == Unlimited:
		return "none"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// namedEntry is one element of a list whose elements have names: the later tier's takes the place of the earlier's. Every change widens.
func namedEntry[T any](at func(*Settings) *[]Value[T], v T, name func(T) string) entry {
	e := listEntry(at, v, always)
	e.put = func(s *Settings, o Origin) {
		if !e.same(s) {
			*at(s) = slices.DeleteFunc(*at(s), func(old Value[T]) bool { return name(old.V) == name(v) })
			*at(s) = append(*at(s), Value[T]{v, o})
		}
	}
	return e
}

// setVariable is one variable of env.set.
func setVariable(name, value string) (entry, error) {
	if _, err := variable(name); err != nil {
		return entry{}, err
	}
	if strings.ContainsRune(value, 0) {
		return entry{}, bad("", "the value of %s holds a NUL byte", name)
	}
	at := func(s *Settings) *[]Value[Variable] { return &s.Env.Set }
	return namedEntry(at, Variable{name, value}, func(v Variable) string { return v.Name }), nil
}
