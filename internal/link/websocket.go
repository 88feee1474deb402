package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

const (
	// maxFrame is the maximum payload of a sent frame, in bytes. Many servers accept no larger
	// frames.
	maxFrame = 64 << 10
	// maxMessage is the maximum size of a received message, including all its frames. Messages are
	// read as a stream, so they take no memory.
	maxMessage = wire.MaxPacketSize
)

// wsConn is the byte stream of a WebSocket's binary messages. A received packet may span several
// messages [MQTT-6.0.0-2].
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
				return 0, readError(err)
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
			return n, readError(err)
		}
	}
}

func readError(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure { // CloseAbnormalClosure means a lost connection
		return fmt.Errorf("server closed the WebSocket with code %d%s", closed.Code, quoted(printable(closed.Text, 200)))
	}
	if errors.Is(err, websocket.ErrReadLimit) {
		return fmt.Errorf("WebSocket message is longer than %d bytes, the largest packet of MQTT", maxMessage)
	}
	return err
}

// Write sends packets in messages of one frame each. A frame contains as many complete packets as
// fit, or one packet. A larger packet is sent as one message of several frames.
func (c *wsConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		size := messageSize(p[n:])
		if err := c.ws.WriteMessage(websocket.BinaryMessage, p[n:n+size]); err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// messageSize returns the number of bytes of b that form the next message.
func messageSize(b []byte) (size int) {
	for size < len(b) {
		packet := len(b) - size // bytes that are not a complete packet are not divided
		if length, n := wire.Varint(b[size+1:]); n > 0 {
			packet = min(packet, 1+n+int(length))
		}
		if size > 0 && size+packet > maxFrame {
			break
		}
		size += packet
	}
	return size
}

// NetConn returns the connection below the WebSocket.
func (c *wsConn) NetConn() net.Conn                  { return c.Conn }
func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }
func (c *wsConn) SetReadDeadline(t time.Time) error  { return c.ws.SetReadDeadline(t) }
