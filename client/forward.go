package client

import (
	"crypto/sha256"
	"time"

	"github.com/google/uuid"
)

// Forward returns a message that publishes the received message m on topic. It keeps the payload,
// QoS, ContentType, ResponseTopic, CorrelationData, PayloadIsUTF8 and UserProperties. Expiry is the
// rest of the lifetime, or 1 ns for an expired message. The result shares memory with m.
//
// On the same topic, as between two servers, the ID stays the same. On another topic the ID is
// derived from m's ID and that topic. So receivers detect a message that was forwarded twice as a
// duplicate, and its copies on several topics have different IDs.
//
// Retain, Priority, Conflate and OnSessionLost are not set. Neither are Origin, because this client
// has its own sequence numbers, and the other fields of a received message.
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
