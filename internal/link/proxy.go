package link

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/proxy"
)

// Proxy is a proxy and the exceptions that are connected to directly. A nil Proxy means no proxy.
type Proxy struct {
	url    *url.URL
	except []exception // besides localhost; nil: no exceptions, not even localhost
}

// FromEnvironment is an argument of ParseProxy that selects the proxy of the environment.
const FromEnvironment = "environment"

// ParseProxy parses the URL of a proxy: http (port 80), https (443), socks5 or socks5h (1080), with
// or without user and password. FromEnvironment selects HTTPS_PROXY or else ALL_PROXY, with the
// exceptions in NO_PROXY. "" means no proxy.
func ParseProxy(raw string) (*Proxy, error) {
	switch raw {
	case "":
		return nil, nil
	case FromEnvironment:
		return fromEnvironment(os.Getenv)
	}
	u, err := parseProxyURL(raw)
	if err != nil {
		return nil, err
	}
	return &Proxy{url: u}, nil
}

// For returns the proxy for a connection to host:port, or nil.
func (p *Proxy) For(hostPort string) *url.URL {
	if p == nil || p.direct(hostPort) {
		return nil
	}
	return p.url
}

var proxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}

func parseProxyURL(raw string) (*url.URL, error) {
	// Errors do not quote the URL: any part of it may belong to a password that is not
	// percent-encoded.
	u, err := url.Parse(raw)
	if err != nil {
		if scheme, rest, ok := strings.Cut(raw, "://"); ok && !strings.Contains(raw, "@") {
			if _, err := hostPort(strings.TrimRight(rest, "/"), scheme, cmp.Or(proxyPorts[scheme], "3128")); err != nil {
				return nil, err
			}
		}
		return nil, errors.New("is not a URL; write http://host:3128, and percent-encode special characters in user and password")
	}
	port := proxyPorts[u.Scheme]
	user := u.User.Username()
	password, _ := u.User.Password()
	switch {
	case port == "" && u.Host == "": // host:port; url.Parse treats host as the scheme
		return nil, errors.New("has no scheme; write http://host:3128, https://host or socks5://host:1080")
	case port == "":
		return nil, fmt.Errorf("has the scheme %q; use http, https or socks5", u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("names no host; write %s://host:%s", u.Scheme, port)
	case u.Path != "" && u.Path != "/" || strings.ContainsAny(raw, "?#"):
		return nil, fmt.Errorf("has a path or query after the host; write %s://host:%s, and percent-encode special characters in user and password", u.Scheme, port)
	case port == "1080" && u.User != nil && (user == "" || len(user) > 255 || len(password) > 255):
		return nil, errors.New("has a user or password that SOCKS5 cannot carry; use a user of 1 to 255 bytes and a password of up to 255, or neither")
	case port != "1080" && strings.Contains(user, ":"):
		return nil, errors.New("has a user with a colon in it, which Basic authentication cannot carry; use another user")
	}
	if u.Host, err = hostPort(strings.Replace(u.Host, "%", "%25", 1), u.Scheme, port); err != nil {
		return nil, err
	}
	u.Path = ""
	return u, nil
}

// ProxyError reports that the proxy cannot be reached or refuses to connect.
type ProxyError struct {
	Proxy  string // URL without the password, and without a user that has no password
	Server string // the requested host and port
	Status int    // HTTP status of the answer; 0: there was no answer
	Reason string // the reason phrase after Status
	Err    error  // the error, if there is no Status
}

func (e *ProxyError) Error() string {
	s := fmt.Sprintf("mqtt: proxy %s does not connect to %s: ", e.Proxy, e.Server)
	if e.Status == 0 {
		return s + e.Err.Error()
	}
	s += strings.TrimSpace(fmt.Sprintf("it answered %d %s", e.Status, e.Reason))
	switch {
	case e.Status == 407:
		s += "; check the user and password in its URL"
	case e.Status >= 500:
		s += "; it may not reach the server at the moment"
	default:
		s += "; check that its rules allow this host and port"
	}
	return s
}

func (e *ProxyError) Unwrap() error { return e.Err }

// SafeToRetry returns true, because there was no connection.
func (*ProxyError) SafeToRetry() bool { return true }

// dialProxy connects to addr through a proxy, which resolves the name. An https proxy is verified
// with the roots of conf and gets no client certificate.
func (d *Dialer) dialProxy(ctx context.Context, u *url.URL, addr string, conf *tls.Config) (c net.Conn, err error) {
	if strings.HasPrefix(u.Scheme, "socks5") {
		c, err = d.socks(ctx, u, addr)
	} else {
		c, err = d.dialTCP(ctx, u.Host)
		if err == nil && u.Scheme == "https" {
			c, err = handshake(ctx, c, &tls.Config{RootCAs: conf.RootCAs, Time: conf.Time, MinVersion: tls.VersionTLS12}, u.Hostname())
		}
		if err == nil {
			c, err = tunnel(ctx, c, u, addr)
		}
	}
	if err == nil {
		return c, nil
	}
	failed := &ProxyError{}
	if !errors.As(err, &failed) {
		failed = &ProxyError{Err: err}
	}
	failed.Proxy, failed.Server = Redacted(u), addr
	return nil, failed
}

// socks connects through a SOCKS5 proxy.
func (d *Dialer) socks(ctx context.Context, u *url.URL, addr string) (net.Conn, error) {
	dialer, err := proxy.FromURL(u, tcpDialer{d})
	if err != nil {
		return nil, err
	}
	c, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", addr)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // after a cancellation of ctx, the error would be "i/o timeout"
	}
	return c, err
}

// tcpDialer connects to the SOCKS5 proxy itself.
type tcpDialer struct{ *Dialer }

func (d tcpDialer) Dial(_, addr string) (net.Conn, error) {
	return d.dialTCP(context.Background(), addr)
}

func (d tcpDialer) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	return d.dialTCP(ctx, addr)
}
