package client

import (
	"fmt"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// inboundBudget bounds the bytes of received messages that are with us: in
// lanes, with handlers and held for order, whichever connection brought them.
// Only the reader takes, and there is one at a time; whoever is done with a
// message gives its bytes back. That costs an atomic addition each way and no
// lock.
//
// Where a QoS 1 or 2 message has no room the reader stalls. If that lasts for
// AckTimeout, perhaps because handlers wait for acknowledgements behind it, the
// connection ends, and then there is relief: until half of the budget is free,
// messages without room are left to the server, unacknowledged, and what is
// behind them is read. Then that connection ends, and they come again. Drain and
// Close leave messages in the same way, for the next client.
type inboundBudget struct {
	limit   int64
	used    atomic.Int64
	stalls  atomic.Uint64
	watched atomic.Bool   // somebody wants to know when bytes are given back
	room    chan struct{} // they were
	ending  atomic.Bool   // Drain or Close has begun
	relief  atomic.Bool

	// left is the connection on which a message was left. All that come behind it
	// are left too, for the order.
	left atomic.Pointer[link.Conn]
}

func (b *inboundBudget) init(limit, packet int64) {
	b.limit = max(limit, packet)
	b.room = make(chan struct{}, 1)
}

// take takes so many bytes, if they have room. A message by itself always has.
func (b *inboundBudget) take(size int64) bool {
	if n := b.used.Add(size); n <= b.limit || n == size {
		return true
	}
	b.used.Add(-size)
	return false
}

// arrivalBytes is what a message takes in memory beside what it carries.
const arrivalBytes = 320

// userBytes is what a user property does.
const userBytes = 32

// footprint is about what a message will take in memory.
func footprint(topic string, v wire.PublishView) int64 {
	size := arrivalBytes + len(topic) + len(v.Payload) + len(v.Properties)
	for props := v.Properties; ; {
		p, ok := props.Next()
		if !ok {
			return int64(size)
		}
		switch p.ID {
		case wire.PropUser:
			size += userBytes
		case wire.PropCorrelationData:
			size += len(p.Bytes)
		case wire.PropSubscriptionID:
			size += 8
		}
	}
}

// hasRoom takes room for a message, or waits for it. If it returns false, the
// message was dropped, or left to the server.
func (c *Client) hasRoom(in *session.Inbound, size int64) bool {
	b := &c.inbound
	switch {
	case in == nil:
		if b.take(size) {
			return true
		}
		c.counters.received.Add(1)
		c.counters.dropped.Add(1)
		return false
	case b.left.Load() == nil && b.take(size):
		return true
	}
	conn := c.session.WriterOf(in).(*link.Conn)
	if b.left.Load() == conn {
		c.session.Leave(in)
		return false
	}
	b.left.Store(nil) // that was another connection
	return c.stall(conn, in, size)
}

// stall waits for room for a QoS 1 or 2 message.
func (c *Client) stall(conn *link.Conn, in *session.Inbound, size int64) bool {
	b := &c.inbound
	taken := false
	ready := func() bool {
		b.watched.Store(true) // before looking, so that no room is missed
		taken = b.take(size)
		return taken || b.ending.Load() || b.relief.Load()
	}
	end := link.StallReady
	if !ready() {
		b.stalls.Add(1)
		c.cfg.Logger.Warn("reading stalls: received messages take all of MaxInboundBytes", "bytes", b.used.Load())
		end = conn.Stall(c.cfg.Connection.AckTimeout, b.room, ready)
	}
	b.watched.Store(b.relief.Load())
	if taken {
		return true
	}
	c.session.Leave(in)
	b.left.Store(conn)
	switch {
	case end == link.StallTooLong:
		b.relief.Store(true)
		b.watched.Store(true)
		conn.Fail(&link.CloseError{Reason: wire.ReasonQuotaExceeded, Err: c.inboundFull(true)})
	case end == link.StallReady && !b.relief.Load() && !b.ending.Load():
		c.fetchLeft() // the relief ended in this moment, and did not see left
	}
	return false
}

// free gives back the bytes of a message that is done with.
func (c *Client) free(a arrival) {
	b := &c.inbound
	b.used.Add(-a.size)
	if !b.watched.Load() {
		return
	}
	select {
	case b.room <- struct{}{}:
	default:
	}
	if b.relief.Load() && b.used.Load() <= b.limit/2 && b.relief.CompareAndSwap(true, false) {
		c.fetchLeft() // watched stays: a reader may have begun to wait in this moment
	}
}

// fetchLeft ends the connection on which messages were left, so that they come
// again.
func (c *Client) fetchLeft() {
	if conn := c.inbound.left.Load(); conn != nil {
		c.session.EndBehindAcks(conn, &link.CloseError{Reason: wire.ReasonQuotaExceeded, Err: c.inboundFull(false)})
	}
}

// leaveRest ends a stall, and allows no other: what has no room is left to the
// server.
func (c *Client) leaveRest() {
	c.inbound.ending.Store(true)
	select {
	case c.inbound.room <- struct{}{}:
	default:
	}
}

// InboundFullError says that a connection was ended because received messages
// took all of Config.Receiving.MaxBufferedBytes. What handlers have is still handled, and
// what was not taken comes again.
type InboundFullError struct {
	Limit int64 // of bytes
	// Stalled: no handler had finished enough for Config.Connection.AckTimeout. Otherwise there
	// is room again, and the new connection fetches what was not taken.
	Stalled bool
}

func (c *Client) inboundFull(stalled bool) error {
	return &InboundFullError{Limit: c.inbound.limit, Stalled: stalled}
}

func (e *InboundFullError) Error() string {
	if !e.Stalled {
		return "client: there is room for received messages again; connecting anew for those that had none"
	}
	return fmt.Sprintf("client: received messages take %d bytes, as many as may be, and handlers have not finished enough for the acknowledgement timeout; make handlers faster, or raise Config.Receiving.MaxBufferedBytes", e.Limit)
}

// ReasonCode is the code of the DISCONNECT, for reliability.Classify.
func (e *InboundFullError) ReasonCode() byte { return wire.ReasonQuotaExceeded }
