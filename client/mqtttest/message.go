package mqtttest

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// message is an immutable application message. The broker stores it once, and the queues of all
// sessions refer to it.
type message struct {
	id      uint64 // increases in the order of receipt
	topic   string
	payload []byte
	// props are the properties in the order in which they were received. They do not include the
	// Message Expiry Interval, the Topic Alias and Subscription Identifiers.
	props   wire.Properties
	qos     byte
	retain  bool
	expires time.Time // zero: never expires

	logged uint64 // generation of the journal that contains the message; guarded by Broker.state
}

func (m *message) size() int { return len(m.topic) + len(m.payload) + len(m.props) }

// expired reports whether the message has expired. The broker must then not start to deliver it
// [MQTT-3.3.2-5].
func (m *message) expired() bool { return !m.expires.IsZero() && !time.Now().Before(m.expires) }

// newMessage copies a received PUBLISH.
func newMessage(v wire.PublishView, topic string) *message {
	m := &message{topic: topic, qos: v.QoS, retain: v.Retain}
	m.props, m.expires = onward(v.Properties)
	m.payload = append([]byte(nil), v.Payload...)
	return m
}

// onward copies the properties that are forwarded unchanged, and converts the Message Expiry
// Interval into a time.
func onward(props wire.Properties) (kept wire.Properties, expires time.Time) {
	for {
		p, ok := props.Next()
		if !ok {
			return kept, expires
		}
		switch p.ID {
		case wire.PropMessageExpiry:
			expires = time.Now().Add(time.Duration(p.Int) * time.Second)
		case wire.PropTopicAlias, wire.PropSubscriptionID:
		default:
			kept = wire.AppendProperty(kept, p)
		}
	}
}

// entry is a message for one session.
type entry struct {
	msg    *message
	qos    byte
	retain bool
	subIDs []uint32 // of all matching subscriptions; shared and never changed
	share  string   // whole filter of the Shared Subscription for which it was selected
}

// packet returns the PUBLISH for an entry.
func (e *entry) packet(id uint16, dup bool) wire.Publish {
	p := wire.Publish{
		Dup: dup, QoS: e.qos, Retain: e.retain, PacketID: id, Topic: e.msg.topic,
		SubscriptionIDs: e.subIDs, Extra: e.msg.props, Payload: e.msg.payload,
	}
	if !e.msg.expires.IsZero() {
		// Round the remaining expiry up, so that rounding never shortens it.
		left := (time.Until(e.msg.expires) + time.Second - 1) / time.Second
		p.HasExpiry, p.MessageExpiry = true, uint32(max(left, 0))
	}
	return p
}
