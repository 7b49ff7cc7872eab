package broker

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// packed is text in a coding, with as large a window as HTTP allows.
func packed(t testing.TB, coding, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriterOptions(&b, brotli.WriterOptions{Quality: 1, LGWin: 24})
	case "zstd":
		w = zstdOf(t, &b, maxWindow)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstdOf(t testing.TB, to io.Writer, window int) io.WriteCloser {
	t.Helper()
	w, err := zstd.NewWriter(to, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var codings = []string{"gzip", "deflate", "br", "zstd"}

// FuzzUnpack: whatever a body says it is, the look ends with it, and what its coding holds is found.
func FuzzUnpack(f *testing.F) {
	for i, coding := range codings {
		whole := packed(f, coding, "before "+theValue+" after")
		f.Add(byte(i), whole, uint64(1))
		f.Add(byte(i), packed(f, coding, "nothing"), uint64(2))
		f.Add(byte(i), whole[:len(whole)/2], uint64(3))
		f.Add(byte(i), append(bytes.Clone(whole), whole...), uint64(4))
	}
	f.Add(byte(1), []byte("\x78\x9c"), uint64(3))
	f.Add(byte(2), []byte("\x0f\x1b\x80"+"0000"+theValue+"8"), uint64(16))
	f.Fuzz(func(t *testing.T, which byte, text []byte, seed uint64) {
		coding := codings[int(which)%len(codings)]
		u := newUnpacker(coding, prints().Search(), func() {})
		got := false
		pieces(rand.New(rand.NewPCG(seed, 3)), text, func(piece []byte) {
			_, ok := u.next(piece)
			got = got || ok
		})
		_, ok := u.end()
		got = got || ok
		want, damaged := false, false
		if plain, err := unpack(coding, bytes.NewReader(text)); err == nil {
			defer plain.Close()
			all, err := io.ReadAll(io.LimitReader(plain, 1<<20))
			if len(all) == 1<<20 {
				return
			}
			want, damaged = naive(all), err != nil
		}
		if got != want && !(got && damaged) { // of what is cut, more is undone in pieces
			t.Errorf("%s: %v, want %v: %q", coding, got, want, text)
		}
	})
}

// TestUnpacked: a body in each coding is looked through, in pieces of any size, as soon as its bytes are there; what holds nothing passes as it is.
func TestUnpacked(t *testing.T) {
	for _, coding := range codings {
		for name, text := range map[string]string{"a placeholder": strings.Repeat("some text, ", 5000) + thePlaceholder, "a value in base64": "k=" + string(forms([]byte(theValue))[1]), "nothing": strings.Repeat("some text, ", 5000)} {
			body := packed(t, coding, text)
			r, err := http.NewRequest("POST", "https://api.example/", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = -1 // it is looked through on its way
			r.Header.Set("Content-Encoding", strings.ToUpper(coding))
			b := New(nil)
			b.Prints = prints()
			var leak *Leak
			_, release := b.Hold(r, func(l *Leak) { leak = l })
			sent, err := io.ReadAll(io.LimitReader(r.Body, int64(len(body))))
			_, after := r.Body.Read(make([]byte, 1))
			r.Body.Close()
			release()
			if leaks := name != "nothing"; (leak != nil) != leaks || leaks && err == nil && after == io.EOF || !leaks && !bytes.Equal(sent, body) {
				t.Errorf("%s in %s: %v, %v, %d of %d bytes", name, coding, leak, err, len(sent), len(body))
			}
			if len(b.widely) != 0 {
				t.Errorf("%s: its place is not given back", coding)
			}
		}
	}
}

// TestBombs: what a small body stands for costs its window, and no more than the coding may have: what asks for more is not undone.
func TestBombs(t *testing.T) {
	zeros := strings.Repeat("\x00", 24<<20)
	var vast bytes.Buffer
	w := zstdOf(t, &vast, 64<<20)
	io.WriteString(w, zeros)
	io.WriteString(w, theValue)
	w.Close()
	for _, c := range []struct {
		name, coding string
		body         []byte
		found        bool
		most         uint64 // MiB that it may have asked for in all
	}{
		{"gzip", "gzip", packed(t, "gzip", zeros+theValue), true, 2},
		{"br", "br", packed(t, "br", zeros+theValue), true, 34},
		{"zstd", "zstd", packed(t, "zstd", zeros+theValue), true, 20},
		{"zstd that looks back too far", "zstd", vast.Bytes(), false, 2},
	} {
		var before, after runtime.MemStats
		search := prints().Search()
		runtime.ReadMemStats(&before)
		u := newUnpacker(c.coding, search, func() {})
		_, ok := u.next(c.body)
		if !ok {
			_, ok = u.end()
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) >> 20; ok != c.found || got > c.most {
			t.Errorf("%s, %d bytes: found %v, %d MiB", c.name, len(c.body), ok, got)
		}
	}
}

// TestRoom: only so many streams with a large window are at work, and one that ends makes room for the next. Whoever has gone waits no longer.
func TestRoom(t *testing.T) {
	b := New(nil)
	var first func()
	for i := range widelyAtOnce {
		done, err := b.room(context.Background(), codings[2+i%2])
		if err != nil {
			t.Fatal(err)
		}
		first = done
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.room(gone, "br"); err != context.Canceled {
		t.Error(err)
	}
	if _, err := b.room(gone, "gzip"); err != nil {
		t.Errorf("gzip needs no room: %v", err)
	}
	came := make(chan error)
	go func() {
		_, err := b.room(context.Background(), "zstd")
		came <- err
	}()
	first()
	first() // once is enough
	if err := <-came; err != nil || len(b.widely) != widelyAtOnce {
		t.Error(err, len(b.widely))
	}
}
