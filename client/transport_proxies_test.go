package client_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/testcert"
	"github.com/mooring-mqtt/mooring/reliability"
)

// served runs serve for each connection to l, and ends all of them with the test
// or with down.
func served(t testing.TB, l net.Listener, serve func(net.Conn)) (down func()) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() {
				serve(c)
				mu.Lock()
				delete(open, c)
				mu.Unlock()
				_ = c.Close()
			})
		}
	})
	down = func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	}
	t.Cleanup(down)
	return down
}

func listenOn(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	must(t, err)
	return l
}

// pump copies between two connections until one ends.
func pump(a, b net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(a, b); _ = a.Close() })
	_, _ = io.Copy(b, a)
	_ = b.Close()
	both.Wait()
}

// proxyServer is an HTTP and SOCKS5 proxy that knows one name, broker.test, as
// 127.0.0.1.
type proxyServer struct {
	t              testing.TB
	user, password string                 // "": asks for none
	answer         atomic.Pointer[string] // instead of connecting, HTTP only
	silent         atomic.Bool            // connects nothing and says nothing behind its welcome
	asked          chan string            // what it was asked to connect to
	addr           string
	down           func()
}

func startProxy(t testing.TB, user, password string, wrap func(net.Listener) net.Listener) *proxyServer {
	t.Helper()
	p := &proxyServer{t: t, user: user, password: password, asked: make(chan string, 100)}
	p.up(listenOn(t, "tcp", "127.0.0.1:0"), wrap)
	return p
}

func (p *proxyServer) up(l net.Listener, wrap func(net.Listener) net.Listener) {
	p.addr = l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	p.down = served(p.t, l, p.serve)
}

// login is user and password as they stand in a URL.
func (p *proxyServer) login() string {
	if p.user == "" {
		return ""
	}
	return p.user + ":" + p.password + "@"
}

func (p *proxyServer) serve(c net.Conn) {
	r := bufio.NewReader(c)
	first, err := r.Peek(1)
	switch {
	case err != nil:
	case first[0] == 5:
		p.socks(c, r)
	default:
		p.http(c, r)
	}
}

func (p *proxyServer) http(c net.Conn, r *bufio.Reader) {
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	auth := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.password))
	switch answer := p.answer.Load(); {
	case answer != nil:
		_, _ = io.WriteString(c, *answer)
	case p.user != "" && req.Header.Get("Proxy-Authorization") != auth:
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
	default:
		p.connect(c, r, req.RequestURI, "HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.1 502 Bad Gateway\r\n\r\n")
	}
}

func (p *proxyServer) socks(c net.Conn, r *bufio.Reader) {
	get := func(n byte) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(r, b) // at the end of c all reads come to nothing
		return b
	}
	get(get(2)[1])
	if p.user == "" {
		_, _ = io.WriteString(c, "\x05\x00")
	} else {
		_, _ = io.WriteString(c, "\x05\x02")
		user := string(get(get(2)[1]))
		if password := string(get(get(1)[0])); user != p.user || password != p.password {
			_, _ = io.WriteString(c, "\x01\x01")
			return
		}
		_, _ = io.WriteString(c, "\x01\x00")
	}
	host := ""
	switch head := get(4); head[3] {
	case 1:
		host = net.IP(get(4)).String()
	case 3:
		host = string(get(get(1)[0]))
	}
	port := get(2)
	rest := "\x00\x01\x7f\x00\x00\x01\x00\x00"
	p.connect(c, r, fmt.Sprintf("%s:%d", host, int(port[0])<<8|int(port[1])), "\x05\x00"+rest, "\x05\x05"+rest)
}

func (p *proxyServer) connect(c net.Conn, r *bufio.Reader, to, welcome, refusal string) {
	select {
	case p.asked <- to:
	default:
	}
	if p.silent.Load() {
		_, _ = io.WriteString(c, welcome)
		_, _ = io.Copy(io.Discard, c)
		return
	}
	host, port, _ := net.SplitHostPort(to)
	if host == "broker.test" {
		host = "127.0.0.1"
	}
	out, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		_, _ = io.WriteString(c, refusal)
		return
	}
	_, _ = io.WriteString(c, welcome)
	pump(&buffered{c, r}, out)
}

// buffered reads what is left of a reader first.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// tlsFront is a TLS server in front of addr. Its configuration may change. It sends failed handshakes to
// refused, if that is not nil.
func tlsFront(t testing.TB, addr string, conf func() *tls.Config, refused attempts) string {
	t.Helper()
	l := listenOn(t, "tcp", "127.0.0.1:0")
	served(t, l, func(c net.Conn) {
		s := tls.Server(c, conf())
		if err := s.Handshake(); err != nil {
			select {
			case refused <- err:
			default:
			}
			return
		}
		if out, err := net.Dial("tcp", addr); err == nil {
			pump(s, out)
		}
	})
	return l.Addr().String()
}

// attempts are the outcomes of attempts to connect: nil for a connection.
type attempts chan error

func (a attempts) add(e client.Event) {
	var err error
	switch e := e.(type) {
	case client.ConnectFailed:
		err = e.Err
	case client.Connected:
	default:
		return
	}
	select {
	case a <- err:
	default: // nobody looks
	}
}

// fails waits for an attempt that fails with an error of type T.
func fails[T error](t testing.TB, a attempts) T {
	t.Helper()
	var last error
	for limit := time.After(time.Minute); ; {
		select {
		case last = <-a:
			var want T
			if last != nil && errors.As(last, &want) {
				return want
			}
		case <-limit:
			t.Fatalf("no attempt failed as it should; the last one: %v", last)
		}
	}
}

// connects waits for a connection.
func (a attempts) connects(t testing.TB) {
	t.Helper()
	var last error
	for limit := time.After(time.Minute); ; {
		select {
		case err := <-a:
			if err == nil {
				return
			}
			last = err
		case <-limit:
			t.Fatalf("it does not connect: %v", last)
		}
	}
}

// overSockets is a Config for the built-in dialer, which tries often.
func overSockets(server string, a attempts) client.Config {
	return client.Config{Servers: []string{server}, OnEvent: a.add, Connection: client.ConnectionConfig{Backoff: reliability.Backoff{Min: 5 * time.Millisecond, Max: 20 * time.Millisecond}}}
}

// tlsListener is a listener with a certificate for a name.
func tlsListener(t testing.TB, ca *testcert.Authority, name string) func(net.Listener) net.Listener {
	cert := ca.Issue(t, name, time.Hour).TLS(t)
	return func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
}
