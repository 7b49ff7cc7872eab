package store

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestEncode: the record as we write it is the one that encoding/json writes, byte for byte and field for field; a field that encode does not
// know fails here.
func TestEncode(t *testing.T) {
	full := Record{}
	fill(t, reflect.ValueOf(&full).Elem())
	for _, r := range []Record{{Command: []string{}}, full, {ID: "a\"\\\n\x00é", Command: []string{"", "x\ty"}, Exit: -1, PIDStart: 1<<64 - 1}} {
		if want, err := json.Marshal(r); err != nil || string(r.encode()) != string(want) {
			var back, ours Record
			if json.Unmarshal(want, &back) != nil || json.Unmarshal(r.encode(), &ours) != nil || !reflect.DeepEqual(back, ours) {
				t.Errorf("%v:\n%s\n%s", err, r.encode(), want)
			}
		}
	}
	if !json.Valid(full.encode()) {
		t.Errorf("%s", full.encode())
	}
}

// fill gives every field a value of its own.
func fill(t *testing.T, v reflect.Value) {
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch f.Interface().(type) {
		case string:
			f.SetString("<" + name + ">")
		case int:
			f.SetInt(int64(i + 1))
		case uint64:
			f.SetUint(uint64(i + 1))
		case bool:
			f.SetBool(true)
		case []string:
			f.Set(reflect.ValueOf([]string{name, "b & \u2028"}))
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{name: "1", "a": "2"}))
		case time.Time:
			f.Set(reflect.ValueOf(time.Unix(int64(i), 120).UTC()))
		case []time.Time:
			f.Set(reflect.ValueOf([]time.Time{time.Unix(int64(i), 0).UTC(), time.Unix(int64(i), 5).UTC()}))
		default:
			t.Fatalf("%s: a type that encode has no way for", name)
		}
	}
}
