package link

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// maxHandshake bounds the server's answer to the WebSocket handshake, in bytes.
const maxHandshake = 64 << 10

var errHandshakeTooLong = fmt.Errorf("WebSocket handshake: the answer is longer than %d bytes", maxHandshake)

// overWebSocket returns a WebSocket over c, which it closes on an error. u is the
// server; the TLS handshake, if any, is done.
func overWebSocket(ctx context.Context, c net.Conn, u *url.URL) (net.Conn, error) {
	limit := &io.LimitedReader{R: c, N: maxHandshake}
	opened := &readerConn{c, limit}
	given := func(context.Context, string, string) (net.Conn, error) { return opened, nil }
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}, NetDialContext: given, NetDialTLSContext: given}
	// While it waits for the server's answer, gorilla/websocket v1.5.3 obeys only the
	// deadline of ctx, so guard closes the connection.
	release := guard(ctx, c)
	ws, resp, err := d.DialContext(ctx, asWritten(u), nil)
	if ended := release(); ended != nil {
		return nil, ended
	}
	switch {
	case err == nil:
		opened.r = c
		return &wsConn{Conn: c, ws: ws}, nil
	case limit.N <= 0:
		err = errHandshakeTooLong
	case resp != nil:
		err = fmt.Errorf("WebSocket handshake: server answered %s: %w; check the path in its URL, often /mqtt", resp.Status, err)
	}
	_ = c.Close()
	return nil, err
}

// asWritten returns a URL without the default port that ParseServer added: a Host
// header has none (RFC 6455, section 4.1).
func asWritten(u *url.URL) string {
	if u.Scheme == "ws" && u.Port() == "80" || u.Scheme == "wss" && u.Port() == "443" {
		short := *u
		short.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
		return short.String()
	}
	return u.String()
}

// wsConn is the byte stream of a WebSocket's binary messages. Packets may cross
// message boundaries [MQTT-6.0.0-2].
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

// NetConn returns the connection below the WebSocket.
func (c *wsConn) NetConn() net.Conn                  { return c.Conn }
func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }
func (c *wsConn) SetReadDeadline(t time.Time) error  { return c.ws.SetReadDeadline(t) }
