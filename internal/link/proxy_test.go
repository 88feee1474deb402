package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/testcert"
)

func TestParseProxy(t *testing.T) {
	for in, want := range map[string]string{
		"http://h": "http://h:80", "http://h:3128/": "http://h:3128", "https://h": "https://h:443", "socks5://h": "socks5://h:1080",
		"socks5h://u:p@h:1": "socks5h://u:p@h:1", "http://u:p%2Fw@[::1]": "http://u:p%2Fw@[::1]:80", "HTTP://u@h": "http://u@h:80",
		"socks5://u@h": "socks5://u@h:1080",
	} {
		if p, err := ParseProxy(in); err != nil || p.For("server:1").String() != want {
			t.Errorf("%s: %v, %v, want %s", in, p, err, want)
		}
	}
	if p, err := ParseProxy(""); p != nil || err != nil || p.For("server:1") != nil {
		t.Errorf("none: %v, %v", p, err)
	}
	for in, hint := range map[string]string{
		"h": "has no scheme", "h:3128": "has no scheme", "10.0.0.1:3128": "not a URL", "u:secret@h:1": "has no scheme",
		"ftp://u:secret@h": `"ftp"`, "http://": "names no host", "http://u:secret@:3128": "names no host",
		"http://u:secret@h/path": "after the host", "http://u:secret@h?q": "after the host", "http://u:secret@h#f": "after the host",
		"http://u:secret@h:0": "port", "socks5://h:70000": "port",
		"http://u:s/ecret@h:1": "percent-encode", "http://u:12/secret@h": "percent-encode", "http://u:se cret@h": "percent-encode",
		"socks5://:secret@h": "SOCKS5 cannot carry", "socks5://u:secret" + strings.Repeat("x", 250) + "@h": "SOCKS5 cannot carry",
		"http://a%3Ab:secret@h": "colon",
	} {
		if p, err := ParseProxy(in); err == nil || !strings.Contains(err.Error(), hint) || strings.Contains(err.Error(), "ecret") {
			t.Errorf("%s: %v, %v, want an error with %q and without the password", in, p, err, hint)
		}
	}
}

// proxyThat sends fixed bytes to each connection, and then nothing. The channel gets what it has
// received, after the connection has ended.
func proxyThat(t *testing.T, scheme, says string) (*Dialer, <-chan string) {
	t.Helper()
	l := listen(t, "tcp", "127.0.0.1:0")
	d := &Dialer{}
	if scheme == "https" {
		ca := testcert.NewAuthority(t, "proxies")
		mine := ca.Issue(t, "proxy.test", time.Hour).TLS(t)
		d.TLS = &tls.Config{RootCAs: ca.Pool(), ServerName: "server.test", Certificates: []tls.Certificate{mine}}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{mine}, ClientAuth: tls.RequestClientCert,
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) > 0 {
					return errors.New("the client certificate was sent to the proxy")
				}
				return nil
			}})
	}
	var err error
	if d.Proxy, err = ParseProxy(scheme + "://user:secret@" + l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	got, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, says)
			b, _ := io.ReadAll(c)
			_ = c.Close()
			got <- string(b)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return d, got
}

// welcomes are accepting answers of a proxy, directly followed by the server's bytes, which must be
// read later.
var welcomes = map[string]string{
	"http":   "HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n",
	"https":  "HTTP/1.0 200 OK\r\n\r\n",
	"socks5": "\x05\x02" + "\x01\x00" + "\x05\x00\x00\x01\x7f\x00\x00\x01\x04\xd2",
}

func TestDialProxy_KeepsBytesAfterTheAnswer(t *testing.T) {
	for scheme, welcome := range welcomes {
		for _, raw := range []string{"mqtt://server.test", "mqtt://[2001:db8::1]:99"} {
			d, got := proxyThat(t, scheme, welcome+"early bytes")
			c, err := d.Dial(t.Context(), server(t, raw))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 11)
			for i := 0; i < len(b); i += 4 { // in more than one read
				if _, err := io.ReadFull(c, b[i:min(i+4, len(b))]); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.WriteString(c, "from client"); string(b) != "early bytes" || err != nil {
				t.Errorf("%s: got %q, %v", scheme, b, err)
			}
			_ = c.Close()
			want := "CONNECT server.test:1883 HTTP/1.1\r\nHost: server.test:1883\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\nfrom client"
			switch six := strings.Contains(raw, "::"); {
			case scheme == "socks5" && six:
				want = "\x05\x02\x00\x02\x01\x04user\x06secret\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x00\x63from client"
			case scheme == "socks5": // the name goes to the proxy
				want = "\x05\x02\x00\x02\x01\x04user\x06secret\x05\x01\x00\x03\x0bserver.test\x07\x5bfrom client"
			case six:
				want = strings.ReplaceAll(want, "server.test:1883", "[2001:db8::1]:99")
			}
			if b := <-got; b != want {
				t.Errorf("%s: the proxy got %q, want %q", scheme, b, want)
			}
		}
	}
}

func TestDialProxy_ContextEndsTheAnswer(t *testing.T) {
	for scheme, welcome := range welcomes {
		for n := range len(welcome) {
			d, _ := proxyThat(t, scheme, welcome[:n])
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Duration(n)*100*time.Microsecond, cancel)
			c, err := d.Dial(ctx, server(t, "mqtt://server.test"))
			failed := new(ProxyError)
			if c != nil || !errors.Is(err, context.Canceled) || !errors.As(err, &failed) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, after %d bytes: %v", scheme, n, err)
			}
			cancel()
		}
	}
}

func TestDialProxy_ReportsRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		scheme, says string
		status       int
		hint         string
	}{
		"password":      {"http", "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", 407, "407 Proxy Authentication Required; check the user and password"},
		"rules":         {"https", "HTTP/1.1 403 Forbidden\r\n\r\nbody", 403, "its rules"},
		"bad gateway":   {"http", "HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, "may not reach the server"},
		"switching":     {"http", "HTTP/1.1 101 What\r\n\r\n", 101, "101 What"},
		"not HTTP":      {"http", "220 mail\r\n", 0, "does not speak HTTP"},
		"no end":        {"http", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxAnswer), 0, "longer than 65536"},
		"no method":     {"socks5", "\x05\xff", 0, "no acceptable authentication methods"},
		"SOCKS5 auth":   {"socks5", "\x05\x02\x01\x01", 0, "authentication failed"},
		"SOCKS5 rules":  {"socks5", "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", 0, "not allowed"},
		"SOCKS5 server": {"socks5", "\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", 0, "connection refused"},
		"SOCKS4":        {"socks5", "\x00\x5b", 0, "version"},
	} {
		d, got := proxyThat(t, tt.scheme, tt.says)
		_, err := d.Dial(t.Context(), server(t, "mqtt://server.test"))
		failed := new(ProxyError)
		if !errors.As(err, &failed) || failed.Status != tt.status || failed.Server != "server.test:1883" || !strings.Contains(failed.Proxy, "user:xxxxx@") ||
			!strings.Contains(err.Error(), tt.hint) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		<-got // the connection was closed
	}
	gone := listen(t, "tcp", "127.0.0.1:0")
	_ = gone.Close()
	for scheme := range welcomes {
		d := &Dialer{}
		d.Proxy, _ = ParseProxy(scheme + "://user:secret@" + gone.Addr().String())
		_, err := d.Dial(t.Context(), server(t, "wss://server.test"))
		var op *net.OpError
		if failed := new(ProxyError); !errors.As(err, &failed) || !errors.As(err, &op) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s, not there: %v", scheme, err)
		}
	}
}

// The root certificates of the application apply to the proxy too, but not the settings that
// disable verification.
func TestDialProxy_VerifiesHTTPSProxy(t *testing.T) {
	d, _ := proxyThat(t, "https", welcomes["https"])
	d.TLS.RootCAs = testcert.NewAuthority(t, "others").Pool()
	d.TLS.InsecureSkipVerify = true
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := d.Dial(ctx, server(t, "mqtt://server.test"))
	var verify *tls.CertificateVerificationError
	if failed := new(ProxyError); !errors.As(err, &failed) || !errors.As(err, &verify) {
		t.Errorf("got %v", err)
	}
}

func TestDial_UnixSocketUsesNoProxy(t *testing.T) {
	d := &Dialer{}
	d.Proxy, _ = ParseProxy("http://proxy.invalid")
	var op *net.OpError
	if _, err := d.Dial(t.Context(), server(t, "unix:///nonexistent")); !errors.As(err, &op) || op.Net != "unix" {
		t.Errorf("got %v", err)
	}
}

func TestDialProxy_RefusesInvalidServerName(t *testing.T) {
	d, _ := proxyThat(t, "http", welcomes["http"])
	u := server(t, "mqtt://server.test")
	u.Host = "a b\r\nX: y:1"
	if _, err := d.Dial(t.Context(), u); err == nil || !strings.Contains(err.Error(), "correct it") {
		t.Errorf("got %v", err)
	}
}
