package link

import (
	"context"
	"crypto/tls"
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
		return nil, fmt.Errorf("server %q is not a URL: %w", raw, err)
	}
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
		if conf = conf.Clone(); conf == nil {
			conf = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if conf.ServerName == "" {
			conf.ServerName = u.Hostname()
		}
		return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", u.Host)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
}

func dialWebSocket(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
	d := websocket.Dialer{Proxy: http.ProxyFromEnvironment, Subprotocols: []string{"mqtt"}, TLSClientConfig: conf}
	ws, resp, err := d.DialContext(ctx, u.String(), nil)
	if err != nil {
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
