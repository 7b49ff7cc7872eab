package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"

	"casemate.dev/internal/gate/wire"
	"casemate.dev/test/bench/count"
	"golang.org/x/sys/unix"
)

// What a connection that is passed through may cost the gate at most, in system calls, from the look-up on the host to the last record: a TLS hello, an
// answer, the ends. Waiting does not count. Lower them when it becomes cheaper. Where nothing redirects, as in these tests, one call is more.
const (
	maxCallsLookedUp = 54 // the name is asked for by DNS, both families; measured: 50, and 66 with package net's connections
	maxCallsInHosts  = 37 // it is in the host's /etc/hosts; measured: 34, and 46 with package net's

	// maxWakes is how often one thread may wake another. With several processors each step wakes one that finds nothing to do: 4 to 10 were measured, and
	// now 0 or 1.
	maxWakes = 3
)

// TestCallsOfAConnection gates them. The least of several connections is what counts: a thread that has to be made, or a look that comes before there is
// something to see, is more.
func TestCallsOfAConnection(t *testing.T) {
	outside.serve(t, "203.0.113.5:443", echo)
	outside.serve(t, "203.0.113.6:443", echo) // /etc/hosts has it
	outside.name("a.example.com", "203.0.113.5")
	b, calls := openCounted(t, rulesOf(allow("a.example.com", 443), allow("inhosts.example.com", 443)))
	for name, most := range map[string]int{"a.example.com": maxCallsLookedUp, "inhosts.example.com": maxCallsInHosts} {
		_, at := b.lookup(name, v4)
		hello := helloTo(t, name)
		least, wakes := count.Calls{Made: 1 << 30}, 1<<30
		for i := 0; i < 20 || i < 400 && (least.Made > most || wakes > maxWakes); i++ { // on a busy machine all of the first may be dear
			before := calls()
			c := b.dial(at[0].String(), 443, v4)
			if _, err := c.Write(hello); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(c); err != nil || !bytes.Equal(answer, hello) {
				t.Fatalf("%d bytes: %v", len(answer), err)
			}
			c.Close()
			b.awaitMany("its end", i+1, verdict(wire.Closed, name))
			one := since(before, calls())
			if one.Made < least.Made {
				least = one
			}
			wakes = min(wakes, one.By[unix.SYS_FUTEX])
		}
		t.Logf("%s: %d system calls, by number %v; %d times another thread was woken", name, least.Made, least.By, wakes)
		if wakes > maxWakes {
			t.Errorf("a connection to %s wakes another thread %d times, more than %d", name, wakes, maxWakes)
		}
		if least.Made > most {
			t.Errorf("a connection to %s takes the gate %d system calls, more than %d: by number %v", name, least.Made, most, least.By)
		}
	}
}

func since(before, now count.Calls) count.Calls {
	now.Made -= before.Made
	for nr, n := range before.By {
		if now.By[nr] -= n; now.By[nr] == 0 {
			delete(now.By, nr)
		}
	}
	return now
}

// helloTo is what a TLS client says first.
func helloTo(t *testing.T, name string) []byte {
	t.Helper()
	here, there := net.Pipe()
	go func() {
		tls.Client(here, &tls.Config{ServerName: name}).Handshake()
		here.Close()
	}()
	defer there.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(there, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(there, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// openCounted is open for a gate whose system calls are counted.
func openCounted(t *testing.T, rules wire.Rules) (*box, func() count.Calls) {
	t.Helper()
	b, first, files := sandbox(t, rules, nil)
	theirs := b.pair()
	w, err := count.Watch([]string{"/proc/self/exe"}, []string{roleVariable + "=gate"}, []*os.File{theirs})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.supervisor.Close()
		if err := w.Wait(); err != nil {
			t.Error(err)
		}
	})
	b.greet(wire.Start{})
	go b.listen()
	b.send(first, files)
	return b, w.Calls
}
