package session

import (
	"context"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// queued is an acknowledgement that waits to be sent, or an unstored message that has
// waited for the window.
type queued struct {
	g        *Generation
	ack      wire.Ack
	sync     bool      // the store must be in sync before it may leave
	unstored *unstored // sent in place of ack, under its Packet Identifier
	dup      bool      // unstored is sent again
	end      error     // in place of ack: the connection ends, for this reason
}

// ackQueue holds the acknowledgements of the current generation in the order in which
// they must leave. A server that does not repeat packets can queue no more than there
// are identifiers in both directions; Generation.floodedLocked detects one that does.
type ackQueue struct {
	ready notify.Signal // there are items, or a sync is owed
	items []queued
	owed  bool // a sync, whether or not an acknowledgement waits for it
}

func (q *ackQueue) push(item queued) {
	q.items = append(q.items, item)
	q.owed = q.owed || item.sync
	q.ready.Set()
}

// takeAcks takes all that is queued; owed says that the store must be synced first.
func (s *Session) takeAcks(spare []queued) (items []queued, owed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items, s.acks.items = s.acks.items, spare[:0]
	owed, s.acks.owed = s.acks.owed, false
	return items, owed
}

// maxQueued is one acknowledgement for each identifier of both directions.
const maxQueued = 2 * 65_535

// floodedLocked returns an error if the server repeats packets faster than they can be
// acknowledged.
func (g *Generation) floodedLocked(t wire.Type) error {
	if len(g.s.acks.items) < maxQueued {
		return nil
	}
	return &wire.Error{Code: wire.ReasonMessageRateTooHigh, Packet: t,
		Detail: "it and others are repeated faster than they can be acknowledged"}
}

// EndAfterAcks ends a connection for a reason, after the queued acknowledgements have
// left. Their messages would be redelivered otherwise.
func (s *Session) EndAfterAcks(w Writer, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur != nil && s.cur.w == w {
		s.acks.push(queued{g: s.cur, end: reason})
	}
}

// RunAcks sends acknowledgements until ctx ends. It takes all that are queued, syncs
// the store once if one of them needs it (released before PUBREL, seen before PUBREC,
// cleared before PUBCOMP), and sends them together. It does so a last time when ctx
// has ended.
func (s *Session) RunAcks(ctx context.Context) {
	var batch []queued
	for {
		select {
		case <-s.acks.ready:
		case <-ctx.Done():
			s.sendAcks(s.takeAcks(batch))
			return
		}
		var owed bool
		batch, owed = s.takeAcks(batch)
		s.sendAcks(batch, owed)
		clear(batch)
	}
}

func (s *Session) sendAcks(batch []queued, owed bool) {
	if len(batch) == 0 && !owed {
		return
	}
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	if owed {
		if err := s.cfg.Store.Sync(); err != nil {
			// Nothing may leave before the sync. The connection ends, so that the
			// exchange starts again when the store works again.
			if cur != nil {
				cur.w.Fail(err)
			}
			return
		}
	}
	if cur == nil || len(batch) == 0 {
		return
	}
	// A write error has closed the connection, and the server will redeliver.
	_ = cur.w.Send(func(dst []byte) []byte {
		for _, q := range batch {
			switch {
			case q.g != cur || q.end != nil:
			case q.unstored != nil:
				dst = wire.AppendImage(dst, q.unstored.image, q.ack.PacketID, q.dup, 0)
			default:
				dst = wire.AppendAck(dst, q.ack)
			}
		}
		return dst
	})
	for _, q := range batch {
		if q.g == cur && q.end != nil {
			cur.w.Fail(q.end)
		}
	}
}
