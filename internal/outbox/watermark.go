package outbox

import (
	"errors"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// watermarks is how far the messages of each priority may have been sent in the
// present session. Only the send loop uses them.
type watermarks [persistence.Priorities]watermark

// watermark counts by Entry.Number.
type watermark struct {
	identifiers uint64 // packet identifiers are free up to here, durably
	persisted   uint64 // the store has recorded durably that messages up to here may have been sent
	sent        uint64 // this process has sent messages up to here
	earlier     uint64 // an earlier process may have sent its messages up to here
	earlierSeq  uint64 // the last message that an earlier process accepted, by sequence
	step        uint64 // messages that the next raise covers; 0: as many as the window has room for
	count       uint64 // messages sent on this connection
	volatile    bool   // persisted is not durable yet: the store has an outage
}

const (
	// firstStep and maxStep bound the messages that one raise covers: the first of
	// a connection, and each later one.
	firstStep, maxStep = 64, 4096
	// maxAhead bounds the messages not accepted yet that a raise covers.
	maxAhead = 1024
)

// newWatermarks returns the watermarks of what earlier processes have sent.
func newWatermarks(store Store) (w watermarks) {
	for p := range w {
		w[p] = watermark{
			identifiers: session.Lap(uint8(p)),
			earlier:     store.Sent(persistence.Priority(p)),
			earlierSeq:  store.LastSeq(),
		}
	}
	return w
}

// begin adapts to a new connection. A lost session has reset the store's watermark,
// and with it what was sent.
func (w *watermarks) begin(store Store, present bool) {
	for p := range w {
		m := &w[p]
		m.persisted, m.step, m.count = store.Sent(persistence.Priority(p)), 0, 0
		if m.earlier, m.sent = min(m.earlier, m.persisted), min(m.sent, m.persisted); !present {
			m.earlier, m.sent = 0, 0
		}
	}
}

// sentEarlier reports whether an earlier process may have sent e in this session.
func (w *watermarks) sentEarlier(e *persistence.Entry) bool {
	m := &w[e.Priority]
	return e.Number <= m.earlier && e.Seq <= m.earlierSeq
}

// maybeSent reports whether e may have been sent in this session.
func (w *watermarks) maybeSent(e *persistence.Entry) bool {
	return e.Number <= w[e.Priority].sent || w.sentEarlier(e)
}

// raise makes it durable that e may have been sent, before it is. It costs a commit, so one raise
// covers several messages: twice as many each time on a connection. If the store drops no messages,
// it also covers some that are not accepted yet, an eighth of what was sent on the connection:
// otherwise a publisher that waits for each acknowledgement would wait for two commits per message.
// free is the room in the window. Until raise returns, e may be dropped.
func (w *watermark) raise(store Store, e *persistence.Entry, free int, storeDrops bool) error {
	if w.step == 0 {
		w.step = uint64(min(free, firstStep))
	}
	last := max(lastNumber(store, e.Priority), e.Number)
	if !storeDrops {
		last += min(w.count/8, maxAhead)
	}
	number := min(e.Number+w.step-1, last)
	err := store.SetSent(e.Priority, number)
	if w.volatile = errors.Is(err, persistence.ErrDegraded); err != nil && !w.volatile {
		return err
	}
	w.persisted, w.step = number, min(2*w.step, maxStep)
	return err
}

// lastNumber returns the Number of the last message of a priority, or less if
// messages between the first and the last have ended.
func lastNumber(store Store, p persistence.Priority) uint64 {
	if p == persistence.Normal {
		return store.LastSeq() // their Number is their sequence
	}
	st := store.Stats()
	return max(store.First(p)+st.PendingOf[p]-st.DeferredOf[p], 1) - 1
}

// advance notes that e is sent.
func (w *watermark) advance(e *persistence.Entry) {
	w.sent = max(w.sent, e.Number)
	w.count++
}

// identifierFree reports whether the packet identifier of e is free. Its last user
// is one lap earlier in the same priority; that it has ended must be durable before
// the identifier is reused. So the store is synced once per lap.
func (w *watermark) identifierFree(store Store, e *persistence.Entry) (bool, error) {
	if e.Number <= w.identifiers {
		return true, nil
	}
	free := max(store.First(e.Priority), 1) - 1 + session.Lap(uint8(e.Priority))
	if e.Number > free {
		return false, nil
	}
	if err := store.Sync(); err != nil {
		return false, err
	}
	w.identifiers = free
	return true, nil
}

// lower returns the store's watermark to what was sent, when nothing more will be:
// the next process then sends the rest without DUP [MQTT-3.3.1-3].
func (w *watermarks) lower(store Store) error {
	for p := range w {
		sent, priority := max(w[p].sent, w[p].earlier), persistence.Priority(p)
		if store.Sent(priority) > sent {
			if err := store.SetSent(priority, sent); err != nil {
				return err
			}
		}
	}
	return nil
}

// qos returns the QoS of a stored packet.
func qos(e *persistence.Entry) byte { return e.Packet[0] >> 1 & 3 }

// canExpire reports whether e may end because its time has passed. A message that this process has
// sent does not: it is resent [MQTT-4.4.0-1] [MQTT-4.3.3-7]. One that an earlier process may have
// sent expires at QoS 1, where a late message is worse than a lost acknowledgement, and not at QoS
// 2, where the exchange must be completed.
func (w *watermarks) canExpire(e *persistence.Entry) bool {
	return !e.Expires.IsZero() && !e.Released && e.Number > w[e.Priority].sent && !(qos(e) == 2 && w.sentEarlier(e))
}
