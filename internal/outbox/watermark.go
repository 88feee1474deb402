package outbox

import (
	"errors"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// watermarks records, per priority, how far messages may have been sent in the present session.
// Only the send loop uses it.
type watermarks [persistence.Priorities]watermark

// watermark holds values of Entry.Number.
type watermark struct {
	identifiers uint64 // packet identifiers up to here are free, and that is durable
	persisted   uint64 // the store has durably recorded that messages up to here may have been sent
	sent        uint64 // this process has sent messages up to here
	earlier     uint64 // an earlier process may have sent messages up to here
	earlierSeq  uint64 // sequence of the last message that an earlier process accepted
	step        uint64 // number of messages that the next raise covers; 0: the room in the window
	count       uint64 // number of messages sent on this connection
	volatile    bool   // persisted is not durable, because the store has an outage
}

const (
	// firstStep and maxStep bound the number of messages that one raise covers: firstStep for the
	// first raise on a connection, maxStep for later ones.
	firstStep, maxStep = 64, 4096
	// maxAhead bounds the number of messages that a raise covers before they are accepted.
	maxAhead = 1024
)

// newWatermarks returns the watermarks that earlier processes have left.
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

// begin prepares for a new connection. If the session was lost, the store's watermark is reset, and
// the watermarks follow it.
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

// raise durably records that e may have been sent, before it is sent. Each raise costs a commit, so
// it covers several messages, and twice as many each time on a connection. If the store drops no
// messages, raise also covers messages that are not accepted yet: an eighth of the number sent on
// the connection. Otherwise a publisher that waits for each acknowledgement would wait for two
// commits per message. free is the room in the window. The store may drop e until raise returns.
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

// lastNumber returns the Number of the last message of a priority. It returns less if messages
// between the first and the last have ended.
func lastNumber(store Store, p persistence.Priority) uint64 {
	if p == persistence.Normal { // the Number of these messages is their sequence
		return store.LastSeq() // their Number is their sequence
	}
	st := store.Stats()
	return max(store.First(p)+st.PendingOf[p]-st.DeferredOf[p], 1) - 1
}

// advance records that e is sent.
func (w *watermark) advance(e *persistence.Entry) {
	w.sent = max(w.sent, e.Number)
	w.count++
}

// identifierFree reports whether the packet identifier of e is free. The last message that used it
// is one lap earlier in the same priority. Its end must be durable before the identifier is reused,
// so the store is synced once per lap.
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

// lower reduces the store's watermark to what was really sent, when nothing more will be sent. Then
// the next process sends the other messages without DUP [MQTT-3.3.1-3].
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

// canExpire reports whether e may end because it has expired. A message that this process or an
// earlier one may have sent in this session does not expire: the server may have it, so it is
// resent [MQTT-4.4.0-1] [MQTT-4.3.3-7].
func (w *watermarks) canExpire(e *persistence.Entry) bool {
	return !e.Expires.IsZero() && !e.Released && !w.maybeSent(e)
}
