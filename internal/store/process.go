package store

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// ProcessStart says when a process started, in clock ticks since the machine did. With its number it names one process for good.
func ProcessStart(pid int) (uint64, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/stat", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var buf [1024]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0, err
	}
	text := buf[:n]
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) // the name of the program may hold anything, so count from behind it
	const startTime = 22 - 3
	if len(fields) <= startTime {
		return 0, errors.New("too few fields in /proc/PID/stat")
	}
	return strconv.ParseUint(string(fields[startTime]), 10, 64)
}
