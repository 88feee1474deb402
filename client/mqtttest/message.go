package mqtttest

import (
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// message is an application message. It never changes after it was made, is
// stored once, and the queues of all sessions refer to it.
type message struct {
	id      uint64 // counts up in the order of arrival
	topic   string
	payload []byte
	// props are the properties in the order they came in, without those that
	// belong to the connection (alias, subscription identifiers) and without
	// the Message Expiry Interval, which is counted down.
	props   wire.Properties
	qos     byte
	retain  bool
	expires time.Time // zero: never

	logged uint64 // the generation of the journal that has it; guarded by Broker.state
}

func (m *message) size() int { return len(m.topic) + len(m.payload) + len(m.props) }

// expired reports whether onward delivery must not begin any more
// [MQTT-3.3.2-5].
func (m *message) expired() bool { return !m.expires.IsZero() && !time.Now().Before(m.expires) }

// newMessage copies a received PUBLISH.
func newMessage(v wire.PublishView, topic string) *message {
	m := &message{topic: topic, qos: v.QoS, retain: v.Retain}
	m.props, m.expires = onward(v.Properties)
	m.payload = append([]byte(nil), v.Payload...)
	return m
}

// onward copies the properties that are passed on as they are, and turns the
// Message Expiry Interval into a point in time.
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

// entry is a message on its way to one session.
type entry struct {
	msg    *message
	qos    byte
	retain bool
	subIDs []uint32 // of all subscriptions that matched; shared, never changed
	share  string   // the whole filter of the Shared Subscription it came by
}

// packet is the PUBLISH for an entry.
func (e *entry) packet(id uint16, dup bool) wire.Publish {
	p := wire.Publish{
		Dup: dup, QoS: e.qos, Retain: e.retain, PacketID: id, Topic: e.msg.topic,
		SubscriptionIDs: e.subIDs, Extra: e.msg.props, Payload: e.msg.payload,
	}
	if !e.msg.expires.IsZero() {
		// What is left, rounded up: a message is never shortened by rounding.
		left := (time.Until(e.msg.expires) + time.Second - 1) / time.Second
		p.HasExpiry, p.MessageExpiry = true, uint32(max(left, 0))
	}
	return p
}
