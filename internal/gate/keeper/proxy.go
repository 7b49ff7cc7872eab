package keeper

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/net/http/httpproxy"
)

// upstream is the proxy that this machine has to go through: then names are looked up there, and whether their addresses are inside of a network is for
// the proxy to know. The rules hold as ever: it is asked only for what they allow, by name.
type upstream struct {
	choose func(*url.URL) (*url.URL, error) // nil: there is none
}

// setProxy takes the host's setting. One that cannot be used fails: to go around it would be to leave by a way that the machine's owner did not mean.
func (u *upstream) set(p wire.Proxy) error {
	if p.URL == "" {
		return nil
	}
	at := p.URL
	if !strings.Contains(at, "://") {
		at = "http://" + at
	}
	parsed, err := url.Parse(at)
	if err != nil || parsed.Scheme != "http" || parsed.Hostname() == "" {
		return errors.New("the proxy in HTTPS_PROXY is not of the form http://HOST:PORT, which is the only one that the gate can go through")
	}
	config := httpproxy.Config{HTTPSProxy: at, NoProxy: p.Except}
	u.choose = config.ProxyFunc()
	return nil
}

// forHost returns the proxy to go through, or nil.
func (u *upstream) forHost(host string, port int) *url.URL {
	if u.choose == nil {
		return nil
	}
	p, err := u.choose(&url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(port))})
	if err != nil {
		return nil
	}
	return p
}

// through connects by way of a proxy (CONNECT, RFC 9110, 9.3.6).
func (k *Keeper) through(ctx context.Context, proxy *url.URL, host string, port int) (*stream, error) {
	late := time.Now().Add(k.limits.Dial)
	ctx, cancel := context.WithDeadline(ctx, late)
	defer cancel()
	c, err := k.reachProxy(ctx, proxy, late)
	if err != nil {
		return nil, fmt.Errorf("the proxy of this machine, %s: %w", proxy.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err = connect(c, proxy, net.JoinHostPort(host, strconv.Itoa(port)))
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("the proxy of this machine, %s: %w", proxy.Host, err)
	}
	return c, nil
}

func (k *Keeper) reachProxy(ctx context.Context, proxy *url.URL, late time.Time) (*stream, error) {
	port := 80
	if text := proxy.Port(); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("%q is no port", text)
		}
		port = n
	}
	w := way{port: port, late: late}
	if a, err := netip.ParseAddr(proxy.Hostname()); err == nil {
		return w.race(ctx, []netip.Addr{a.Unmap()})
	}
	list, err := k.lookup(ctx, proxy.Hostname())
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i] = list[i].Unmap()
	}
	if len(list) == 0 {
		return nil, errors.New("its name has no address")
	}
	return w.race(ctx, interleave(list[:min(len(list), maxAddresses)]))
}

// maxAnswer bounds what a proxy may say before the connection begins.
const maxAnswer = 16 << 10

// connect asks for a connection, and reads the answer byte by byte: what follows is the server's.
func connect(c net.Conn, proxy *url.URL, target string) error {
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := c.Write([]byte(request + "\r\n")); err != nil {
		return err
	}
	var answer []byte
	for one := make([]byte, 1); !bytes.HasSuffix(answer, []byte("\r\n\r\n")); answer = append(answer, one[0]) {
		if len(answer) == maxAnswer {
			return errors.New("it answered with more than a head")
		}
		if _, err := c.Read(one); err != nil {
			return fmt.Errorf("it did not answer: %w", err)
		}
	}
	line, _, _ := strings.Cut(string(answer), "\r\n")
	version, status, _ := strings.Cut(line, " ")
	if !strings.HasPrefix(version, "HTTP/1.") {
		return errors.New("it does not speak HTTP")
	}
	if !strings.HasPrefix(status, "2") {
		return fmt.Errorf("it refuses %s: %.80q", target, status)
	}
	return nil
}
