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

// BenchmarkOutput compares `head -c 1G /dev/zero | cat >/dev/null` with the same through a relay: the figure that matters
// is "ratio", the relay's speed over the bare pipe's, both measured in turn in one run.
func BenchmarkOutput(b *testing.B) {
	for _, to := range []string{"cat >/dev/null", "file"} {
		b.Run(to, func(b *testing.B) {
			var bare, relayed time.Duration
			for b.Loop() {
				bare += through(b, to, false)
				relayed += through(b, to, true)
			}
			b.ReportMetric(float64(bare)/float64(relayed), "ratio")
			b.ReportMetric(float64(b.N)*benchBytes/1e6/relayed.Seconds(), "MB/s")
		})
	}
}

func through(b *testing.B, to string, relayed bool) time.Duration {
	r, w := newPipe(b)
	var reader *exec.Cmd
	start := time.Now()
	if to == "file" {
		f, err := os.CreateTemp(b.TempDir(), "")
		if err != nil {
			b.Fatal(err)
		}
		w.Close()
		w = f
	} else {
		reader = exec.Command("sh", "-c", to)
		reader.Stdin = r
		if err := reader.Start(); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
	head := exec.Command("head", "-c", fmt.Sprint(benchBytes), "/dev/zero")
	if !relayed {
		head.Stdout = w
		if err := head.Run(); err != nil {
			b.Fatal(err)
		}
	} else {
		null, err := openNull(unix.O_RDWR)
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open([3]int{null, int(w.Fd()), null}, unix.Geteuid())
		if err != nil {
			b.Fatal(err)
		}
		runInside(b, s, head)
		unix.Close(null)
	}
	w.Close()
	if reader != nil {
		if err := reader.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}
