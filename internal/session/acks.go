package session

import (
	"context"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ackQueue is what RunAcks sends on the current connection, in this order. If the server does
// not repeat packets, there are no more of them than identifiers in both directions.
type ackQueue struct {
	packets []byte
	count   int   // of packets
	owed    bool  // the store must be synced first, even if there are no packets
	end     error // the connection ends after the packets, for this reason
}

// maxQueued is one acknowledgement for each identifier of both directions.
const maxQueued = 2 * 65_535

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
	for ended := false; !ended; {
		select {
		case <-s.ready:
		case <-ctx.Done():
			ended = true
		}
		spare = s.sendAcks(spare)
	}
}

// sendAcks sends what is queued. It returns the buffer for the next call.
func (s *Session) sendAcks(spare []byte) []byte {
	s.mu.Lock()
	cur, batch := s.cur, s.acks
	s.acks = ackQueue{packets: spare[:0]}
	s.mu.Unlock()
	if batch.owed {
		if err := s.cfg.Store.Sync(); err != nil {
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
		return nil
	}
	return batch.packets
}

// send sends encoded packets, if there are any.
func (g *Generation) send(packets []byte) error {
	if len(packets) == 0 {
		return nil
	}
	return g.w.Send(func(dst []byte) []byte { return append(dst, packets...) })
}
