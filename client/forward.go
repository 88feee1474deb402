package client

import (
	"crypto/sha256"
	"time"

	"github.com/google/uuid"
)

// Forward returns a message that publishes the received message m on topic. Forward keeps the
// payload, QoS, ContentType, ResponseTopic, CorrelationData, PayloadIsUTF8 and UserProperties.
// Expiry becomes the remaining lifetime, or 1 ns if m has expired. The result shares memory with m.
//
// If topic is the topic of m, for example between two servers, the ID stays the same. For another
// topic, Forward derives the ID from m's ID and that topic. Receivers therefore treat a message
// that is forwarded twice to one topic as a duplicate. Copies on different topics have different
// IDs.
//
// Forward does not set Retain, Priority, Conflate, OnSessionLost, or the fields that only received
// messages have. Forward does not set Origin either, because this client assigns its own sequence
// numbers.
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
