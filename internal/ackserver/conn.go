package ackserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// flushAt is the number of collected bytes at which a connection writes.
const flushAt = 64 << 10

// conn is one client. One goroutine reads packets and writes the answers. A flood has a separate
// goroutine. Both write complete packets in single calls, which net.Conn serializes.
type conn struct {
	s   *Server
	nc  net.Conn
	out []byte // answers that are not written yet

	received int64 // PUBLISH packets that are not counted yet
	acks     []ack // acknowledgements that are not passed to the window yet
	window   window

	granted *byte // highest subscribed QoS; nil: none; guarded by Server.mu
}

var errDisconnect = errors.New("the client sent DISCONNECT")

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, out: make([]byte, 0, flushAt), acks: make([]ack, 0, 4096)}
	c.window.init()
	return c
}

func (c *conn) serve() {
	defer c.s.forget(c)
	err := c.loop()
	_ = c.flush() // answers to the packets before the error
	_ = c.nc.Close()
	c.window.close(fmt.Errorf("ackserver: the connection ended: %w", err))
}

func (c *conn) loop() error {
	r := wire.NewReader(c, 0)
	frame, err := r.Next()
	if err != nil {
		return err
	}
	if err := c.connect(frame); err != nil {
		return err
	}
	for {
		frame, err := r.Next()
		if err != nil {
			return err
		}
		if err := c.handle(frame); err != nil {
			return err
		}
		if len(c.out) > flushAt-1024 || len(c.acks) == cap(c.acks) {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
}

// Read is called by the frame reader when it has no complete packet left. Before waiting, it sends
// the collected answers.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.nc.Read(b)
}

// flush updates the counters, then the window, and then writes. So everything that the client has
// seen acknowledged is counted.
func (c *conn) flush() error {
	if c.received > 0 {
		c.s.received.Add(c.received)
		c.received = 0
	}
	if len(c.acks) > 0 {
		var err error
		c.out, err = c.window.apply(c.out, c.acks)
		c.acks = c.acks[:0]
		if err != nil {
			return err
		}
	}
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// handle answers one packet. It decodes frequent packets by hand, because only their packet
// identifiers are needed.
func (c *conn) handle(f wire.Frame) error {
	switch t := f.Type(); t {
	case wire.PUBLISH:
		return c.publish(f)
	case wire.PUBREL:
		id, err := packetID(f, 0)
		if err == nil {
			c.out = wire.AppendAck(c.out, wire.Ack{Type: wire.PUBCOMP, PacketID: id})
		}
		return err
	case wire.PUBACK, wire.PUBREC, wire.PUBCOMP:
		id, err := packetID(f, 0)
		a := ack{kind: t, id: id}
		if len(f.Body) > 2 {
			a.reason = f.Body[2]
		}
		c.acks = append(c.acks, a)
		return err
	case wire.SUBSCRIBE:
		return c.subscribe(f)
	case wire.UNSUBSCRIBE:
		return c.unsubscribe(f)
	case wire.PINGREQ:
		c.out = append(c.out, byte(wire.PINGRESP)<<4, 0)
		return nil
	case wire.DISCONNECT:
		return errDisconnect
	default:
		return fmt.Errorf("a client does not send %v here", t)
	}
}

func (c *conn) publish(f wire.Frame) error {
	c.received++
	qos := f.Header >> 1 & 3
	if qos == 0 {
		return nil
	}
	if len(f.Body) < 2 {
		return errShort
	}
	id, err := packetID(f, 2+int(binary.BigEndian.Uint16(f.Body)))
	if err != nil {
		return err
	}
	answer := wire.Ack{Type: wire.PUBACK, PacketID: id}
	if qos == 2 {
		answer.Type = wire.PUBREC
	}
	c.out = wire.AppendAck(c.out, answer)
	return nil
}

var errShort = errors.New("a packet is too short for its fields")

// packetID returns the identifier at offset at of the body.
func packetID(f wire.Frame, at int) (uint16, error) {
	if len(f.Body) < at+2 {
		return 0, errShort
	}
	id := binary.BigEndian.Uint16(f.Body[at:])
	if id == 0 {
		return 0, fmt.Errorf("%v has Packet Identifier 0 [MQTT-2.2.1-3]", f.Type())
	}
	return id, nil
}
