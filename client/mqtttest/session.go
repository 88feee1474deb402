package mqtttest

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// session is the Session State of section 4.1. It belongs to a Client Identifier and outlives
// connections for its Session Expiry Interval. Broker.state guards it.
type session struct {
	b        *Broker
	id       uint64 // number in the journal
	clientID string
	conn     *conn  // nil while the client is disconnected
	expiry   uint32 // seconds, NeverExpires
	// keeps is set if messages are recorded in the journal. It is not set for a session that began
	// with a Session Expiry Interval of 0.
	keeps bool

	subs    map[string]*subscription // by whole filter
	queue   queue
	flights inflight
	inbound map[uint16]struct{} // QoS 2 messages from the client that wait for PUBREL

	will     *will
	lostAt   time.Time // when the connection ended
	willDue  *timer
	endsWith *timer
}

func (s *session) room(m *message) bool {
	return s.queue.n < s.b.opts.MaxQueuedMessages && s.queue.bytes+m.size() <= s.b.opts.MaxQueuedBytes
}

// durable reports whether an entry is recorded in the journal.
func (s *session) durable(e *entry) bool { return s.keeps && e.qos > 0 }

// will is the Will Message of a session.
type will struct {
	topic      string
	payload    []byte
	properties wire.Properties // without the delay; the expiry counts from publication
	qos        byte
	retain     bool
	delay      uint32 // seconds
}
