package relay

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const benchBytes = 1 << 30

// The figure that matters is "ratio": the speed of a pipeline with the relay in it over that of the same without, both
// measured in turn in one run.
func BenchmarkRelay(b *testing.B) {
	for _, tt := range []struct {
		name string
		run  func(b *testing.B, relayed bool)
	}{
		{"head to cat", func(b *testing.B, relayed bool) {
			out := newStream(b, "pipe", false)
			reader := start(b, exec.Command("cat"), out.far, nil)
			runBench(b, exec.Command("head", "-c", fmt.Sprint(benchBytes), "/dev/zero"), nil, out.near, relayed)
			await(b, reader, out.far, out.near)
		}},
		{"head to file", func(b *testing.B, relayed bool) {
			out := newStream(b, "file", false)
			runBench(b, exec.Command("head", "-c", fmt.Sprint(benchBytes), "/dev/zero"), nil, out.near, relayed)
			out.near.Close()
			out.far.Close()
		}},
		{"pipe to cat", func(b *testing.B, relayed bool) {
			in := newStream(b, "pipe", true)
			writer := start(b, exec.Command("head", "-c", fmt.Sprint(benchBytes), "/dev/zero"), nil, in.far)
			in.far.Close()
			runBench(b, exec.Command("cat"), in.near, nil, relayed)
			await(b, writer, in.near)
		}},
		{"file to cat", func(b *testing.B, relayed bool) {
			f, err := os.CreateTemp(b.TempDir(), "")
			if err != nil {
				b.Fatal(err)
			}
			if err := f.Truncate(benchBytes); err != nil {
				b.Fatal(err)
			}
			runBench(b, exec.Command("cat"), f, nil, relayed)
			f.Close()
		}},
		{"seq through cat to cat", func(b *testing.B, relayed bool) { // many small writes, both ways
			in, out := newStream(b, "pipe", true), newStream(b, "pipe", false)
			writer := start(b, exec.Command("seq", "20000000"), nil, in.far)
			in.far.Close()
			reader := start(b, exec.Command("cat"), out.far, nil)
			runBench(b, exec.Command("cat"), in.near, out.near, relayed)
			await(b, writer, in.near)
			await(b, reader, out.far, out.near)
		}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var bare, relayed time.Duration
			for b.Loop() {
				at := time.Now()
				tt.run(b, false)
				bare += time.Since(at)
				at = time.Now()
				tt.run(b, true)
				relayed += time.Since(at)
			}
			b.ReportMetric(float64(bare)/float64(relayed), "ratio")
		})
	}
}

func start(b *testing.B, cmd *exec.Cmd, in, out *os.File) *exec.Cmd {
	b.Helper()
	if in != nil {
		cmd.Stdin = in
	}
	if out != nil {
		cmd.Stdout = out
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd
}

func await(b *testing.B, cmd *exec.Cmd, ends ...*os.File) {
	b.Helper()
	for _, f := range ends {
		f.Close()
	}
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

func runBench(b *testing.B, cmd *exec.Cmd, in, out *os.File, relayed bool) {
	b.Helper()
	if !relayed {
		if err := start(b, cmd, in, out).Wait(); err != nil {
			b.Fatal(err)
		}
		return
	}
	null, err := openNull(unix.O_RDWR)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(null)
	fds := [3]int{null, null, null}
	if in != nil {
		fds[0] = int(in.Fd())
	}
	if out != nil {
		fds[1] = int(out.Fd())
	}
	s, err := OpenStreams(fds, -1)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	runInside(b, s, cmd)
}
