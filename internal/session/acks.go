package session

import (
	"context"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ackQueue is what RunAcks sends on the current connection, in this order. If the server does
// not repeat packets, there are no more of them than identifiers in both directions.
type ackQueue struct {
	packets []byte
	count   int   // of packets
	owed    bool  // the store must be synced first, even if there are no packets
	end     error // the connection ends after the packets, for this reason
	outage  bool  // the packets wait for the store
}

// AwaitsStore reports whether this client, not the server, is why exchanges do not go on: the store cannot be
// synced now.
func (g *Generation) AwaitsStore() bool {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.s.acks.outage
}

// maxQueued is one acknowledgement for each identifier of both directions.
const maxQueued = 2 * 65_535

// maxReasons is how many bytes of acknowledgements may wait before reason strings are left out.
const maxReasons = 1 << 20

// queueLocked queues an acknowledgement; sync: the store must be synced before it leaves.
func (s *Session) queueLocked(a wire.Ack, sync bool) {
	s.acks.packets = wire.AppendAck(s.acks.packets, a)
	s.acks.count++
	s.acks.owed = s.acks.owed || sync
	s.ready.Set()
}

// floodedLocked returns an error if the server repeats packets too fast to acknowledge them.
func (s *Session) floodedLocked(t wire.Type) error {
	if s.acks.count < maxQueued {
		return nil
	}
	return refuse(t, wire.ReasonMessageRateTooHigh, "it and others are repeated faster than they can be acknowledged")
}

// EndAfterAcks ends a connection after the queued acknowledgements have left, for a reason.
func (s *Session) EndAfterAcks(w Writer, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil && s.cur.w == w {
		s.acks.end = reason
		s.ready.Set()
	}
}

// RunAcks sends acknowledgements until ctx ends, and a last time then. It takes all that
// are queued, syncs the store once if one of them needs it (released before PUBREL, seen
// before PUBREC, cleared before PUBCOMP), and sends them together.
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

// outageRetry is how long acknowledgements that need a sync wait during an outage of the store.
const outageRetry = 100 * time.Millisecond

// sendAcks sends what is queued. It returns the buffer for the next call. wait: the store cannot be
// synced now, and some acknowledgements wait for that.
func (s *Session) sendAcks(spare []byte) (_ []byte, wait bool) {
	s.mu.Lock()
	cur, batch := s.cur, s.acks
	s.acks = ackQueue{packets: spare[:0]}
	s.mu.Unlock()
	if batch.owed {
		err := s.cfg.Store.Sync()
		switch {
		case err == nil:
		case s.cfg.Outage != nil && s.cfg.Outage(err):
			batch.packets, wait = s.putBack(cur, batch), true
		default:
			batch.packets, batch.end = nil, err // the exchanges start again when the store works again
		}
	}
	if cur != nil {
		_ = cur.send(batch.packets) // after an error the server redelivers
		if batch.end != nil {
			cur.w.Fail(batch.end)
		}
	}
	if cap(batch.packets) > maxSpare {
		return nil, wait
	}
	return batch.packets, wait
}

// putBack puts the acknowledgements that need a sync back to the front of the queue. It returns the
// PUBACKs: the order of acknowledgements is that of each type [MQTT-4.6.0-2] [MQTT-4.6.0-3].
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
	s.acks.owed, s.acks.outage = true, true
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
