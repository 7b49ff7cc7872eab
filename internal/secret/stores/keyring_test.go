package stores

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"casemate.dev/internal/secret"
	"github.com/godbus/dbus/v5"
)

// startBus starts a session bus of the test's own.
func startBus(t *testing.T) (address string) {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "bus.conf")
	address = "unix:path=" + filepath.Join(dir, "bus")
	if err := os.WriteFile(config, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>`+address+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--nofork", "--print-address", "--config-file="+config)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 512)); err != nil { // it says its address when it listens
		t.Fatal(err)
	}
	return address
}

// fakeService is a Secret Service written from its specification, because the real ones bring a desktop with them. It has one collection, which may be locked:
// then a prompt unlocks it, or is dismissed.
type fakeService struct {
	mu       sync.Mutex
	bus      *dbus.Conn
	locked   bool
	dismiss  bool
	items    map[dbus.ObjectPath]*fakeItem
	sessions int
	prompts  int
}

type fakeItem struct {
	s          *fakeService
	path       dbus.ObjectPath
	attributes map[string]string
	value      []byte
}

const fakeCollection = dbus.ObjectPath("/org/freedesktop/secrets/collection/login")

func startFake(t *testing.T, address string) *fakeService {
	t.Helper()
	bus, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	s := &fakeService{bus: bus, items: map[dbus.ObjectPath]*fakeItem{}}
	for path, e := range map[dbus.ObjectPath]struct {
		v  any
		in string
	}{servicePa: {s, "Service"}, fakeCollection: {fakeCollectionOf{s}, "Collection"}} {
		if err := bus.Export(e.v, path, "org.freedesktop.Secret."+e.in); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := bus.RequestName(service, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *fakeService) OpenSession(algorithm string, _ dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	if algorithm != "plain" {
		return dbus.Variant{}, nothing, dbus.NewError("org.freedesktop.DBus.Error.NotSupported", nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	return dbus.MakeVariant(""), dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/secrets/session/%d", s.sessions)), nil
}

func (s *fakeService) SearchItems(attributes map[string]string) (open, locked []dbus.ObjectPath, _ *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path, item := range s.items {
		if !maps.Equal(item.attributes, attributes) {
			continue
		}
		if s.locked {
			locked = append(locked, path)
		} else {
			open = append(open, path)
		}
	}
	return open, locked, nil
}

func (s *fakeService) ReadAlias(string) (dbus.ObjectPath, *dbus.Error) { return fakeCollection, nil }

func (s *fakeService) Unlock(paths []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.locked {
		return paths, nothing, nil
	}
	s.prompts++
	path := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/secrets/prompt/%d", s.prompts))
	s.bus.Export(fakePrompt{s, path}, path, "org.freedesktop.Secret.Prompt")
	return nil, path, nil
}

type fakePrompt struct {
	s    *fakeService
	path dbus.ObjectPath
}

func (p fakePrompt) Prompt(string) *dbus.Error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.locked = p.s.dismiss
	p.s.bus.Emit(p.path, "org.freedesktop.Secret.Prompt.Completed", p.s.dismiss, dbus.MakeVariant([]dbus.ObjectPath{}))
	return nil
}

type fakeCollectionOf struct{ s *fakeService }

func (c fakeCollectionOf) CreateItem(properties map[string]dbus.Variant, w wrapped, replace bool) (dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked {
		return nothing, nothing, dbus.NewError("org.freedesktop.Secret.Error.IsLocked", nil)
	}
	attributes, _ := properties["org.freedesktop.Secret.Item.Attributes"].Value().(map[string]string)
	for path, item := range s.items {
		if replace && maps.Equal(item.attributes, attributes) {
			item.value = w.Value
			return path, nothing, nil
		}
	}
	path := dbus.ObjectPath(fmt.Sprintf("%s/%d", fakeCollection, len(s.items)+1))
	s.items[path] = &fakeItem{s, path, attributes, w.Value}
	s.bus.Export(s.items[path], path, "org.freedesktop.Secret.Item")
	return path, nothing, nil
}

func (i *fakeItem) GetSecret(session dbus.ObjectPath) (wrapped, *dbus.Error) {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	if i.s.locked {
		return wrapped{}, dbus.NewError("org.freedesktop.Secret.Error.IsLocked", nil)
	}
	return wrapped{Session: session, Value: i.value, ContentType: "text/plain"}, nil
}

func (i *fakeItem) Delete() (dbus.ObjectPath, *dbus.Error) {
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	delete(i.s.items, i.path)
	return nothing, nil
}

// conforms is what every keyring has to do.
func conforms(t *testing.T, k keyring) {
	ctx := context.Background()
	if _, _, err := k.Get(ctx); err == nil || !strings.Contains(err.Error(), "no value") {
		t.Errorf("before: %v", err)
	}
	if err := k.Remove(ctx); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	for _, s := range []string{real, "another-value-of-it", "with \x00 and \xff"} {
		if err := k.Put(ctx, value(t, s)); err != nil {
			t.Fatal(err)
		}
		v, _, err := k.Get(ctx)
		if err != nil || text(t, v) != s {
			t.Fatalf("%v", err)
		}
	}
	other := k
	other.name = k.name + "2"
	if _, _, err := other.Get(ctx); err == nil {
		t.Error("another entry has its value")
	}
	if err := k.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Get(ctx); err == nil {
		t.Error("it is there after it was removed")
	}
}

func TestKeyring(t *testing.T) {
	address := startBus(t)
	s := startFake(t, address)
	k := keyring{"anthropic", address}
	conforms(t, k)

	if err := k.Put(t.Context(), value(t, real)); err != nil {
		t.Fatal(err)
	}
	s.locked, s.dismiss = true, true
	_, _, err := k.Get(t.Context())
	wantProblem(t, err, "was not unlocked", "when it asks")
	wantProblem(t, k.Put(t.Context(), value(t, "x")), "was not unlocked", "")
	s.dismiss = false
	v, _, err := k.Get(t.Context())
	if err != nil || text(t, v) != real {
		t.Errorf("after unlocking: %v", err)
	}
}

// TestRealKeyring runs where gnome-keyring is installed, which the tests do not install: it brings a desktop.
func TestRealKeyring(t *testing.T) {
	daemon, err := exec.LookPath("gnome-keyring-daemon")
	if err != nil {
		t.Skip("needs gnome-keyring-daemon")
	}
	address, home := startBus(t), t.TempDir()
	cmd := exec.Command(daemon, "--foreground", "--unlock", "--components=secrets")
	cmd.Env = append(os.Environ(), "DBUS_SESSION_BUS_ADDRESS="+address, "HOME="+home, "XDG_RUNTIME_DIR="+home, "XDG_DATA_HOME="+home)
	cmd.Stdin = strings.NewReader("a password")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	bus, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var collection dbus.ObjectPath
		err := bus.Object(service, servicePa).Call(serviceIf+"ReadAlias", dbus.FlagNoAutoStart, "default").Store(&collection)
		if err == nil && collection != nothing {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("gnome-keyring does not answer: %v, %q", err, collection)
		}
	}
	conforms(t, keyring{"anthropic", address})
}

func TestNoKeyring(t *testing.T) {
	_, _, err := keyring{name: "x"}.Get(t.Context())
	wantProblem(t, err, "DBUS_SESSION_BUS_ADDRESS", "another store")
	_, _, err = keyring{"x", "unix:path=/nowhere/bus"}.Get(t.Context())
	wantProblem(t, err, "cannot be reached", "another store")
	_, _, err = keyring{"x", startBus(t)}.Get(t.Context())
	wantProblem(t, err, "no keyring answers", "gnome-keyring")
}

func wantProblem(t *testing.T, err error, sentence, hint string) {
	t.Helper()
	var p *secret.Problem
	if !errors.As(err, &p) || !strings.Contains(err.Error(), sentence) || !strings.Contains(p.Hint(), hint) {
		t.Errorf("%v, want %q with a hint at %q", err, sentence, hint)
	}
	if err != nil && strings.Contains(err.Error(), real) {
		t.Errorf("the error holds the value")
	}
}
