package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

// ParseServer checks a server URL and fills in the default port of its
// scheme: mqtt (tcp) 1883, mqtts (ssl, tls) 8883, ws 80, wss 443, unix.
func ParseServer(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // without the URL, which may hold a password
		}
		return nil, fmt.Errorf("server is not a URL: %w", err)
	}
	raw = u.Redacted()
	port := ""
	switch u.Scheme {
	case "mqtt", "tcp":
		u.Scheme, port = "mqtt", "1883"
	case "mqtts", "ssl", "tls":
		u.Scheme, port = "mqtts", "8883"
	case "ws":
		port = "80"
	case "wss":
		port = "443"
	case "unix":
		if u.Path == "" {
			return nil, fmt.Errorf("server %q names no socket; write unix:///path/to/socket", raw)
		}
		if u.Host != "" {
			return nil, fmt.Errorf("server %q names the host %q before the socket; write unix:///path/to/socket, with three slashes", raw, u.Host)
		}
		return u, nil
	default:
		return nil, fmt.Errorf("server %q has the scheme %q; use mqtt, mqtts, ws, wss or unix", raw, u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("server %q names no host; write %s://host:%s", raw, u.Scheme, port)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u, nil
}

// Dial opens the transport that u names. ctx covers all of it: name lookup,
// connecting, TLS and WebSocket handshakes.
func Dial(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
	switch u.Scheme {
	case "ws", "wss":
		return dialWebSocket(ctx, u, conf)
	case "unix":
		return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
	case "mqtts":
		// It checks the certificate against the host, unless conf names another.
		return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", u.Host)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
}

func dialWebSocket(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
	d := websocket.Dialer{Proxy: http.ProxyFromEnvironment, Subprotocols: []string{"mqtt"}, TLSClientConfig: conf}
	// gorilla/websocket v1.5.3 heeds only the deadline of ctx while it waits for
	// the server's answer, so the connection is closed under it.
	var stop func() bool
	d.NetDialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			stop = context.AfterFunc(ctx, func() { _ = c.Close() })
		}
		return c, err
	}
	ws, resp, err := d.DialContext(ctx, u.String(), nil)
	if stop != nil && !stop() && err == nil {
		_ = ws.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if resp != nil {
			return nil, fmt.Errorf("WebSocket handshake: server answered %s: %w", resp.Status, err)
		}
		return nil, err
	}
	return &wsConn{Conn: ws.NetConn(), ws: ws}, nil
}

// wsConn is the byte stream in a WebSocket's binary messages. Packets do not
// keep to message boundaries [MQTT-6.0.0-2].
type wsConn struct {
	net.Conn
	ws  *websocket.Conn
	msg io.Reader
}

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.msg == nil {
			kind, r, err := c.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("WebSocket message is not binary [MQTT-6.0.0-1]")
			}
			c.msg = r
		}
		n, err := c.msg.Read(p)
		if err == io.EOF {
			c.msg, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }
func (c *wsConn) SetReadDeadline(t time.Time) error  { return c.ws.SetReadDeadline(t) }
