package client

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
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
	AtMostOnce  QoS = 0 // sent once, not stored, even with Config.Dir; lost if the link is down
	AtLeastOnce QoS = 1 // stored, sent until acknowledged; may arrive twice
	ExactlyOnce QoS = 2 // stored, sent until acknowledged; arrives once
)

// Priority selects which waiting QoS 1 and 2 messages are sent first. A message of
// a higher priority overtakes messages that wait, not messages that were sent.
// Order is kept within a priority.
type Priority = persistence.Priority

// The priorities.
const (
	Normal = persistence.Normal
	High   = persistence.High
	Urgent = persistence.Urgent
)

// streamSuffixes distinguish the streams of one topic by priority. They follow the
// publisher's name in the packet, so that receivers see several publishers.
var streamSuffixes = [persistence.Priorities]string{"", "+high", "+urgent"}

// UserProperty is a name and a value that travel with a message. Names may
// repeat; the order is kept.
//
//	type UserProperty struct{ Key, Value string }
type UserProperty = wire.UserProperty

// Message is an application message with every property that MQTT 5 gives a
// PUBLISH. Only Topic is required.
type Message struct {
	Topic   string // UTF-8, without wildcards, up to 65,535 bytes
	Payload []byte
	QoS     QoS // default AtMostOnce: not stored, even with Config.Dir
	// Retain asks the server to keep the message for later subscribers; with an
	// empty Payload it removes the kept one. On a received message: the server sent
	// it because of a new subscription, see RetainAsPublished.
	Retain bool

	// ID identifies the message from publisher to handler, through resends and restarts. Publish
	// sets it for QoS 1 and 2 if it is zero. Receivers deduplicate by it.
	ID MessageID

	// Expiry is how long the message is useful after its acceptance. The server receives what is
	// left of it, in whole seconds, rounded up. 0: it never expires. An unsent QoS 1 or 2 message
	// expires even while the client is offline, and frees its space; when many expire together,
	// this can take a few hundred milliseconds. A message that may have been sent does not expire.
	// The store's MaxAge limits it.
	Expiry time.Duration

	// The following three have no effect at QoS 0.

	// OnSessionLost selects what happens to this message if it was sent and not
	// acknowledged and the server loses its session. It is stored with the message.
	// Default: SessionConfig.OnLost of the process that finds the session lost.
	OnSessionLost SessionLostPolicy
	// Priority selects which messages this one overtakes. PublishingConfig.Sequenced
	// numbers each priority of a topic by itself.
	Priority Priority
	// Conflate keeps only the newest message of a topic: accepting this message drops an unsent
	// older one that has Conflate set too, with ErrConflated, whatever their priorities. Such
	// messages are not numbered by PublishingConfig.Sequenced, since receivers would report gaps.
	Conflate bool

	ContentType     string // UTF-8, up to 65,535 bytes, as all text
	ResponseTopic   string // topic for the response to a request; no wildcards
	CorrelationData []byte // identifies the request in the response; up to 65,535 bytes; nil: absent
	PayloadIsUTF8   bool   // Payload Format Indicator; Publish checks it
	// UserProperties are the application's. The names m-id, m-pub, m-epoch and m-seq are reserved,
	// see docs/wire.md: a receiver finds them in ID and Origin, and Publish refuses them.
	UserProperties []UserProperty

	// The following fields are set on received messages. Publish refuses Origin and ignores the others.
	// Forward makes a message to publish from a received one.

	// ReceivedAt is when the client received the message. With Expiry, which is then what was left at that
	// time, it tells when the message expires, see ExpiresAt.
	ReceivedAt      time.Time
	Duplicate       bool     // the DUP flag: the server may have sent it before
	SubscriptionIDs []uint32 // of all matching subscriptions
	Origin          Origin   // its number, if the publisher numbers messages
	// OutOfOrder is set with ReceivingConfig.Ordering if messages with higher numbers were handled
	// before: the message is late, or another message has had its number, see [NumberReused].
	OutOfOrder bool

	// Claim is the claim that the client holds in ReceivingConfig.Dedupe while
	// handlers run; zero without Dedupe, and for messages without a key. A handler can
	// pass the fencing token Claim.Token to its database, which then refuses the writes
	// of a client that was paused until another client handled the message.
	Claim dedupe.Claim
}

// ExpiresAt returns when a received message expires, and the zero time if it never does.
func (m *Message) ExpiresAt() time.Time {
	if m.Expiry == 0 || m.ReceivedAt.IsZero() {
		return time.Time{}
	}
	return m.ReceivedAt.Add(m.Expiry)
}

// packet returns the PUBLISH that carries m, without the properties of identity.
func (m *Message) packet() wire.Publish {
	p := wire.Publish{
		Topic: m.Topic, Payload: m.Payload, QoS: byte(m.QoS), Retain: m.Retain,
		ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData,
		User: m.UserProperties,
	}
	if m.PayloadIsUTF8 {
		p.PayloadFormat = 1
	}
	if m.Expiry > 0 {
		p.HasExpiry, p.MessageExpiry = true, wire.Seconds(m.Expiry)
	}
	return p
}

// checkReserved returns a *FieldError if m has what only the client sets.
func (m *Message) checkReserved() error {
	if m.Origin != (Origin{}) {
		return &FieldError{Field: "Origin", Problem: "is set, and the client numbers messages by itself; leave it empty, and use Message.Forward to publish a received message"}
	}
	for _, u := range m.UserProperties {
		if !reserved(u.Key) {
			continue
		}
		advice := "leave it out, the client sets it if Config.Publishing.Sequenced is set"
		if u.Key == propID {
			advice = "set Message.ID instead, with ParseMessageID if it is a text"
		}
		return &FieldError{Field: "UserProperties", Problem: "has the reserved name " + u.Key + "; " + advice}
	}
	return nil
}

// reserved reports whether a user property identifies messages.
func reserved(name string) bool {
	return name == propID || name == propPublisher || name == propEpoch || name == propSeq
}

// Origin is the position of a numbered message among those of its publisher.
type Origin struct {
	Publisher string // followed by +high or +urgent for messages of those priorities
	Epoch     uint64 // changes when the publisher lost its counters
	Seq       uint64 // 1, 2, 3… per publisher and topic; 0: not numbered
}

// MessageID identifies a message from publisher to handler. IDs made by
// NewMessageID are UUIDs of version 7, so they sort by time.
type MessageID [16]byte

// NewMessageID returns a new ID.
func NewMessageID() MessageID { return MessageID(uuid.Must(uuid.NewV7())) }

// ParseMessageID returns the ID in text: the bytes of a UUID, or a digest of any
// other text, so that different IDs of other publishers stay different.
func ParseMessageID(text string) MessageID {
	if id, err := uuid.Parse(text); err == nil {
		return MessageID(id)
	}
	sum := sha256.Sum256([]byte(text))
	return MessageID(sum[:16])
}

// PayloadKey is a ReceivingConfig.DedupeKey for publishers that send no message ID:
// topic and payload identify the message then. Payloads must differ from one message
// to the next, by a time for example.
func PayloadKey(m *Message) string {
	if !m.ID.IsZero() {
		return string(m.ID[:])
	}
	return dedupe.Hash([]byte(m.Topic), m.Payload)
}

// IsZero reports whether there is no ID.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// The text of an ID, also in JSON, is the canonical form of the UUID.
func (id MessageID) String() string                { return uuid.UUID(id).String() }
func (id MessageID) MarshalText() ([]byte, error)  { return uuid.UUID(id).MarshalText() }
func (id *MessageID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// SessionLostPolicy selects what happens to messages in flight when the server loses the session.
type SessionLostPolicy = persistence.SessionLostPolicy

const (
	// AsConfigured is SessionConfig.OnLost for a Message, and Republish for SessionConfig.OnLost.
	AsConfigured = persistence.AsConfigured
	// Republish publishes them again under the same message ID. They may arrive
	// twice; a receiver that deduplicates by ID handles them once.
	Republish = persistence.Republish
	// FailInFlight ends them with ErrSessionLost: they never arrive twice, and perhaps not at all.
	// After a crash, up to 4,096 unsent messages may be recorded as sent and also fail; after
	// damage to the store, all pending ones. A session that another client takes over is lost.
	FailInFlight = persistence.FailInFlight
)

// identity appends the identity of a message as encoded properties.
func identity(dst []byte, id MessageID, o Origin) []byte {
	var text [36]byte
	user := func(name string, value []byte) {
		dst = append(dst, wire.PropUser)
		dst = wire.AppendString(dst, name)
		dst = wire.AppendString(dst, value)
	}
	if !id.IsZero() {
		encodeUUID(&text, id)
		user(propID, text[:])
	}
	if o.Seq != 0 {
		user(propPublisher, []byte(o.Publisher))
		user(propEpoch, strconv.AppendUint(text[:0], o.Epoch, 10))
		user(propSeq, strconv.AppendUint(text[:0], o.Seq, 10))
	}
	return dst
}

func encodeUUID(dst *[36]byte, id MessageID) {
	hex.Encode(dst[:8], id[:4])
	hex.Encode(dst[9:13], id[4:6])
	hex.Encode(dst[14:18], id[6:8])
	hex.Encode(dst[19:23], id[8:10])
	hex.Encode(dst[24:], id[10:])
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
}
