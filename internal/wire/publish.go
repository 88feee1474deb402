package wire

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// UserProperty is a name and a value. Names may repeat, and the order counts [MQTT-3.3.2-17]
// [MQTT-3.3.2-18].
type UserProperty struct{ Key, Value string }

// Publish is a PUBLISH packet that owns its memory.
type Publish struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16 // 0 at QoS 0, and before it is assigned
	Topic       string

	PayloadFormat   byte // 0 unspecified bytes, 1 UTF-8
	MessageExpiry   uint32
	HasExpiry       bool // MessageExpiry is present
	TopicAlias      uint16
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte // nil: absent
	SubscriptionIDs []uint32
	User            []UserProperty
	Extra           Properties // more encoded properties, written after User

	Payload []byte
}

// Check returns an error if p must not be sent.
func (p *Publish) Check() error {
	switch {
	case p.QoS > 2:
		return &FieldError{"QoS", fmt.Sprintf("is %d; use 0, 1 or 2", p.QoS)}
	case p.PayloadFormat > 1:
		return &FieldError{"Payload Format Indicator", "must be 0 (bytes) or 1 (UTF-8)"}
	case p.PayloadFormat == 1 && !utf8.Valid(p.Payload): // not a UTF-8 Encoded String, so U+0000 is allowed
		return &FieldError{"Payload", "is announced as UTF-8 and is not; clear the Payload Format Indicator or fix the payload"}
	case len(p.SubscriptionIDs) > 0:
		return &FieldError{"Subscription Identifier", "is not allowed in a PUBLISH to a server [MQTT-3.3.4-6]; remove it"}
	case len(p.CorrelationData) > MaxString:
		return &FieldError{"Correlation Data", "is longer than 65,535 bytes; shorten it, it is never cut"}
	}
	if err := CheckTopicName("Topic Name", p.Topic); err != nil {
		return err
	}
	if err := CheckString("Content Type", p.ContentType); err != nil {
		return err
	}
	if p.ResponseTopic != "" {
		if err := CheckTopicName("Response Topic", p.ResponseTopic); err != nil {
			return err
		}
	}
	for _, u := range p.User {
		if err := cmp.Or(CheckString("User Property", u.Key), CheckString("User Property", u.Value)); err != nil {
			return err
		}
	}
	if n := p.remaining(); n > maxVarint {
		return &FieldError{"Payload", fmt.Sprintf("makes a packet of %d bytes; MQTT ends at 268,435,455, send less at a time", n)}
	}
	return nil
}

func (p *Publish) propertyLen() int {
	n := len(p.Extra)
	if p.HasExpiry {
		n += 5
	}
	if p.PayloadFormat != 0 {
		n += 2
	}
	if p.TopicAlias != 0 {
		n += 3
	}
	if p.ContentType != "" {
		n += 3 + len(p.ContentType)
	}
	if p.ResponseTopic != "" {
		n += 3 + len(p.ResponseTopic)
	}
	if p.CorrelationData != nil {
		n += 3 + len(p.CorrelationData)
	}
	for _, id := range p.SubscriptionIDs {
		n += 1 + VarintLen(id)
	}
	for i := range p.User {
		n += 5 + len(p.User[i].Key) + len(p.User[i].Value)
	}
	return n
}

func (p *Publish) remaining() int {
	props := p.propertyLen()
	n := 2 + len(p.Topic) + VarintLen(uint32(min(props, maxVarint))) + props + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	return n
}

// Size returns the number of bytes that AppendPublish appends.
func (p *Publish) Size() int {
	n := p.remaining()
	return 1 + VarintLen(uint32(n)) + n
}

// AppendPublish appends p, which must have passed Check. The Message Expiry Interval must be the
// first property, because AppendImage relies on that.
func AppendPublish(dst []byte, p *Publish) []byte {
	header := byte(PUBLISH)<<4 | p.QoS<<1
	if p.Dup {
		header |= 0x08
	}
	if p.Retain {
		header |= 0x01
	}
	dst = AppendVarint(append(dst, header), uint32(p.remaining()))
	dst = AppendString(dst, p.Topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	}
	dst = AppendVarint(dst, uint32(p.propertyLen()))
	return append(p.AppendProperties(dst), p.Payload...)
}

// AppendProperties appends the properties of p without their length.
func (p *Publish) AppendProperties(dst []byte) []byte {
	if p.HasExpiry {
		dst = binary.BigEndian.AppendUint32(append(dst, PropMessageExpiry), p.MessageExpiry)
	}
	if p.PayloadFormat != 0 {
		dst = append(dst, PropPayloadFormat, p.PayloadFormat)
	}
	if p.TopicAlias != 0 {
		dst = binary.BigEndian.AppendUint16(append(dst, PropTopicAlias), p.TopicAlias)
	}
	if p.ContentType != "" {
		dst = AppendString(append(dst, PropContentType), p.ContentType)
	}
	if p.ResponseTopic != "" {
		dst = AppendString(append(dst, PropResponseTopic), p.ResponseTopic)
	}
	if p.CorrelationData != nil {
		dst = AppendString(append(dst, PropCorrelationData), p.CorrelationData)
	}
	for _, id := range p.SubscriptionIDs {
		dst = AppendVarint(append(dst, PropSubscriptionID), id)
	}
	for i := range p.User {
		dst = AppendString(AppendString(append(dst, PropUser), p.User[i].Key), p.User[i].Value)
	}
	return append(dst, p.Extra...)
}

// ImageTopic returns the topic of a PUBLISH encoded by AppendPublish.
func ImageTopic(image []byte) []byte {
	_, n := Varint(image[1:])
	size := int(binary.BigEndian.Uint16(image[1+n:]))
	return image[3+n : 3+n+size]
}

// AppendImage appends a PUBLISH that AppendPublish has encoded earlier. At QoS 1 and 2 it sets the
// packet identifier and DUP. If the image has a Message Expiry Interval, it sets the remaining
// seconds. All other bytes stay the same.
func AppendImage(dst, image []byte, id uint16, dup bool, expiry uint32) []byte {
	dst = append(dst, image...)
	b := dst[len(dst)-len(image):]
	_, topic, props, length := split(b)
	if props > topic {
		binary.BigEndian.PutUint16(b[topic:], id)
		if dup { // never at QoS 0 [MQTT-3.3.1-2]
			b[0] |= 0x08
		}
	}
	if first := props + VarintLen(length); length >= 5 && b[first] == PropMessageExpiry {
		binary.BigEndian.PutUint32(b[first+1:], expiry)
	}
	return dst
}

// PublishView is a received PUBLISH. Its slices point into the frame from which it was parsed.
type PublishView struct {
	Dup, Retain bool
	QoS         byte
	PacketID    uint16
	Topic       []byte // empty if TopicAlias replaces it
	TopicAlias  uint16 // 0: none
	Properties  Properties
	Payload     []byte
}

// ParsePublish checks and decodes a PUBLISH. The error is an *Error.
func ParsePublish(f Frame) (v PublishView, err error) {
	v.Dup, v.QoS, v.Retain = f.Header&0x08 != 0, f.Header>>1&3, f.Header&1 != 0
	topic, b, ok := String(f.Body)
	v.Topic = topic
	switch {
	case v.QoS == 3:
		return v, Malformed(PUBLISH, "both QoS bits are set [MQTT-3.3.1-4]")
	case v.QoS == 0 && v.Dup:
		return v, Malformed(PUBLISH, "DUP is set at QoS 0 [MQTT-3.3.1-2]")
	case !ok:
		return v, Malformed(PUBLISH, "Topic Name runs past the end of the packet")
	}
	if v.QoS > 0 {
		if len(b) < 2 {
			return v, Malformed(PUBLISH, "Packet Identifier runs past the end of the packet")
		}
		if v.PacketID, b = binary.BigEndian.Uint16(b), b[2:]; v.PacketID == 0 {
			return v, Violation(PUBLISH, "Packet Identifier is 0 [MQTT-2.2.1-4]")
		}
	}
	if v.Properties, v.Payload, err = SplitProperties(PUBLISH, b); err != nil {
		return v, err
	}
	v.TopicAlias = uint16(v.Properties.Find(PropTopicAlias).Int)
	switch {
	case len(topic) == 0 && v.TopicAlias == 0:
		return v, Violation(PUBLISH, "Topic Name is empty and there is no Topic Alias")
	case len(topic) > 0 && !ValidString(topic):
		return v, Malformed(PUBLISH, "Topic Name is not valid UTF-8 or contains U+0000")
	case len(topic) > 0 && !validTopicName(topic):
		return v, Malformed(PUBLISH, "Topic Name contains a wildcard [MQTT-3.3.2-2]")
	}
	return v, nil
}

// SubscriptionIDs appends the Subscription Identifiers of v to dst.
func (v PublishView) SubscriptionIDs(dst []uint32) []uint32 {
	for props := v.Properties; len(props) > 0; {
		if p, _ := props.Next(); p.ID == PropSubscriptionID {
			dst = append(dst, p.Int)
		}
	}
	return dst
}

// Decode copies v into a packet that owns its memory. topic is the resolved Topic Name.
func (v PublishView) Decode(topic string) Publish {
	p := v.DecodeRest(topic)
	p.SubscriptionIDs = v.SubscriptionIDs(nil)
	return p
}

// DecodeRest is like Decode, without the Subscription Identifiers.
func (v PublishView) DecodeRest(topic string) Publish {
	p := Publish{Dup: v.Dup, Retain: v.Retain, QoS: v.QoS, PacketID: v.PacketID, Topic: topic, TopicAlias: v.TopicAlias}
	// One copy contains all strings, and another one all bytes that the caller may change.
	binary, users := len(v.Payload), 0
	for prop := range v.Properties.All() {
		switch prop.ID {
		case PropUser:
			users++
		case PropCorrelationData:
			binary += len(prop.Bytes)
		}
	}
	text := string(v.Properties)
	bytes := make([]byte, 0, binary)
	if users > 0 {
		p.User = make([]UserProperty, 0, users)
	}
	for props := v.Properties; len(props) > 0; {
		prop, _ := props.Next()
		end := len(text) - len(props)
		tail := func(b []byte) string { return text[end-len(b) : end] }
		switch prop.ID {
		case PropPayloadFormat:
			p.PayloadFormat = byte(prop.Int)
		case PropMessageExpiry:
			p.MessageExpiry, p.HasExpiry = prop.Int, true
		case PropContentType:
			p.ContentType = tail(prop.Bytes)
		case PropResponseTopic:
			p.ResponseTopic = tail(prop.Bytes)
		case PropCorrelationData:
			bytes = append(bytes, prop.Bytes...)
			p.CorrelationData = bytes[:len(prop.Bytes):len(prop.Bytes)]
		case PropUser:
			value := tail(prop.Value)
			end -= len(prop.Value) + 2
			p.User = append(p.User, UserProperty{Key: tail(prop.Bytes), Value: value})
		}
	}
	start := len(bytes)
	p.Payload = append(bytes, v.Payload...)[start:]
	return p
}
