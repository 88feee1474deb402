package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/testcert"
)

func portOf(t testing.TB, addr string) string {
	t.Helper()
	if u, err := url.Parse(addr); err == nil && u.Host != "" {
		addr = u.Host
	}
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	return port
}

// Every scheme through every kind of proxy, which alone knows the server's name.
func TestProxy_EveryTransport(t *testing.T) {
	t.Parallel()
	b := mqtttest.Start(t, func(o *mqtttest.Options) { o.WebSocket = true })
	ca := testcert.NewAuthority(t, "trusted")
	server := &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, "broker.test", time.Hour).TLS(t)}}
	secure := func(addr string) string { return tlsFront(t, addr, func() *tls.Config { return server }, nil) }
	ws, err := url.Parse(b.WebSocketURL())
	must(t, err)
	servers := map[string]string{
		"mqtt":  "mqtt://broker.test:" + portOf(t, b.URL()),
		"mqtts": "mqtts://broker.test:" + portOf(t, secure(b.Addr())),
		"ws":    "ws://broker.test:" + portOf(t, b.WebSocketURL()) + "/mqtt",
		"wss":   "wss://broker.test:" + portOf(t, secure(ws.Host)) + "/mqtt",
	}
	plain, locked := startProxy(t, "", "", nil), startProxy(t, "user", "secret", nil)
	hidden := startProxy(t, "user", "secret", tlsListener(t, ca, "proxy.test"))
	for name, p := range map[string]struct {
		*proxyServer
		url string
	}{
		"http":                   {plain, "http://" + plain.addr},
		"http with a password":   {locked, "http://" + locked.login() + locked.addr},
		"https":                  {hidden, "https://" + hidden.login() + hidden.addr},
		"socks5":                 {plain, "socks5://" + plain.addr},
		"socks5h":                {plain, "socks5h://" + plain.addr},
		"socks5 with a password": {locked, "socks5://" + locked.login() + locked.addr},
	} {
		for scheme, server := range servers {
			t.Run(name+"/"+scheme, func(t *testing.T) {
				a := make(attempts, 10)
				cfg := overSockets(server, a)
				cfg.Connection.Proxy, cfg.TLS = p.url, &tls.Config{RootCAs: ca.Pool()}
				c := mustStart(t, cfg)
				a.connects(t)
				wantState(t, publish(t, c, "t", strings.Repeat("x", 100_000), client.AtLeastOnce), client.Acked)
				if asked := <-p.asked; !strings.Contains(server, "//"+asked) {
					t.Errorf("the proxy was asked for %s, want that of %s", asked, server)
				}
				must(t, c.Close())
			})
		}
	}
}

func TestProxy_FromEnvironment(t *testing.T) {
	b := mqtttest.Start(t, func(o *mqtttest.Options) { o.WebSocket = true })
	p := startProxy(t, "", "", nil)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://"+p.addr)
		t.Setenv(strings.ToLower(name), "")
	}
	t.Setenv("NO_PROXY", "other.test")
	dns := nameServer{addrs: [][4]byte{{127, 0, 0, 1}}}
	for _, tt := range []struct {
		proxy, server string
		through       bool
	}{
		{client.ProxyFromEnvironment, "mqtt://broker.test:" + portOf(t, b.URL()), true},
		{client.ProxyFromEnvironment, "ws://broker.test:" + portOf(t, b.WebSocketURL()) + "/mqtt", true},
		{client.ProxyFromEnvironment, b.URL(), false},                            // loopback
		{"", "ws://broker.test:" + portOf(t, b.WebSocketURL()) + "/mqtt", false}, // found by itself
	} {
		a := make(attempts, 10)
		cfg := overSockets(tt.server, a)
		cfg.Connection.Proxy = tt.proxy
		resolveWith(t, &cfg, dns.resolver(t))
		c := mustStart(t, cfg)
		a.connects(t)
		if through := len(p.asked) == 1; through != tt.through {
			t.Errorf("%s: through the proxy: %v", tt.server, through)
		} else if through {
			<-p.asked
		}
		must(t, c.Close())
	}
	t.Setenv("HTTPS_PROXY", "gopher://u:secret@p")
	var bad *client.ConfigError
	if _, err := client.New(client.Config{Servers: []string{b.URL()}, Connection: client.ConnectionConfig{Proxy: client.ProxyFromEnvironment}}); !errors.As(err, &bad) || bad.Field != "Connection.Proxy" || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// The client recovers from every failure of a proxy. Errors, events and log lines describe the failure
// without the password.
func TestProxy_FailsAndRecovers(t *testing.T) {
	t.Parallel()
	b := mqtttest.Start(t)
	p := startProxy(t, "user", "secret", nil)
	var said bytes.Buffer
	a := make(attempts, 1000)
	cfg := overSockets("mqtt://broker.test:"+portOf(t, b.URL()), a)
	cfg.Connection.Proxy = "http://" + p.login() + p.addr
	cfg.Connection.ConnectTimeout = 2 * time.Second
	cfg.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	tell := cfg.OnEvent
	var events recorder
	cfg.OnEvent = func(e client.Event) { events.add(e); tell(e) }
	wrong := "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
	p.answer.Store(&wrong)
	c := mustStart(t, cfg)
	if err := fails[*client.ProxyError](t, a); err.Status != 407 {
		t.Errorf("got %v", err)
	}
	bad := "HTTP/1.1 502 Bad Gateway\r\n\r\n"
	p.answer.Store(&bad)
	for err := fails[*client.ProxyError](t, a); err.Status != 502; err = fails[*client.ProxyError](t, a) {
	}
	p.answer.Store(nil)
	a.connects(t)

	p.down()
	var op *net.OpError
	if err := fails[*client.ProxyError](t, a); !errors.As(err, &op) || err.Status != 0 {
		t.Errorf("not there: %v", err)
	}
	p.silent.Store(true)
	p.up(listenOn(t, "tcp", p.addr), nil)
	for err := error(nil); !errors.Is(err, context.DeadlineExceeded); err = fails[error](t, a) {
	}
	p.silent.Store(false)
	a.connects(t)
	wantState(t, publish(t, c, "t", "x", client.AtLeastOnce), client.Acked)
	must(t, c.Close())
	for _, e := range events.list {
		fmt.Fprintf(&said, "%+v\n", e)
	}
	if text := said.String(); strings.Contains(text, "secret") || strings.Contains(text, "dXNlcjpz") || !strings.Contains(text, "user:xxxxx@") {
		t.Errorf("the log or the events show the password, or do not name the proxy:\n%s", text)
	}
}

func TestProxy_SOCKS5RefusesThenConnects(t *testing.T) {
	b := mqtttest.Start(t)
	p := startProxy(t, "user", "secret", nil)
	a := make(attempts, 1000)
	cfg := overSockets(b.URL(), a)
	cfg.Connection.Proxy = "socks5://user:guess@" + p.addr
	wrong := mustStart(t, cfg)
	if err := fails[*client.ProxyError](t, a); !strings.Contains(err.Error(), "authentication failed") || strings.Contains(err.Error(), "guess") {
		t.Errorf("got %v", err)
	}
	must(t, wrong.Close())

	l := listenOn(t, "tcp", "127.0.0.1:0")
	must(t, l.Close())
	a = make(attempts, 1000)
	cfg = overSockets("mqtt://"+l.Addr().String(), a)
	cfg.Connection.Proxy = "socks5://" + p.login() + p.addr
	mustStart(t, cfg)
	if err := fails[*client.ProxyError](t, a); !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	served(t, listenOn(t, "tcp", l.Addr().String()), func(c net.Conn) {
		if out, err := net.Dial("tcp", b.Addr()); err == nil {
			pump(c, out)
		}
	})
	a.connects(t)
}

func TestServers_UnixSocketsAndFailover(t *testing.T) {
	b := mqtttest.Start(t)
	dir, err := os.MkdirTemp("", "mooring") // the name of a socket must be short
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	a := make(attempts, 1000)
	cfg := overSockets("unix://"+filepath.ToSlash(socket), a)
	closed := listenOn(t, "tcp", "127.0.0.1:0")
	must(t, closed.Close())
	cfg.Servers = append([]string{"mqtt://" + closed.Addr().String()}, cfg.Servers...)
	c := mustStart(t, cfg)
	if err := fails[*net.OpError](t, a); err.Net != "tcp" {
		t.Errorf("the first server first: %v", err)
	}
	if err := fails[*net.OpError](t, a); err.Net != "unix" {
		t.Errorf("then the second: %v", err)
	}
	served(t, listenOn(t, "unix", socket), func(c net.Conn) {
		if out, err := net.Dial("tcp", b.Addr()); err == nil {
			pump(c, out)
		}
	})
	a.connects(t)
	wantState(t, publish(t, c, "t", "x", client.AtLeastOnce), client.Acked)
}
