package client

import (
	"strconv"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// User properties that identify a message, see docs/wire.md.
const (
	propID        = "m-id"
	propPublisher = "m-pub"
	propEpoch     = "m-epoch"
	propSeq       = "m-seq"
)

// received returns the Message for p. It moves the message ID and the sequence number from the user
// properties to ID and Origin.
func received(p *wire.Publish) *Message {
	m := &Message{
		Topic: p.Topic, Payload: p.Payload, QoS: QoS(p.QoS), Retain: p.Retain, Duplicate: p.Dup,
		Expiry:      time.Duration(p.MessageExpiry) * time.Second,
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData,
		PayloadIsUTF8: p.PayloadFormat == 1, SubscriptionIDs: p.SubscriptionIDs,
	}
	others := p.User[:0]
	for _, u := range p.User {
		switch u.Key {
		case propID:
			m.ID = ParseMessageID(u.Value)
		case propPublisher:
			m.Origin.Publisher = u.Value
		case propEpoch:
			m.Origin.Epoch = number(u.Value)
		case propSeq:
			m.Origin.Seq = number(u.Value)
		default:
			others = append(others, u)
		}
	}
	if len(others) > 0 {
		m.UserProperties = others
	}
	return m
}

// number parses a decimal number. It returns 0, which means no sequence number, for other text.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
