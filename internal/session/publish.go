package session

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// published is a listener on the host's loopback for a port inside.
type published struct{ fd, inside int }

// publish takes the ports before anything runs, so that one which is taken is said in time. Only loopback is ever offered: who is on the network must
// not reach what an agent serves.
func (s *supervision) publish() error {
	for _, p := range s.run.Plan.Network.Publish {
		fd, err := listen4(p.Host)
		if err != nil {
			s.unpublish()
			return &Refusal{fmt.Errorf("network.publish: port %d of your loopback: %w", p.Host, err), fmt.Sprintf("choose another one: --publish %d:%d", p.Host+1, p.Inside)}
		}
		s.published = append(s.published, published{fd, p.Inside})
		if fd, err := listen6(p.Host); err == nil { // a machine may have no IPv6
			s.published = append(s.published, published{fd, p.Inside})
		}
	}
	return nil
}

func listen4(port int) (int, error) {
	return listenAt(unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

func listen6(port int) (int, error) {
	return listenAt(unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}})
}

func listenAt(family int, at unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil {
		const backlog = 128
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// unpublish gives back the ports that the gate has not been given.
func (s *supervision) unpublish() {
	for _, p := range s.published {
		unix.Close(p.fd)
	}
	s.published = nil
}
