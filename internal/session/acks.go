package session

import (
	"context"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ackQueue holds the acknowledgements that RunAcks sends on the current connection, in this order.
// If the server does not repeat packets, there are at most as many as packet identifiers in both
// directions.
type ackQueue struct {
	packets   []byte
	count     int   // number of packets
	needsSync bool  // the store must be synced first, even if there are no packets
	end       error // if set, the connection ends after the packets, for this reason
	outage    bool  // the packets wait for the store
}

// AwaitsStore reports whether exchanges wait for this client, not for the server, because the store
// cannot be synced now.
func (g *Generation) AwaitsStore() bool {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.s.acks.outage
}

// maxQueued is the maximum number of queued acknowledgements: one for each identifier in both
// directions.
const maxQueued = 2 * 65_535

// maxReasons is the size of the queue, in bytes, above which acknowledgements are queued without
// reason strings.
const maxReasons = 1 << 20

// queueLocked queues an acknowledgement. sync means that the store must be synced before it is
// sent.
func (s *Session) queueLocked(a wire.Ack, sync bool) {
	s.acks.packets = wire.AppendAck(s.acks.packets, a)
	s.acks.count++
	s.acks.needsSync = s.acks.needsSync || sync
	s.ready.Set()
}

// floodedLocked returns an error if the server repeats packets too fast to acknowledge them.
func (s *Session) floodedLocked(t wire.Type) error {
	if s.acks.count < maxQueued {
		return nil
	}
	return refuse(t, wire.ReasonMessageRateTooHigh, "it and others are repeated faster than they can be acknowledged")
}

// EndAfterAcks ends a connection for the given reason, after the queued acknowledgements have been
// sent.
func (s *Session) EndAfterAcks(w Writer, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil && s.cur.w == w {
		s.acks.end = reason
		s.ready.Set()
	}
}

// RunAcks sends acknowledgements until ctx ends, and once more after that. It takes all queued
// acknowledgements, syncs the store once if one of them requires it, and sends them together. These
// require it: PUBREL (the release was recorded), PUBREC (the message was recorded as seen) and
// PUBCOMP (that record was cleared).
func (s *Session) RunAcks(ctx context.Context) {
	var spare []byte
	var again <-chan time.Time
	for ended := false; !ended; {
		select {
		case <-s.ready:
		case <-again:
		case <-ctx.Done():
			ended = true
		}
		wait := false
		if spare, wait = s.sendAcks(spare); wait {
			again = time.After(outageRetry)
		}
	}
}

// outageRetry is the interval of attempts to send acknowledgements that need a sync during an
// outage of the store.
const outageRetry = 100 * time.Millisecond

// sendAcks sends the queued acknowledgements. It returns the buffer for the next call. wait means
// that the store cannot be synced now, and that some acknowledgements wait for it.
func (s *Session) sendAcks(spare []byte) (_ []byte, wait bool) {
	s.mu.Lock()
	cur, batch := s.cur, s.acks
	s.acks = ackQueue{packets: spare[:0]}
	s.mu.Unlock()
	if batch.needsSync {
		err := s.cfg.Store.Sync()
		switch {
		case err == nil:
		case s.cfg.Outage != nil && s.cfg.Outage(err):
			batch.packets, wait = s.putBack(cur, batch), true
		default:
			batch.packets, batch.end = nil, err // the exchanges continue when the store works again
		}
	}
	if cur != nil {
		_ = cur.send(batch.packets) // after an error the server redelivers the messages
		if batch.end != nil {
			cur.w.Fail(batch.end)
		}
	}
	if cap(batch.packets) > maxSpare {
		return nil, wait
	}
	return batch.packets, wait
}

// putBack returns the acknowledgements that need a sync to the front of the queue. It returns the
// PUBACKs, which need no sync. That is allowed because each type of acknowledgement has its own
// order [MQTT-4.6.0-2] [MQTT-4.6.0-3].
func (s *Session) putBack(cur *Generation, batch ackQueue) (pubacks []byte) {
	var later ackQueue
	for rest := batch.packets; len(rest) > 0; {
		length, n := wire.Varint(rest[1:])
		packet := rest[:1+n+int(length)]
		rest = rest[len(packet):]
		if wire.Type(packet[0]>>4) == wire.PUBACK {
			pubacks = append(pubacks, packet...)
		} else {
			later.packets = append(later.packets, packet...)
			later.count++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks.needsSync, s.acks.outage = true, true
	if s.cur == cur {
		s.acks.packets = append(later.packets, s.acks.packets...)
		s.acks.count += later.count
	}
	return pubacks
}

// send sends encoded packets, if there are any.
func (g *Generation) send(packets []byte) error {
	if len(packets) == 0 {
		return nil
	}
	return g.w.Send(func(dst []byte) []byte { return append(dst, packets...) })
}
