// Package stdout is where a program prints.
package stdout

import "os"

// Writer remembers that a write failed, so that nobody needs to look at each line: the program says it at its end.
type Writer struct {
	File *os.File
	Lost error // the first
}

func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	if w.Lost == nil {
		w.Lost = err
	}
	return n, err
}

func (w *Writer) Fd() uintptr { return w.File.Fd() }
