package enginetest

import (
	"encoding/binary"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ownAgent is the ssh-agent that a sandbox has where its policy names keys. It is there to be seen, and signs logins alone.
const ownAgent = "/run/casemate-ssh/agent"

// signsAnything asks an agent for a signature of what is no login, with its first key.
func signsAnything(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	if unix.Connect(fd, &unix.SockaddrUnix{Name: path}) != nil {
		return false
	}
	const listKeys, keys, sign, signature = 11, 12, 13, 14
	list := askAgent(f, []byte{listKeys})
	if len(list) < 9 || list[0] != keys {
		return false
	}
	n := binary.BigEndian.Uint32(list[5:])
	if uint64(n) > uint64(len(list)-9) {
		return false
	}
	answer := askAgent(f, append(append(append([]byte{sign}, agentText(list[9:9+n])...), agentText([]byte("casemate-probe"))...), 0, 0, 0, 0))
	return len(answer) > 0 && answer[0] == signature
}

// agentText is bytes with their length before them, as agents and their clients send messages and what is in them.
func agentText(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func askAgent(f *os.File, message []byte) []byte {
	var head [4]byte
	if _, err := f.Write(agentText(message)); err != nil {
		return nil
	}
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return nil
	}
	answer := make([]byte, min(binary.BigEndian.Uint32(head[:]), 1<<20))
	if _, err := io.ReadFull(f, answer); err != nil {
		return nil
	}
	return answer
}
