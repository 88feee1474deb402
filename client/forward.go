package client

import (
	"crypto/sha256"
	"time"

	"github.com/google/uuid"
)

// Forward returns a message that publishes a received one on topic. It keeps the payload, the QoS,
// ContentType, ResponseTopic, CorrelationData, PayloadIsUTF8 and UserProperties, and of Expiry what is
// left; a message that has expired gets an Expiry of a nanosecond. The result shares memory with m.
//
// The ID stays the same on the same topic, as between two servers. On another topic it is derived from
// the ID and that topic. So a message that is received and forwarded twice is a duplicate for
// receivers, and its copies on several topics are not.
//
// Retain, Priority, Conflate and OnSessionLost are not set, and neither is what Publish refuses or
// ignores: Origin, since this client numbers messages by itself, and the fields of a received message.
func (m *Message) Forward(topic string) Message {
	f := Message{
		Topic: topic, Payload: m.Payload, QoS: m.QoS, ID: m.ID, Expiry: m.Expiry,
		ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData,
		PayloadIsUTF8: m.PayloadIsUTF8, UserProperties: m.UserProperties,
	}
	if topic != m.Topic && !m.ID.IsZero() {
		f.ID = MessageID(uuid.NewHash(sha256.New(), uuid.UUID(m.ID), []byte(topic), 8))
	}
	if end := m.ExpiresAt(); !end.IsZero() {
		f.Expiry = max(time.Until(end), 1)
	}
	return f
}
