package link

import (
	"net"
	"time"
)

// prompt is a connection over another, as TLS or WebSocket, whose Close does not
// wait: a tls.Conn gives its peer 5 seconds to take a last word.
type prompt struct {
	net.Conn
	raw net.Conn // what all of it goes over
}

// promptly makes a connection one whose Close returns soon.
func promptly(c net.Conn) net.Conn {
	if _, ok := c.(over); ok {
		return &prompt{Conn: c, raw: transport(c)}
	}
	return c
}

// Close leaves the peer as long for that word as for a DISCONNECT.
func (c *prompt) Close() error {
	timer := time.AfterFunc(goodbye, func() { _ = c.raw.Close() })
	defer timer.Stop()
	return c.Conn.Close()
}

// over is a connection that goes over another, as a *tls.Conn is.
type over interface{ NetConn() net.Conn }

// transport is the connection that c goes over, as far as that can be told.
func transport(c net.Conn) net.Conn {
	for {
		outer, ok := c.(over)
		if !ok {
			return c
		}
		c = outer.NetConn()
	}
}
