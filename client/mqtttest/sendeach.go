package mqtttest

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// sendEach is like send, but processes packets one by one, for OnPacket and for faults.
func (c *conn) sendEach(buf, late []byte, last bool) bool {
	out, ok := c.emit(nil, late)
	for len(buf) > 0 && ok {
		packet := buf[:packetSize(buf)]
		buf = buf[len(packet):]
		f := c.b.replies.take(c.clientID, packet[0])
		switch {
		case f == nil:
			out, ok = c.emit(out, packet)
		case f.delay > 0 && (last || PacketType(packet[0]>>4) == CONNACK): // no packet may overtake it
			if ok = c.transmit(out); ok {
				c.pause(f.delay)
				out, ok = c.emit(out[:0], packet)
			}
		case f.delay > 0:
			c.later(packet, f.delay)
		default:
			packet, ok = c.change(f, packet)
			switch {
			case !ok || len(packet) == 0:
			case !f.raw:
				out, ok = c.emit(out, packet)
			case c.watch(ToClient, packet):
				out = append(out, packet...)
			default:
				ok = false
			}
		}
	}
	return c.transmit(out) && ok
}

// emit appends packets to out. It returns false if OnPacket has cut the connection before one of
// them.
func (c *conn) emit(out, packets []byte) (_ []byte, ok bool) {
	for len(packets) > 0 {
		n := packetSize(packets)
		if !c.watch(ToClient, packets[:n]) {
			return out, false
		}
		if c.v311 {
			out = downgrade(out, packets[:n])
		} else {
			out = append(out, packets[:n]...)
		}
		packets = packets[n:]
	}
	return out, true
}

// packetSize returns the size of the first packet in b.
func packetSize(b []byte) int {
	length, n := wire.Varint(b[1:])
	return 1 + n + int(length)
}

// later sends a packet after d, unless the connection has ended.
func (c *conn) later(packet []byte, d time.Duration) {
	b := c.b
	packet = append([]byte(nil), packet...)
	b.lock()
	defer b.unlock()
	b.at(time.Now().Add(d), func() {
		c.late = append(c.late, packet...)
		b.mark(c)
	})
}

// pause waits for d, or until the connection ends.
func (c *conn) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.hooks[ToClient].ctx.Done():
	}
}
