package session

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Store is the part of persistence that the session needs. None of its methods but
// Sync may wait for the disk.
type Store interface {
	Release(seq uint64) error // PUBREC seen for the message with this log sequence
	Seen(id uint16) error     // an inbound QoS 2 message was handled
	Cleared(id uint16) error  // its PUBREL came
	SeenIDs() []uint16
	Sync() error // all recorded before is durable on return
}

// Writer is the connection as the session sees it. Send lets encode append
// packets to the output buffer and sends it unless another writer is about to.
type Writer interface {
	Send(encode func(dst []byte) []byte) error
	Fail(err error) // closes the connection for this reason
}

// Limits is what the server's CONNACK allows.
type Limits struct {
	ReceiveMaximum    uint16
	MaximumPacketSize uint32 // 0: no limit
	MaximumQoS        byte
	TopicAliasMaximum uint16
	RetainAvailable   bool
	WildcardAvailable bool
	SubIDAvailable    bool
	SharedAvailable   bool
}

// Check returns the reason code for a PUBLISH that the server does not accept; 0: it
// accepts it.
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

// Config connects a Session to what surrounds it. All functions are called
// without the session's lock; Settled and Deliver run on the goroutine that
// reads the connection and must not block.
type Config struct {
	Store Store

	ReceiveMaximum    uint16 // ours, 0 means 65,535
	TopicAliasMaximum uint16 // ours, 0 means that the server may not use aliases
	TopicAliases      uint16 // how many of the server's we use, 0 means none

	// Settled reports the final acknowledgement of an outbound message.
	Settled func(seq uint64, reason byte, reasonString string)
	// Deliver hands over a received message. in is nil at QoS 0; otherwise
	// Complete must be called with it once. v is valid only during the call.
	Deliver func(in *Inbound, topic string, v wire.PublishView)
	// Room reports that the send window has opened.
	Room func()
}

// Session is the state that outlives connections. All methods are safe for
// concurrent use.
//
// Lock order: Session.mu before the store's locks; never held while writing to
// a connection or calling a function of Config.
type Session struct {
	cfg  Config
	seed maphash.Seed

	mu       sync.Mutex
	cur      *Generation          // nil while not connected
	number   uint64               // of the newest generation
	inbound  map[uint16]*Inbound  // received, not yet acknowledged
	seen     map[uint16]uint64    // QoS 2: handled, PUBREL outstanding; the sum, 0 if an earlier process handled it
	low      lowIDs               // identifiers of requests and unstored messages
	requests map[uint16]*request  // SUBSCRIBE and UNSUBSCRIBE on this connection
	unstored map[uint16]*unstored // messages published past the store
	unacked  map[uint64]uint64    // sent on earlier connections, not acknowledged: when in the order of sending
	sends    uint64               // how many messages were sent, without repetitions
	handling int                  // messages that wait for Complete, of this connection and of earlier ones
	lost     bool                 // the server has lost the session of which unacked and the store know
	stats    Stats

	unstoredNumber uint64 // of the newest unstored message

	acks ackQueue
}

// Stats counts what went other than planned.
type Stats struct {
	UnknownAcks uint64 // acknowledgements for identifiers not in use
	StaleAcks   uint64 // acknowledgements or results of an older connection, dropped
	Redelivered uint64 // messages that came again and were not handled again
}

// New returns a Session that continues from what the store holds.
func New(cfg Config) *Session {
	if cfg.ReceiveMaximum == 0 {
		cfg.ReceiveMaximum = 65_535
	}
	s := &Session{
		cfg:      cfg,
		seed:     maphash.MakeSeed(),
		inbound:  map[uint16]*Inbound{},
		seen:     map[uint16]uint64{},
		requests: map[uint16]*request{},
		unstored: map[uint16]*unstored{},
		unacked:  map[uint64]uint64{},
	}
	s.acks.ready = notify.New()
	for _, id := range cfg.Store.SeenIDs() {
		s.seen[id] = 0
	}
	return s
}

// Generation is the session's part that belongs to one connection.
type Generation struct {
	s      *Session
	w      Writer
	Number uint64
	Limits Limits
	// Present: the server goes on with the session of earlier connections.
	Present bool

	sending *aliases // nil: none are used; belongs to the encoders
	settled uint64   // see Settled; belongs to the reader

	// All below is guarded by s.mu.
	flights map[uint16]flight   // sent, not acknowledged
	acked   uint64              // stored messages that were acknowledged
	waiting []*unstored         // to be sent when the window has room
	order   []*Inbound          // received, in the order their acknowledgements must leave
	recv    map[uint16]struct{} // identifiers that count against our Receive Maximum
	aliases map[uint16]string
	topics  map[string]string // interned Topic Names

	topicBytes int // of topics
}

// Begin ends the current generation and prepares for the next: the server has
// accepted a connection. It reports whether the session is lost: the server has none,
// or had none on an earlier connection for which Attach was not called. Then the
// caller makes the session in the store void, durably, before it calls Attach;
// Unacked still returns what was in flight. If the store fails, the caller closes the
// connection, and the next Begin reports a lost session again.
func (s *Session) Begin(present bool) (lost bool) {
	s.mu.Lock()
	orphans := s.endLocked(s.cur)
	if s.lost = s.lost || !present; s.lost {
		orphans = append(orphans, s.forgetLocked()...)
	}
	lost = s.lost
	s.mu.Unlock()
	for _, report := range orphans {
		report()
	}
	return lost
}

// Attach begins a generation, after Begin.
func (s *Session) Attach(w Writer, limits Limits) *Generation {
	if limits.ReceiveMaximum == 0 {
		limits.ReceiveMaximum = 65_535
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	g := &Generation{s: s, w: w, Number: s.number, Limits: limits, Present: !s.lost, sending: newAliases(s.cfg.TopicAliases, limits),
		flights: map[uint16]flight{}, recv: map[uint16]struct{}{},
		aliases: map[uint16]string{}, topics: map[string]string{}}
	if s.lost {
		clear(s.unacked)
		s.lost = false
	}
	s.cur = g
	return g
}

// Unacked returns, between two connections, the log sequences of the messages that
// this process has sent in the session and that were not acknowledged, ascending.
func (s *Session) Unacked() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.unacked))
}

// Detach ends g: its connection is gone. Waiting SUBSCRIBE and UNSUBSCRIBE
// requests are told.
func (s *Session) Detach(g *Generation) {
	s.mu.Lock()
	orphans := s.endLocked(g)
	s.mu.Unlock()
	for _, tell := range orphans {
		tell()
	}
}

// endLocked ends g if it is current and returns whom to tell about it.
func (s *Session) endLocked(g *Generation) (orphans []func()) {
	if g == nil || s.cur != g {
		return nil
	}
	s.cur = nil
	s.acks.discard()
	for _, f := range g.flights {
		if f.unstored == nil {
			s.unacked[f.seq] = f.order
		}
	}
	for id, r := range s.requests {
		orphans = append(orphans, r.lost)
		delete(s.requests, id)
		s.low.free(id)
	}
	return orphans
}

// forgetLocked drops the state of a session that the server no longer has
// [MQTT-3.2.2-5], except for unacked. It returns what reports that.
func (s *Session) forgetLocked() (orphans []func()) {
	for id, d := range s.unstored {
		orphans = append(orphans, func() { d.done(0, ErrSessionLost) })
		delete(s.unstored, id)
		s.low.free(id)
	}
	clear(s.seen)
	clear(s.inbound)
	return orphans
}

// Stats returns a snapshot.
func (s *Session) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}
