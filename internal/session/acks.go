package session

import (
	"context"
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// queued is an acknowledgement on its way out, or a unstored message that had to
// wait for the window.
type queued struct {
	g        *Generation
	ack      wire.Ack
	sync     bool      // the store must be in sync before it may leave
	unstored *unstored // sent in place of ack, under its Packet Identifier
	dup      bool      // unstored is sent again
	end      error     // in place of ack: the connection ends, for this reason
}

// ackQueue holds acknowledgements of the current generation in the order they
// must leave. What a server can cause that does not repeat itself is bounded by
// the identifiers there are, each way; Generation.flooded catches one that goes
// beyond. Its lock is the innermost of the package.
type ackQueue struct {
	mu     sync.Mutex
	items  []queued
	owed   bool // a sync, whether or not an acknowledgement waits for it
	signal chan struct{}
}

func (q *ackQueue) push(item queued) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	q.wake()
}

// owe asks for a sync.
func (q *ackQueue) owe() {
	q.mu.Lock()
	q.owed = true
	q.mu.Unlock()
	q.wake()
}

func (q *ackQueue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

func (q *ackQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// swap takes all that is queued; owed says that the store must be synced first.
func (q *ackQueue) swap(spare []queued) (items []queued, owed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	items, q.items = q.items, spare[:0]
	owed, q.owed = q.owed || owesSync(items), false
	return items, owed
}

// discard drops what a connection leaves behind. The exchanges go on from the
// store on the next one, where their syncs are owed again.
func (q *ackQueue) discard() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.items)
	q.items = q.items[:0]
}

func owesSync(items []queued) bool {
	return slices.ContainsFunc(items, func(q queued) bool { return q.sync })
}

// maxQueued is one acknowledgement for each identifier of both directions.
const maxQueued = 2 * 65_535

// flooded says that the server repeats packets faster than they can be
// answered.
func (g *Generation) flooded(t wire.Type) error {
	if g.s.acks.len() < maxQueued {
		return nil
	}
	return &wire.Error{Code: wire.ReasonMessageRateTooHigh, Packet: t,
		Detail: "it and others are repeated faster than they can be acknowledged"}
}

// RunAcks writes acknowledgements until ctx is done: it takes all that are
// queued, syncs the store once if any of them owes it (released before
// PUBREL, seen before PUBREC, cleared before PUBCOMP), and sends them
// together. What is queued when ctx ends is still synced and sent where the
// connection stands.
func (s *Session) RunAcks(ctx context.Context) {
	var batch []queued
	for {
		select {
		case <-s.acks.signal:
		case <-ctx.Done():
			s.sendAcks(s.acks.swap(batch))
			return
		}
		var owed bool
		batch, owed = s.acks.swap(batch)
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
			// Nothing that owes a sync may leave. The connection goes, so that
			// the exchange starts again once the store is well.
			if cur != nil {
				cur.w.Fail(err)
			}
			return
		}
	}
	if cur == nil || len(batch) == 0 {
		return
	}
	// A write error has closed the connection; the server will ask again.
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
