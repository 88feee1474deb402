package session

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Store is the part of a persistence.Store that the session needs. Only Sync may wait for the disk.
type Store interface {
	Release(seq uint64) error // records that PUBREC was received for the message with this log sequence
	// Seen records that an inbound QoS 2 message was handled. Cleared records that the identifier
	// is free again.
	Seen(id uint16, fingerprint uint64) error
	Cleared(id uint16) error
	SeenIDs() map[uint16]uint64 // fingerprints by identifier; 0: an earlier release wrote the record
	FingerprintKey() [16]byte
	Sync() error // makes everything recorded before durable
}

// Writer is the part of a connection that the session needs. Send calls encode, which appends
// packets to the output buffer. Send then sends the buffer, unless another writer is about to send
// it.
type Writer interface {
	Send(encode func(dst []byte) []byte) error
	Fail(err error) // closes the connection for this reason
}

// Limits holds the limits in the server's CONNACK.
type Limits struct {
	ReceiveMaximum    uint16
	MaximumPacketSize uint32 // 0: no limit
	MaximumQoS        byte
	TopicAliasMaximum uint16

	RetainAvailable, WildcardAvailable, SubIDAvailable, SharedAvailable bool
}

// Check returns the reason code for a PUBLISH that the server does not accept, or 0 if it accepts
// it.
func (l *Limits) Check(size int, qos byte, retain bool) (reason byte) {
	switch {
	case l.MaximumPacketSize > 0 && size > int(l.MaximumPacketSize):
		return wire.ReasonPacketTooLarge
	case qos > l.MaximumQoS:
		return wire.ReasonQoSNotSupported
	case retain && !l.RetainAvailable:
		return wire.ReasonRetainNotSupported
	}
	return 0
}

// Config configures a Session. Its functions are called without the session's lock. Settled and
// Deliver run on the goroutine that reads from the connection, and must not block.
type Config struct {
	Store Store

	ReceiveMaximum    uint16 // of the client; 0: 65,535
	TopicAliasMaximum uint16 // of the client; 0: the server must not use aliases
	TopicAliases      uint16 // maximum number of aliases that the client uses, if the server allows them
	PoisonAttempts    int    // connections that may end because of a topic of unstored messages before it is deferred; 0: no limit

	// Settled is called for the final acknowledgement of an outbound message.
	Settled func(seq uint64, reason byte, reasonString string)
	// Deliver is called for each received message. At QoS 0, in is nil. Otherwise the application
	// must call Complete once with in. v is valid only during the call.
	Deliver func(in *Inbound, topic string, v wire.PublishView)
	// Outage reports whether an error of Store.Sync is temporary. During an outage,
	// acknowledgements that need a sync wait, and the connection stays up. If Outage is nil, no
	// error is temporary.
	Outage func(error) bool
	// Room is called when the send window has room again.
	Room func()
}

// Session is the state that outlives connections. All methods are safe for concurrent use.
//
// Lock order: Session.mu comes before the store's locks. Session.mu is not held while the session
// writes to a connection or calls a function of Config.
type Session struct {
	cfg  Config
	key  [16]byte     // for stored fingerprints
	seed maphash.Seed // for other fingerprints

	mu         sync.Mutex
	cur        *Generation        // nil while not connected
	inbound    table[*Inbound]    // received, not yet acknowledged
	seen       table[record]      // QoS 2: handled, PUBREL not received yet
	low        lowIDs             // identifiers of requests and unstored messages
	requests   map[uint16]request // unanswered SUBSCRIBE and UNSUBSCRIBE on this connection
	unstored   []*unstored        // unacknowledged unstored messages, by first sending [MQTT-4.6.0-1]
	candidates candidates         // topics of unstored messages
	unacked    map[uint64]uint64  // position in the order of sending of messages sent on earlier connections
	sends      uint64             // messages sent, without resends
	handling   int                // messages of all connections that wait for Complete
	quota      bool               // the server has refused a message because of a quota; see Generation.Held
	lost       bool               // the server has lost the session to which unacked and the store belong
	stats      Stats
	acks       ackQueue
	ready      notify.Signal // set when acks is not empty
}

// Stats counts irregular events.
type Stats struct {
	UnknownAcks uint64 // acknowledgements for unused identifiers
	StaleAcks   uint64 // dropped acknowledgements or results of an older connection
	Redelivered uint64 // redelivered messages that were not handled again
}

// New returns a Session that continues from the content of the store.
func New(cfg Config) *Session {
	cfg.ReceiveMaximum = cmp.Or(cfg.ReceiveMaximum, 65_535)
	s := &Session{
		cfg:        cfg,
		key:        cfg.Store.FingerprintKey(),
		seed:       maphash.MakeSeed(),
		requests:   map[uint16]request{},
		unacked:    map[uint64]uint64{},
		candidates: candidates{cfg.PoisonAttempts, map[string]*candidate{}},
		ready:      notify.New(),
	}
	for id, fingerprint := range cfg.Store.SeenIDs() {
		s.seen.set(id, record{true, fingerprint})
	}
	return s
}

// Generation is the part of the session that belongs to one connection.
type Generation struct {
	s       *Session
	w       Writer
	Limits  Limits
	Present bool // the server continues the session of earlier connections

	sending *aliases // nil: no aliases; used by the encoders only
	settled uint64   // see Settled; used by the reader only
	topics  topics   // used by the reader only
	begun   time.Time

	// Session.mu guards the following fields.
	flights  table[flight] // sent, not acknowledged
	purges   purges
	held     atomic.Bool // see Held; also read without the lock
	acked    uint64      // stored messages that were acknowledged
	accepted uint64      // stored messages that were accepted
	passed   uint64      // highest flight.order of acknowledged messages
	waiting  []*unstored // sent when the window has room
	alone    *unstored   // of a deferred topic: sent when nothing is in flight, and nothing else is sent meanwhile
	order    []*Inbound  // received, in the order of their acknowledgements
	enqueued uint32      // number of messages ever appended to order
	recv     table[bool] // identifiers that count against the client's Receive Maximum
}

// Accepted returns the number of stored messages that the server has accepted on this connection.
func (g *Generation) Accepted() uint64 {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.accepted
}

// Ended reports whether the connection has ended.
func (g *Generation) Ended() bool {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.s.cur != g
}

// Begin ends the current generation, because the server has accepted a new connection. It reports
// whether the session is lost. The session is lost if the server has no session, or had none on an
// earlier connection for which Attach was not called. Then the caller durably voids the session in
// the store before it calls Attach. Unacked still returns the messages that were in flight. If the
// store fails, the caller closes the connection, and the next Begin reports a lost session again.
func (s *Session) Begin(present bool) (lost bool) {
	var dropped []*unstored
	s.mu.Lock()
	s.endLocked(s.cur)
	if s.lost = s.lost || !present; s.lost { // the state ends with the server's [MQTT-3.2.2-5]
		dropped, s.unstored = s.unstored, nil
		for _, d := range dropped {
			s.low.free(d.id)
		}
		s.seen.clear()
		s.inbound.clear()
	}
	lost = s.lost
	s.mu.Unlock()
	for _, d := range dropped {
		d.done(0, "", ErrSessionLost)
	}
	return lost
}

// Adopt forgets the session of earlier connections, because the next connection resumes a session
// that the client does not know. It must be called between two connections.
func (s *Session) Adopt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.clear()
	s.inbound.clear()
	clear(s.unacked)
}

// Attach starts a generation. It must be called after Begin.
func (s *Session) Attach(w Writer, limits Limits) *Generation {
	limits.ReceiveMaximum = cmp.Or(limits.ReceiveMaximum, 65_535)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &Generation{s: s, w: w, Limits: limits, Present: !s.lost, sending: newAliases(s.cfg.TopicAliases, limits),
		begun: time.Now(), topics: topics{aliases: map[uint16]string{}, interned: map[string]string{}}}
	if s.lost {
		clear(s.unacked)
		s.quota = false
	}
	g.held.Store(s.quota)
	s.cur, s.lost = g, false
	return g
}

// Unacked returns the log sequences of the unacknowledged messages that this process has sent in
// the session, in ascending order. It must be called between two connections.
func (s *Session) Unacked() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.unacked))
}

// Detach ends g, because its connection has ended. Requests that wait for SUBACK or UNSUBACK get an
// error.
func (s *Session) Detach(g *Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(g)
}

// endLocked ends g if it is current. It drops the queued acknowledgements, because the exchanges
// continue from the store on the next connection. A required sync stays pending.
func (s *Session) endLocked(g *Generation) {
	if g == nil || s.cur != g {
		return
	}
	s.cur = nil
	s.blameLocked(g)
	s.acks = ackQueue{packets: s.acks.packets[:0], needsSync: s.acks.needsSync}
	for _, f := range g.flights.all() {
		if f.unstored == nil {
			s.unacked[f.seq] = f.order
		}
	}
	for id, r := range s.requests {
		r.resp <- packets.ControlPacket{} // paho's channels are buffered
		s.low.free(id)
	}
	clear(s.requests)
}

// Stats returns the current counters.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}
