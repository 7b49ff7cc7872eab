package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const real = "sk-ant-api03-Zk3vQ"

func made(t *testing.T) Value {
	t.Helper()
	v, err := New([]byte(real))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// forms are all the ways in which something that holds a Value may be written somewhere.
func forms(t *testing.T, x any) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %08b %t %p %T %20s %-5.2q") {
		got[verb] = fmt.Sprintf(verb, x)
	}
	j, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	got["json"] = string(j)
	y, err := yaml.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	got["yaml"] = string(y)
	var g, text, js bytes.Buffer
	if err := gob.NewEncoder(&g).Encode(x); err != nil && !strings.Contains(err.Error(), "no exported fields") {
		t.Fatal(err)
	}
	got["gob"] = g.String()
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "value", x)
	slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "value", x)
	got["slog text"], got["slog json"] = text.String(), js.String()
	got["error"] = fmt.Errorf("it is %v", x).Error()
	return got
}

// leaks says whether the text holds the value in a form that formatting may give it.
func leaks(text string) bool {
	for _, form := range []string{real, fmt.Sprintf("%x", real), fmt.Sprintf("%X", real), strings.Trim(fmt.Sprint([]byte(real)), "[]"), "c2stYW50LWFwaTAzLVprM3ZR"} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return regexp.MustCompile(`0x73, ?0x6b`).MatchString(text)
}

func TestNothingPrintsAValue(t *testing.T) {
	v := made(t)
	type outer struct{ Value, unexported Value }
	type deep struct {
		P *Value
		M map[string]Value
		S []any
		i any
	}
	for name, x := range map[string]any{
		"value": v, "pointer": &v, "fields": outer{v, v}, "pointer to fields": &outer{v, v}, "deep": deep{&v, map[string]Value{"k": v}, []any{v, v}, &v},
	} {
		if name == "deep" { // gob knows no interfaces that were not registered
			gob.Register(v)
		}
		for form, text := range forms(t, x) {
			if leaks(text) {
				t.Errorf("%s as %s holds the value: %q", name, form, text)
			}
			if name == "value" && form != "gob" && form != "%T" && form != "%p" && !strings.Contains(text, Redacted) {
				t.Errorf("%s as %s is %q", name, form, text)
			}
		}
	}
	// The control: what the forms are able to show.
	for form, text := range forms(t, struct{ Value []byte }{[]byte(real)}) {
		if strings.HasPrefix(form, "%v") && !leaks(text) {
			t.Errorf("a value without its type does not show as %s: the test finds nothing", form)
		}
	}
	for _, of := range []func() ([]byte, error){v.MarshalText, v.MarshalBinary, v.GobEncode} {
		if b, err := of(); err != nil || string(b) != Redacted {
			t.Errorf("%q, %v", b, err)
		}
	}
}

func TestUse(t *testing.T) {
	b := []byte(real)
	v, err := New(b)
	if err != nil || strings.Trim(string(b), "\x00") != "" {
		t.Fatalf("%v; the bytes that it was made from are %q", err, b)
	}
	if v.Len() != len(real) {
		t.Errorf("length %d", v.Len())
	}
	again := v
	if err := v.Use(func(b []byte) error {
		if string(b) != real {
			t.Errorf("%q", b)
		}
		return errors.New("of the user")
	}); err == nil || err.Error() != "of the user" {
		t.Errorf("%v", err)
	}
	again.Wipe()
	again.Wipe()
	for _, v := range []Value{v, again, {}} {
		if err := v.Use(func([]byte) error { t.Error("was used"); return nil }); !errors.Is(err, ErrWiped) || v.Len() != 0 {
			t.Errorf("%v", err)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, MaxValue+1)} {
		if _, err := New(b); err == nil {
			t.Errorf("%d bytes are taken", len(b))
		}
	}
}

// TestWipeIsSeen looks at the memory itself: the page is there with the value, and gone after Wipe.
func TestWipeIsSeen(t *testing.T) {
	v := made(t)
	var at uintptr
	if err := v.Use(func(b []byte) error {
		_, err := fmt.Sscanf(fmt.Sprintf("%p", b), "0x%x", &at)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	look := func() string {
		b := make([]byte, len(real))
		n, err := mem.ReadAt(b, int64(at))
		return string(b[:n]) + strconv.FormatBool(err == nil)
	}
	if got := look(); got != real+"true" {
		t.Fatalf("the control finds %q", got)
	}
	v.Wipe()
	if got := look(); strings.Contains(got, real) {
		t.Errorf("after Wipe the memory holds %q", got)
	}
}
