package mqtttest

import (
	"errors"
	"os"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// write sends the bytes in out and the messages of the session's queue, in as few writes as
// possible. When the connection ends, write closes it.
func (c *conn) write() {
	var spare []byte
	for {
		buf, late, last := c.take(spare)
		if len(buf)+len(late) > 0 && !c.send(buf, late, last) {
			break
		}
		if last {
			break
		}
		if len(buf)+len(late) == 0 {
			<-c.wakeup
		}
		if spare = buf; cap(spare) > 2*outLimit {
			spare = nil // do not keep the memory of a burst
		}
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil {
		c.draining.Store(true)
		_ = c.nc.SetReadDeadline(time.Now().Add(linger)) // Read returns the error
		close(c.writerDone)
		<-c.readerDone
		_ = c.nc.Close() // no data can be lost
	} else {
		close(c.writerDone)
		_ = c.nc.Close() // no data can be lost
		<-c.readerDone
	}
	c.hooks[ToServer].cancel()
	c.hooks[ToClient].cancel()
	b := c.b
	b.lock()
	delete(b.conns, c)
	b.unlock()
}

// take returns the bytes to write next, and the delayed packets that are due. last is true if no
// bytes follow.
func (c *conn) take(spare []byte) (buf, late []byte, last bool) {
	b := c.b
	b.lock()
	defer b.unlock()
	if c.session != nil && !c.closing {
		c.pump()
	}
	buf, c.out = c.out, spare[:0]
	late, c.late = c.late, nil
	c.unsaid = 0
	signal(c.room)
	return buf, late, c.closing
}

// send writes late and buf. It flushes the journal first, so that the record of each
// acknowledgement and message is written before the packet is sent.
func (c *conn) send(buf, late []byte, last bool) bool {
	b := c.b
	if err := b.log.flush(); err != nil {
		b.opts.Logger.Error("connection cut: the journal cannot be written", "error", err)
		_ = c.raw.Close() // the connection ends in any case
		return false
	}
	if b.opts.OnPacket != nil || len(late) > 0 || b.replies.armed.Load() {
		return c.sendEach(buf, late, last)
	}
	if c.v311 {
		buf = downgrade(nil, buf)
	}
	return c.transmit(buf)
}

// transmit writes bytes to the connection.
func (c *conn) transmit(buf []byte) bool {
	for len(buf) > 0 {
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.b.opts.WriteTimeout)) // Write returns the error
		n, err := c.nc.Write(buf)
		buf = buf[n:]
		// A client that reads slowly is not stalled, so continue. TLS and WebSocket cannot continue
		// after a timeout.
		slow := n > 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.nc == c.raw
		if err != nil && !slow {
			_ = c.raw.Close() // the connection ends in any case
			return false
		}
	}
	return true
}

// pump appends messages to out. It first appends the messages to resend, in their order
// [MQTT-4.4.0-1]. It then appends new messages, up to the client's Receive Maximum [MQTT-3.3.4-9].
func (c *conn) pump() {
	s, w := c.session, &c.session.flights
	for f := w.resend; f != nil && len(c.out) < outFill; f = w.resend {
		if !f.released && w.open >= c.receiveMax {
			return
		}
		if !f.released && !c.publish(&f.entry, f.id, true) {
			c.b.stats.DroppedTooLarge++
			s.complete(f)
			continue
		}
		if f.released {
			c.out = wire.AppendAck(c.out, wire.Ack{Type: wire.PUBREL, PacketID: f.id})
		}
		w.resend = f.next
		f.sentOn = c
		w.open++
		c.b.stats.Resent++
	}
	for s.queue.n > 0 && len(c.out) < outFill {
		e := s.queue.at(0)
		switch {
		case e.msg.expired():
			s.dropHead(&c.b.stats.DroppedExpired)
			continue
		case e.qos > 0 && (w.open >= c.receiveMax || w.full()):
			return
		}
		var id uint16
		if e.qos > 0 {
			id = w.nextID()
		}
		if !c.publish(e, id, false) {
			s.dropHead(&c.b.stats.DroppedTooLarge)
			continue
		}
		c.b.stats.MessagesOut++
		if e.qos == 0 {
			s.queue.pop()
			continue
		}
		if s.durable(e) {
			c.b.log.sent(s, id)
		}
		w.add(&flight{entry: s.queue.pop(), id: id, sentOn: c})
		w.open++
	}
}

// publish appends a PUBLISH, unless it exceeds the client's Maximum Packet Size [MQTT-3.1.2-24].
func (c *conn) publish(e *entry, id uint16, dup bool) bool {
	p := e.packet(id, dup)
	if p.Size() > int(c.maxPacket) {
		return false
	}
	c.out = wire.AppendPublish(c.out, &p)
	return true
}
