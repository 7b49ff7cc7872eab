package limits

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// TestCallIsWhatAnotherImplementationReads decodes our message with a D-Bus library.
func TestCallIsWhatAnotherImplementationReads(t *testing.T) {
	raw := message(7, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
		scopeBody("casemate-x.scope", 4711))
	m, err := dbus.DecodeMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.IsValid(); err != nil {
		t.Error(err)
	}
	if m.Serial() != 7 || m.Headers[dbus.FieldMember].Value() != "StartTransientUnit" || m.Headers[dbus.FieldPath].Value() != dbus.ObjectPath("/org/freedesktop/systemd1") ||
		m.Headers[dbus.FieldInterface].Value() != "org.freedesktop.systemd1.Manager" || m.Headers[dbus.FieldDestination].Value() != "org.freedesktop.systemd1" {
		t.Errorf("%v", m)
	}
	var unit, mode string
	var properties []struct {
		Name  string
		Value dbus.Variant
	}
	var aux []struct {
		Name       string
		Properties []struct {
			Name  string
			Value dbus.Variant
		}
	}
	if err := dbus.Store(m.Body, &unit, &mode, &properties, &aux); err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, p := range properties {
		got[p.Name] = p.Value.Value()
	}
	want := map[string]any{"Description": "a sandbox of casemate", "Delegate": true, "CollectMode": "inactive-or-failed", "TasksMax": uint64(math.MaxUint64), "PIDs": []uint32{4711}}
	if unit != "casemate-x.scope" || mode != "fail" || len(aux) != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%q %q %v %v", unit, mode, got, aux)
	}
}

// serve answers one connection as systemd would, in words of the library.
func serve(t *testing.T, name string, answer func(call *dbus.Message) []*dbus.Message) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // short enough for a socket address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		if line, _ := r.ReadString('\n'); line != fmt.Sprintf("\x00AUTH EXTERNAL %x\r\n", fmt.Sprint(os.Getuid())) {
			fmt.Fprintf(c, "REJECTED EXTERNAL\r\n")
			return
		}
		fmt.Fprintf(c, "OK 1234deadbeef\r\n")
		if line, _ := r.ReadString('\n'); line != "BEGIN\r\n" {
			return
		}
		for {
			call, err := dbus.DecodeMessage(r)
			if err != nil {
				return
			}
			for _, m := range answer(call) {
				if m.EncodeTo(c, binary.LittleEndian) != nil {
					return
				}
			}
		}
	}()
	return path
}

func answerTo(call *dbus.Message, kind dbus.Type, body ...any) *dbus.Message {
	m := &dbus.Message{Type: kind, Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(call.Serial())}, Body: body}
	if kind == dbus.TypeError {
		m.Headers[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.systemd1.UnitExists")
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	setSerial(m)
	return m
}

// setSerial gives a message the number that the library only gives when it sends by itself.
func setSerial(m *dbus.Message) {
	f := reflect.ValueOf(m).Elem().FieldByName("serial")
	*(*uint32)(f.Addr().UnsafePointer()) = 99
}

func TestStartScope(t *testing.T) {
	signal := func() *dbus.Message {
		m := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"), dbus.FieldMember: dbus.MakeVariant("UnitNew"),
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/x")), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("", uint32(0)))},
			Body: []any{"some.scope", uint32(1)}}
		setSerial(m)
		return m
	}
	for _, test := range []struct {
		name   string
		socket string
		kind   dbus.Type
		calls  []string
		err    string
	}{
		{"the manager's own socket", "private", dbus.TypeMethodReply, []string{"StartTransientUnit"}, ""},
		{"a message bus", "bus", dbus.TypeMethodReply, []string{"Hello", "StartTransientUnit"}, ""},
		{"an error", "private", dbus.TypeError, []string{"StartTransientUnit"}, "StartTransientUnit: org.freedesktop.systemd1.UnitExists: no, thank you"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var calls []string
			socket := serve(t, test.socket, func(call *dbus.Message) []*dbus.Message {
				member := call.Headers[dbus.FieldMember].Value().(string)
				calls = append(calls, member)
				if member == "Hello" {
					return []*dbus.Message{answerTo(call, dbus.TypeMethodReply, ":1.7")}
				}
				body := any(dbus.ObjectPath("/org/freedesktop/systemd1/job/5"))
				if test.kind == dbus.TypeError {
					body = "no, thank you"
				}
				return []*dbus.Message{signal(), answerTo(call, test.kind, body)}
			})
			err := startScope(socket, os.Getuid(), "casemate-x.scope", os.Getpid())
			if text := fmt.Sprint(err); test.err == "" && err != nil || test.err != "" && text != test.err {
				t.Errorf("%v", err)
			}
			if !reflect.DeepEqual(calls, test.calls) {
				t.Errorf("%v", calls)
			}
		})
	}
}

func TestStartScopeDoesNotTrustAnybody(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("everything that root starts belongs to root")
	}
	socket := serve(t, "private", nil)
	if err := startScope(socket, os.Getuid()+1, "x.scope", 1); err == nil || !strings.Contains(err.Error(), "does not belong to us") {
		t.Errorf("%v", err)
	}
}

// TestMessageBus speaks with the real one. It has no systemd behind it, and says so.
func TestMessageBus(t *testing.T) {
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Fatal("dbus-daemon is missing: test/setup.sh installs it")
	}
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte(`<busconfig><type>session</type><listen>unix:path=`+dir+`/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow eavesdrop="false"/><allow own="*"/></policy></busconfig>`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	err = startScope(dir+"/bus", os.Getuid(), "casemate-x.scope", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), "org.freedesktop.DBus.Error.ServiceUnknown") {
		t.Errorf("%v", err)
	}
}

// FuzzReply compares what we read with what the library reads, where both read anything.
func FuzzReply(f *testing.F) {
	for _, kind := range []dbus.Type{dbus.TypeMethodReply, dbus.TypeError} {
		call := &dbus.Message{}
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			var b bytes.Buffer
			if err := answerTo(call, kind, "text").EncodeTo(&b, order); err == nil {
				f.Add(b.Bytes())
			}
		}
	}
	f.Add(message(1, "a.b", "/", "c.d", "E", "s", []byte("\x01\x00\x00\x00x\x00")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseReply(data)
		if err != nil {
			return
		}
		m, err := dbus.DecodeMessage(bytes.NewReader(data))
		if err != nil {
			return // it is stricter
		}
		if serial, ok := m.Headers[dbus.FieldReplySerial].Value().(uint32); ok && serial != r.serial {
			t.Errorf("serial %d, the library has %d", r.serial, serial)
		}
		if byte(m.Type) != r.kind {
			t.Errorf("type %d, the library has %d", r.kind, m.Type)
		}
		if name, ok := m.Headers[dbus.FieldErrorName].Value().(string); ok && name != r.error {
			t.Errorf("error %q, the library has %q", r.error, name)
		}
	})
}
