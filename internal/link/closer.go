package link

import (
	"net"
	"time"
)

// fastCloser wraps a connection, such as TLS or WebSocket, so that Close returns within
// closeTimeout. Close of a tls.Conn alone can wait 5 seconds until the peer has received
// close_notify.
type fastCloser struct{ net.Conn }

func (c fastCloser) Close() error {
	timer := time.AfterFunc(closeTimeout, func() { _ = transport(c.Conn).Close() })
	defer timer.Stop()
	return c.Conn.Close()
}

// layered is a connection on top of another one, such as a *tls.Conn.
type layered interface{ NetConn() net.Conn }

// transport returns the connection below all known layers of c.
func transport(c net.Conn) net.Conn {
	for {
		outer, ok := c.(layered)
		if !ok {
			return c
		}
		c = outer.NetConn()
	}
}
