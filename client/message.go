package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// QoS is the delivery guarantee of a message (section 4.3 of MQTT 5).
type QoS byte

// The QoS levels, named as in the specification.
const (
	AtMostOnce  QoS = 0 // sent once and not stored, even with Config.Dir; lost without a connection
	AtLeastOnce QoS = 1 // stored and sent until acknowledged; may arrive twice
	ExactlyOnce QoS = 2 // stored and sent until acknowledged; arrives once
)

// Priority selects which waiting QoS 1 and 2 messages are sent first. A message overtakes waiting
// messages of a lower priority. A message does not overtake messages that were sent. Messages of
// the same priority keep their order.
type Priority = persistence.Priority

// The priorities.
const (
	Normal = persistence.Normal
	High   = persistence.High
	Urgent = persistence.Urgent
)

// streamSuffixes distinguish the streams of one topic by priority. The packet contains them after
// the publisher's name, so receivers see a separate publisher for each priority.
var streamSuffixes = [persistence.Priorities]string{"", "+high", "+urgent"}

// UserProperty is a name-value pair that is sent with a message. Several properties may have the
// same name. The properties keep their order.
//
//	type UserProperty struct{ Key, Value string }
type UserProperty = wire.UserProperty

// Message is an application message with all properties of an MQTT 5 PUBLISH. Only Topic is
// required.
type Message struct {
	Topic   string // UTF-8, without wildcards, up to 65,535 bytes
	Payload []byte
	QoS     QoS // default AtMostOnce, which is not stored, even with Config.Dir
	// Retain asks the server to keep the message for later subscribers. With an empty Payload it
	// removes the retained message. In a received message, Retain means that the server sent the
	// message because of a new subscription, see RetainAsPublished.
	Retain bool

	// ID identifies the message from publisher to handler, even if the message is resent or the
	// client restarts. At QoS 1 and 2, Publish sets the ID if it is zero. Receivers use the ID to
	// detect duplicates.
	ID MessageID

	// Expiry is the lifetime of the message after Publish has accepted it. The client sends the
	// remaining lifetime to the server, rounded up to seconds. 0 means that the message never
	// expires. An unsent QoS 1 or 2 message expires even while the client is offline, and frees its
	// space. When many messages expire together, this can take a few hundred milliseconds. A
	// message that may have been sent does not expire. MaxAge in the options of the store limits
	// the lifetime too.
	Expiry time.Duration

	// The following four fields have no effect at QoS 0.

	// OnSessionLost selects what happens to this message if it is in flight when the server loses
	// the session. The policy is stored with the message. Default: the process that detects the
	// loss uses its SessionConfig.OnLost.
	OnSessionLost SessionLostPolicy
	// Priority selects which messages this one overtakes. With PublishingConfig.Sequenced, each
	// priority of a topic has its own numbers.
	Priority Priority
	// Conflate keeps only the newest unsent message of a topic. When this message is accepted, an
	// unsent older one with Conflate is dropped with ErrConflated, whatever its priority. The client
	// reports MessageDropped and logs this at Debug, because the application asked for it. Messages
	// with Conflate have no sequence numbers, because receivers would report the dropped ones as
	// missing.
	Conflate bool
	// Block makes Publish wait if the store has no room for this message or the disk refuses
	// writes. Publish then returns when the message is accepted, its context ends, or the client is
	// closed. StoreConfig.WhenFull applies first: with DropOldest, Publish waits only if no message
	// can be dropped for this one. With the policy Block, every message waits.
	Block bool

	ContentType     string // UTF-8, up to 65,535 bytes, like every text
	ResponseTopic   string // topic for the response to a request, without wildcards
	CorrelationData []byte // identifies the request in the response; up to 65,535 bytes; nil: absent
	PayloadIsUTF8   bool   // Payload Format Indicator; Publish checks the payload
	// UserProperties are the application's properties. Publish rejects the reserved names m-id,
	// m-pub, m-epoch and m-seq. A receiver finds the values of these properties in ID and Origin,
	// see docs/wire.md.
	UserProperties []UserProperty

	// The following fields are set on received messages. Publish rejects a message with an Origin
	// and ignores the other fields. Forward converts a received message into one to publish.

	// ReceivedAt is when the client received the message. In a received message, Expiry is the
	// lifetime that remained at that time, see ExpiresAt.
	ReceivedAt      time.Time
	Duplicate       bool     // the DUP flag: the server may have sent the message before
	SubscriptionIDs []uint32 // identifiers of all matching subscriptions
	Origin          Origin   // sequence number, if the publisher numbers messages
	// OutOfOrder is set with ReceivingConfig.Ordering if messages with higher numbers were handled
	// before this one. Either the message is late, or another message used its number before, see
	// [NumberReused].
	OutOfOrder bool

	// Claim is the exclusive right to handle the message, which the client holds in
	// ReceivingConfig.Dedupe while handlers run. Claim is zero without Dedupe, for messages without
	// a key, and for retained messages that are not deduplicated, see [DedupeRetained]. Claim.Key is
	// the key that is stored in the cache: the key of the message, NUL, and the filter of the
	// handler. A handler can pass the fencing token Claim.Token to its database. The database can
	// then reject writes of a client that was paused while another client handled the message.
	Claim dedupe.Claim
}

// ExpiresAt returns when a received message expires. ExpiresAt returns the zero time if the message
// never expires.
func (m *Message) ExpiresAt() time.Time {
	if m.Expiry == 0 || m.ReceivedAt.IsZero() {
		return time.Time{}
	}
	return m.ReceivedAt.Add(m.Expiry)
}

// packet returns the PUBLISH for m, without the user properties that identify the message.
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

// checkReserved returns a *FieldError if m has a value that only the client may set.
func (m *Message) checkReserved() error {
	if m.Origin != (Origin{}) {
		return &FieldError{Field: "Origin", Problem: "is set, but the client assigns its own sequence numbers; leave it empty, or use Message.Forward to publish a received message"}
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

// reserved reports whether a user property is one of those that identify messages.
func reserved(name string) bool {
	return name == propID || name == propPublisher || name == propEpoch || name == propSeq
}

// Origin is the sequence number of a message, with its publisher and epoch.
type Origin struct {
	Publisher string // name of the publisher, followed by +high or +urgent if the message has that priority
	Epoch     uint64 // changes after the publisher may have lost its sequence numbers
	Seq       uint64 // counts the messages per publisher and topic, from 1; 0 if the message has no number
}

// MessageID identifies a message from publisher to handler. NewMessageID returns UUIDs of version
// 7, which sort by time.
type MessageID [16]byte

// NewMessageID returns a new ID.
func NewMessageID() MessageID { return MessageID(uuid.Must(uuid.NewV7())) }

// ParseMessageID returns the ID for a text. For a UUID, the ID consists of its bytes. For any other
// text, the ID is a digest of the text, so different texts have different IDs.
func ParseMessageID(text string) MessageID {
	if id, err := uuid.Parse(text); err == nil {
		return MessageID(id)
	}
	sum := sha256.Sum256([]byte(text))
	return MessageID(sum[:16])
}

// IsZero reports whether id is the zero value, which means no ID.
func (id MessageID) IsZero() bool { return id == MessageID{} }

// String and MarshalText return the canonical form of the UUID. JSON uses the same form.
func (id MessageID) String() string                { return uuid.UUID(id).String() }
func (id MessageID) MarshalText() ([]byte, error)  { return uuid.UUID(id).MarshalText() }
func (id *MessageID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// SessionLostPolicy selects what happens to messages in flight when the server loses the session.
type SessionLostPolicy = persistence.SessionLostPolicy

const (
	// AsConfigured, in a Message, selects SessionConfig.OnLost. In SessionConfig.OnLost, it means
	// Republish.
	AsConfigured = persistence.AsConfigured
	// Republish publishes the messages again under the same message IDs. Republished messages may
	// arrive twice. A receiver that deduplicates by ID handles them once.
	Republish = persistence.Republish
	// FailInFlight ends the messages with ErrSessionLost. A message with FailInFlight never arrives
	// twice, but it may not arrive at all. After a crash, up to 4,096 unsent messages may be marked
	// as sent and also fail. After damage to the store, all pending messages fail. A takeover by
	// another client counts as a loss of the session.
	FailInFlight = persistence.FailInFlight
)

// identity appends the encoded user properties that identify a message.
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

// userPropertyBytes is the size of a user property in memory, without its text.
const userPropertyBytes = 32

// size returns the approximate size of a message in memory, in bytes.
func (m *Message) size() int {
	n := len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.UserProperties {
		n += userPropertyBytes + len(p.Key) + len(p.Value)
	}
	return n
}

// clone returns a deep copy of the fields of a message that may be changed.
func (m *Message) clone() *Message {
	twin := *m
	twin.Payload, twin.CorrelationData = bytes.Clone(m.Payload), bytes.Clone(m.CorrelationData)
	twin.UserProperties, twin.SubscriptionIDs = slices.Clone(m.UserProperties), slices.Clone(m.SubscriptionIDs)
	return &twin
}
