package session

import (
	"context"
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// queued is an acknowledgement on its way out. Without a generation it is only
// the wish for a sync.
type queued struct {
	g    *Generation
	ack  wire.Ack
	sync bool // the store must be in sync before it may leave
}

// ackQueue holds acknowledgements in the order they must leave. It is bounded
// by what may be in flight: our Receive Maximum one way, the server's the
// other. Guarded by Session.mu.
type ackQueue struct {
	mu     sync.Mutex
	items  []queued
	signal chan struct{}
}

func (q *ackQueue) push(item queued) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

func (q *ackQueue) swap(spare []queued) []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = spare[:0]
	return items
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
		batch = s.acks.swap(batch)
		s.sendAcks(batch)
		clear(batch)
	}
}

func (s *Session) sendAcks(batch []queued) {
	if len(batch) == 0 {
		return
	}
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	synced := slices.ContainsFunc(batch, func(q queued) bool { return q.sync })
	if synced {
		if err := s.cfg.Store.Sync(); err != nil {
			// Nothing that owes a sync may leave. The connection goes, so that
			// the exchange starts again once the store is well.
			if cur != nil {
				cur.w.Fail(err)
			}
			return
		}
	}
	sent := uint64(0)
	if cur != nil {
		// A write error has closed the connection; the server will ask again.
		_ = cur.w.Send(func(dst []byte) []byte {
			for _, q := range batch {
				if q.g == cur {
					dst = wire.AppendAck(dst, q.ack)
					sent++
				}
			}
			return dst
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.AcksSent += sent
	if synced {
		s.stats.AckSyncs++
	}
}
