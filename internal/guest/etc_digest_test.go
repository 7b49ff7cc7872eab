package guest

import (
	"reflect"
	"testing"
)

// TestEtcDigest: an /etc made for other options is never taken, whichever option differs.
func TestEtcDigest(t *testing.T) {
	o := EtcOptions{UID: 1, GID: 2, Name: "n", Home: "/h", Shell: "/s", Hostname: "w", Resolver: "r", GitConfig: []byte("g")}
	seen := map[string]string{o.digest("/etc"): "none", o.digest("/other"): "the host's"}
	for i := range reflect.TypeFor[EtcOptions]().NumField() {
		changed := o
		f, name := reflect.ValueOf(&changed).Elem().Field(i), reflect.TypeFor[EtcOptions]().Field(i).Name
		switch f.Interface().(type) {
		case int:
			f.SetInt(77)
		case string:
			f.SetString("/77")
		case []byte:
			f.SetBytes([]byte("77"))
		case []string:
			f.Set(reflect.ValueOf([]string{"77/"}))
		default:
			t.Fatalf("%s: a type that digest has no way for", name)
		}
		if other, twice := seen[changed.digest("/etc")]; twice {
			t.Errorf("%s does not change the digest, or like %s", name, other)
		}
		seen[changed.digest("/etc")] = name
	}
	moved := o
	moved.Name, moved.Home = "", "n/h"
	if _, twice := seen[moved.digest("/etc")]; twice {
		t.Error("what one option ends with and the next begins with does not change the digest")
	}
}
