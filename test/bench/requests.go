package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// figures are what one run of the client measured.
type figures struct {
	Bulk  float64 // GB/s down one connection
	First float64 // ms, the median from connecting to the first byte of an answer
	Each  float64 // requests a second, each on a connection of its own, of 8 clients
	Kept  float64 // the same on connections that are kept
}

const bulkSize = 128 << 20

// serveHosts is the host's process: it configures its end of the cable once it is there, and serves until its standard input ends.
func serveHosts(authority string) error {
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	if err := ip("link set lo up", "addr add "+hostAddress+"/24 dev there", "link set there up"); err != nil {
		return err
	}
	certificate, err := certify(authority)
	if err != nil {
		return err
	}
	echo, err := net.Listen("tcp", hostAddress+":7")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	web, err := net.Listen("tcp", hostAddress+":443")
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == modelName:
			answerModel(w, r)
		case r.URL.Path == "/keyed" && r.Header.Get("X-Api-Key") != benchKey:
			http.Error(w, "no", http.StatusUnauthorized)
		case r.URL.Path != "/bulk":
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "hello\n")
		default:
			for range bulkSize / len(block) {
				w.Write(block)
			}
		}
	})
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go server.ServeTLS(web, "", "")
	fmt.Println("serving")
	io.Copy(io.Discard, in)
	return nil
}

// certify makes the hosts' certificate, and lays the authority that has signed it into a file: some programs take no authority for a host.
func certify(authority string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	signer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "casemate's measurements"}, NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true}
	host := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: until, DNSNames: []string{hostName, modelName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	text, err := x509.CreateCertificate(rand.Reader, signer, signer, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, host, signer, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: text}), 0o644)
}

// requests is the client: it makes the same requests wherever it runs, through a proxy if one is named.
func requests(proxy string) error {
	var address string // looked up once, as a program that makes many requests does
	if proxy == "" {
		list, err := net.LookupHost(hostName)
		if err != nil {
			return err
		}
		address = list[0]
	}
	dial := func(port string) (net.Conn, error) {
		if proxy == "" {
			return net.Dial("tcp", net.JoinHostPort(address, port))
		}
		c, err := net.Dial("tcp", proxy)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(c, "CONNECT %s:%s HTTP/1.1\r\nHost: %s:%s\r\n\r\n", hostName, port, hostName, port)
		head := make([]byte, 0, 256)
		for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, one[0]) {
			if _, err := c.Read(one); err != nil {
				return nil, err
			}
		}
		if !strings.Contains(string(head), " 200 ") {
			return nil, fmt.Errorf("the proxy said %q", head)
		}
		return c, nil
	}
	client := func(keep bool) *http.Client {
		return &http.Client{Transport: &http.Transport{
			DisableKeepAlives: !keep, MaxIdleConnsPerHost: 8, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(context.Context, string, string) (net.Conn, error) { return dial("443") },
		}}
	}
	var f figures
	begin := time.Now()
	if n, err := get(client(true), "/bulk"); err != nil || n != bulkSize {
		return fmt.Errorf("%d bytes: %w", n, err)
	}
	f.Bulk = bulkSize / time.Since(begin).Seconds() / 1e9
	var took []float64
	for range 200 {
		begin := time.Now()
		c, err := dial("7")
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte{0}); err != nil {
			return err
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return err
		}
		took = append(took, time.Since(begin).Seconds()*1e3)
		c.Close()
	}
	f.First = median(took)
	var err error
	hello := func(c *http.Client) func() error {
		return func() error {
			_, err := get(c, "/")
			return err
		}
	}
	if f.Each, err = perSecond(400, hello(client(false))); err != nil {
		return err
	}
	if f.Kept, err = perSecond(4000, hello(client(true))); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

func get(c *http.Client, path string) (int64, error) {
	answer, err := c.Get("https://" + hostName + path)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return io.Copy(io.Discard, answer.Body)
}

// keepingClient keeps its connections, of one protocol. They lead to a proxy in the host's place, if one is named.
func keepingClient(http2 bool, proxy string) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2)
	t := &http.Transport{Protocols: p, MaxIdleConnsPerHost: 8, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	if proxy != "" {
		t.DialContext = func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", proxy) }
	}
	return &http.Client{Transport: t}
}

// perSecond makes the requests from 8 clients at once.
func perSecond(count int, one func() error) (float64, error) {
	var all sync.WaitGroup
	failed := make(chan error, 8)
	begin := time.Now()
	for range 8 {
		all.Go(func() {
			for range count / 8 {
				if err := one(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(begin).Seconds()
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(count) / took, nil
	}
}
