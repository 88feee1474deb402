package ackserver

import (
	"encoding/binary"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// connect answers CONNECT and records the client's Receive Maximum.
func (c *conn) connect(f wire.Frame) error {
	if f.Type() != wire.CONNECT {
		return fmt.Errorf("the first packet is %v, not CONNECT [MQTT-3.1.0-1]", f.Type())
	}
	name, rest, ok := wire.String(f.Body)
	if !ok || len(rest) < 4 || string(name) != "MQTT" || rest[0] != 5 {
		return fmt.Errorf("the client does not speak MQTT 5")
	}
	props, rest, err := wire.SplitProperties(wire.CONNECT, rest[4:])
	if err != nil {
		return err
	}
	clientID, _, ok := wire.String(rest)
	if !ok {
		return errShort
	}
	window := uint16(65535)
	for {
		p, ok := props.Next()
		if !ok {
			break
		}
		if p.ID == wire.PropReceiveMaximum {
			window = uint16(p.Int)
		}
	}
	c.window.open(window)

	var answer []byte
	if n := c.s.options.ReceiveMaximum; n != 0 {
		answer = wire.AppendProperty(answer, wire.Property{ID: wire.PropReceiveMaximum, Int: uint32(n)})
	}
	if len(clientID) == 0 { // [MQTT-3.1.3-7]
		id := fmt.Appendf(nil, "ackserver-%s", c.nc.RemoteAddr())
		answer = wire.AppendProperty(answer, wire.Property{ID: wire.PropAssignedClientID, Bytes: id})
	}
	body := wire.AppendVarint([]byte{0, wire.ReasonSuccess}, uint32(len(answer)))
	c.reply(wire.CONNACK, append(body, answer...))
	return nil
}

// subscribe grants every filter the requested QoS and lets a flood begin.
func (c *conn) subscribe(f wire.Frame) error {
	filters, body, err := c.filters(f)
	if err != nil {
		return err
	}
	var highest byte
	for len(filters) > 0 {
		_, rest, ok := wire.String(filters)
		if !ok || len(rest) == 0 || rest[0]&3 == 3 {
			return errShort
		}
		highest = max(highest, rest[0]&3)
		body = append(body, rest[0]&3)
		filters = rest[1:]
	}
	c.reply(wire.SUBACK, body)
	if err := c.flush(); err != nil { // SUBACK precedes the first message
		return err
	}
	c.s.subscribed(c, highest)
	return nil
}

func (c *conn) unsubscribe(f wire.Frame) error {
	filters, body, err := c.filters(f)
	if err != nil {
		return err
	}
	for len(filters) > 0 {
		_, rest, ok := wire.String(filters)
		if !ok {
			return errShort
		}
		body = append(body, wire.ReasonSuccess)
		filters = rest
	}
	c.reply(wire.UNSUBACK, body)
	return nil
}

// filters locates the filters of a SUBSCRIBE or UNSUBSCRIBE and begins the answer.
func (c *conn) filters(f wire.Frame) (filters, answer []byte, err error) {
	id, err := packetID(f, 0)
	if err != nil {
		return nil, nil, err
	}
	_, filters, err = wire.SplitProperties(f.Type(), f.Body[2:])
	return filters, append(binary.BigEndian.AppendUint16(nil, id), 0), err
}

func (c *conn) reply(t wire.Type, body []byte) {
	c.out = wire.AppendVarint(append(c.out, byte(t)<<4), uint32(len(body)))
	c.out = append(c.out, body...)
}
