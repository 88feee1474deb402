package fakebroker

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// keep is the maximum number of client packets that wait for the test. Above it, the client blocks.
const keep = 1 << 16

// Conn is the server's end of one connection. Only the goroutine of the test may call its methods.
type Conn struct {
	b      *Broker
	t      TB
	nc     net.Conn
	frames chan frame // closed at the end of the connection

	mu    sync.Mutex
	heard []byte
}

// frame is a packet, or the error that replaces it.
type frame struct {
	wire.Frame
	err error
}

// read splits the received bytes into packets until the connection ends.
func (c *Conn) read() {
	defer close(c.frames)
	for r := wire.NewReader(tee{c}, 0); ; {
		f, err := r.Next()
		if err != nil {
			if !ended(err) {
				c.put(frame{err: err})
			}
			return
		}
		raw := append([]byte(nil), f.Raw...)
		if !c.put(frame{Frame: wire.Frame{Header: f.Header, Raw: raw, Body: raw[len(raw)-len(f.Body):]}}) {
			return
		}
	}
}

func (c *Conn) put(f frame) bool {
	select {
	case c.frames <- f:
		return true
	case <-c.b.gone:
		return false
	}
}

// ended reports whether err is a normal end of a connection, from either side.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}

// tee records the bytes that are read.
type tee struct{ c *Conn }

func (t tee) Read(p []byte) (int, error) {
	n, err := t.c.nc.Read(p)
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.c.heard = append(t.c.heard, p[:n]...)
	return n, err
}

// Heard returns every byte that the client has sent on this connection so far, whether or not the
// test has expected it yet.
func (c *Conn) Heard() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.heard...)
}

// Send sends all packets in one segment. If the client closes the connection, Send does not fail,
// and the test should expect the end. If the client reads nothing for Timeout, Send fails the
// test.
func (c *Conn) Send(packets ...[]byte) {
	c.t.Helper()
	var all []byte
	for _, p := range packets {
		all = append(all, p...)
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.b.Timeout))
	if _, err := c.nc.Write(all); err != nil && !ended(err) && !errors.Is(err, syscall.EPIPE) {
		c.t.Fatalf("the client takes nothing: %v", err)
	}
}

// Trickle sends the packets one byte at a time, each in a separate segment.
func (c *Conn) Trickle(packets ...[]byte) {
	c.t.Helper()
	for _, p := range packets {
		for i := range p {
			c.Send(p[i : i+1])
		}
	}
}

// Garbage returns n meaningless bytes. The same seed gives the same bytes.
func Garbage(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 5))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Close closes the connection without sending a packet.
func (c *Conn) Close() { _ = c.nc.Close() }

// Connack sends a CONNACK without checking it.
func (c *Conn) Connack(ack control.Connack) {
	c.t.Helper()
	c.Send(control.AppendConnack(nil, &ack))
}

// Publish sends a PUBLISH without checking it.
func (c *Conn) Publish(m wire.Publish) {
	c.t.Helper()
	c.Send(wire.AppendPublish(nil, &m))
}

// Ack sends a PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *Conn) Ack(kind wire.Type, id uint16, reason byte) {
	c.t.Helper()
	c.Send(wire.AppendAck(nil, wire.Ack{Type: kind, PacketID: id, Reason: reason}))
}

// Suback sends a SUBACK with these reason codes.
func (c *Conn) Suback(id uint16, reasons ...byte) {
	c.t.Helper()
	c.Send(control.AppendSuback(nil, &control.Suback{PacketID: id, Reasons: reasons}))
}

// Unsuback sends an UNSUBACK with these reason codes.
func (c *Conn) Unsuback(id uint16, reasons ...byte) {
	c.t.Helper()
	c.Send(control.AppendUnsuback(nil, &control.Suback{PacketID: id, Reasons: reasons}))
}

// Pingresp sends a PINGRESP.
func (c *Conn) Pingresp() {
	c.t.Helper()
	c.Send(control.AppendPingresp(nil))
}

// Disconnect sends a DISCONNECT. The connection stays open until Close.
func (c *Conn) Disconnect(d control.Disconnect) {
	c.t.Helper()
	c.Send(control.AppendDisconnect(nil, &d))
}

// Auth sends an AUTH.
func (c *Conn) Auth(a control.Auth) {
	c.t.Helper()
	c.Send(control.AppendAuth(nil, &a))
}
