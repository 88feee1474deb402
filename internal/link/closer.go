package link

import (
	"net"
	"time"
)

// fastCloser is a connection, such as TLS or WebSocket, whose Close returns after
// closeTimeout: a tls.Conn waits up to 5 seconds until its peer has taken close_notify.
type fastCloser struct{ net.Conn }

func (c fastCloser) Close() error {
	timer := time.AfterFunc(closeTimeout, func() { _ = transport(c.Conn).Close() })
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
