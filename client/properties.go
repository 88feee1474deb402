package client

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// The user properties that carry the identity of a message, see docs/wire.md.
const (
	propID        = "m-id"
	propPublisher = "m-pub"
	propEpoch     = "m-epoch"
	propSeq       = "m-seq"
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

// received returns the Message that p carries. Its identity is taken out of the user
// properties.
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

// number returns a decimal number. Text that is not a valid number is 0: the message
// is not sequenced.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
