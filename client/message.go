package client

import (
	"crypto/sha256"
	"time"

	"github.com/google/uuid"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// QoS is the delivery guarantee that a message asks for, section 4.3 of MQTT 5.
type QoS byte

// The three levels, under the names of the specification.
const (
	AtMostOnce  QoS = 0 // sent once, not stored; lost if the link is down
	AtLeastOnce QoS = 1 // stored, sent until acknowledged; may arrive twice
	ExactlyOnce QoS = 2 // stored, sent until acknowledged; arrives once
)

// Priority says which messages of QoS 1 and 2 are sent first when they wait. One
// of a higher priority overtakes what waits, not what was sent. Order is kept
// within a priority.
type Priority = persistence.Priority

// The priorities.
const (
	Normal = persistence.Normal
	High   = persistence.High
	Urgent = persistence.Urgent
)

// UserProperty is a name and a value that travel with a message. Names may
// repeat and the order is kept.
//
//	type UserProperty struct{ Key, Value string }
type UserProperty = wire.UserProperty

// Message is an application message with every property that MQTT 5 gives a
// PUBLISH. Only Topic is required.
type Message struct {
	Topic   string // UTF-8, without wildcards, up to 65,535 bytes
	Payload []byte
	QoS     QoS // default AtMostOnce: not stored
	// Retain has the server keep the message for those who subscribe later; one
	// with an empty Payload removes what is kept. On a received message: it was kept
	// when we subscribed, see RetainAsPublished.
	Retain bool

	// ID identifies the message end to end, through resends and restarts.
	// Publish fills it in for QoS 1 and 2; set it to make your own the key that
	// receivers deduplicate by.
	ID MessageID

	// Expiry is how long the message is of use, counted from acceptance; time
	// spent in the outbox is taken off what the server is told. 0: for ever.
	// It is sent in whole seconds, rounded up. At QoS 1 and 2 a message that is over
	// and was not sent ends as Expired, connected or not, and takes no room any more:
	// in time, or where many are over one after the other some tenths of a second
	// later. Once it may have been sent it is not given up. Store.Options.MaxAge bounds
	// it.
	Expiry time.Duration

	// OnSessionLost says what happens to this message when it was sent and not
	// acknowledged and the server loses its session. It is stored with the message,
	// and holds for each process that goes on with it. Default: Config.Session.OnLost of
	// the process that finds the session lost. At QoS 0 it has no effect.
	OnSessionLost SessionLostPolicy

	// Priority says what the message overtakes; at QoS 0 it has no effect. The
	// messages of a topic that Config.Publishing.Sequenced numbers are a sequence of their
	// own for each priority.
	Priority Priority

	// Conflate keeps only the newest message of a topic: one that waits and was
	// not sent, and has Conflate set too, is Dropped with ErrConflated when this
	// one is accepted, whatever their priorities. Such messages are not numbered
	// by Config.Publishing.Sequenced, since the gaps would be reported. At QoS 0 it has no
	// effect.
	Conflate bool

	ContentType     string // UTF-8, up to 65,535 bytes, as all text
	ResponseTopic   string // where the answer of a request goes; no wildcards
	CorrelationData []byte // what the answer brings back; up to 65,535 bytes; nil: absent
	PayloadIsUTF8   bool   // Payload Format Indicator; Publish checks it
	// UserProperties are the program's. The names m-id, m-pub, m-epoch and m-seq are
	// mooring's, see docs/wire.md: a receiver finds them in ID and Origin.
	UserProperties []UserProperty

	// The rest is set on received messages and ignored by Publish.

	Duplicate       bool     // the DUP flag: the server may have sent it before
	SubscriptionIDs []uint32 // of all subscriptions that matched
	Origin          Origin   // who numbered it, if anybody

	// Claim is the claim that the client holds in Receiving.Dedupe while handlers
	// run; zero without Dedupe, and for messages without a key. Claim.Token is a
	// fencing token: a handler can pass it to its database, which then refuses the
	// writes of a client that was paused for so long that another one handles the
	// message.
	Claim dedupe.Claim
}

// Origin is a sequenced message's place among those of its publisher.
type Origin struct {
	Publisher string // for messages of priority High and Urgent with +high or +urgent behind it
	Epoch     uint64 // changes when the publisher lost its counters
	Seq       uint64 // 1, 2, 3… per publisher and topic; 0: not sequenced
}

// MessageID identifies a message end to end. Those that mooring makes are
// UUIDs of version 7, so they sort by time.
type MessageID [16]byte

// NewMessageID returns a fresh ID.
func NewMessageID() MessageID { return MessageID(uuid.Must(uuid.NewV7())) }

// ParseMessageID returns the ID that text stands for: a UUID's own bytes, or a
// digest of any other text, so that IDs of foreign publishers keep apart.
func ParseMessageID(text string) MessageID {
	if id, err := uuid.Parse(text); err == nil {
		return MessageID(id)
	}
	sum := sha256.Sum256([]byte(text))
	return MessageID(sum[:16])
}

// PayloadKey is a Config.Receiving.DedupeKey for publishers that send no message ID: where
// there is none, topic and payload make the message. Two readings of the same
// value are then one message for as long as the cache remembers, so their
// payloads must tell them apart, by a time for example.
func PayloadKey(m *Message) string {
	if !m.ID.IsZero() {
		return string(m.ID[:])
	}
	return dedupe.Hash([]byte(m.Topic), m.Payload)
}

// IsZero reports whether there is no ID.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// String is the UUID's canonical form.
func (id MessageID) String() string { return uuid.UUID(id).String() }

// MarshalText makes IDs readable in JSON.
func (id MessageID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// UnmarshalText reads what MarshalText wrote.
func (id *MessageID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }
