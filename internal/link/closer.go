package link

import (
	"net"
	"time"
)

// fastCloser is a layered connection, such as TLS or WebSocket, whose Close returns
// soon: a tls.Conn waits up to 5 seconds until its peer has taken the close_notify.
type fastCloser struct {
	net.Conn
	raw net.Conn // the transport below all layers
}

// closesFast returns c, or a connection over it whose Close returns soon.
func closesFast(c net.Conn) net.Conn {
	if _, ok := c.(layered); ok {
		return &fastCloser{Conn: c, raw: transport(c)}
	}
	return c
}

// Close closes the transport after closeTimeout.
func (c *fastCloser) Close() error {
	timer := time.AfterFunc(closeTimeout, func() { _ = c.raw.Close() })
	defer timer.Stop()
	return c.Conn.Close()
}

// layered is a connection over another, such as a *tls.Conn.
type layered interface{ NetConn() net.Conn }

// transport returns the connection below all layers of c that are known.
func transport(c net.Conn) net.Conn {
	for {
		outer, ok := c.(layered)
		if !ok {
			return c
		}
		c = outer.NetConn()
	}
}
