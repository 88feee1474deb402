package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"

	"github.com/eclipse/paho.golang/packets"
)

// The tests in this file read and write the five data plane packets with this package and with
// paho.golang. A packet that both accept must have the same meaning. A packet that only paho
// accepts must have a reason from the table in reasons_test.go. No packet may be accepted only by
// this package.

// decoded is a packet in a common representation.
type decoded struct {
	Publish wire.Publish
	Ack     wire.Ack
}

// decodeWire decodes a packet as a connection of this package does.
func decodeWire(b []byte) (d decoded, err error) {
	f, err := wire.NewReader(bytes.NewReader(b), 0).Next()
	if err != nil {
		return d, err
	}
	if f.Type() != wire.PUBLISH {
		d.Ack, err = wire.ParseAck(f)
		return d, err
	}
	v, err := wire.ParsePublish(f)
	if err != nil {
		return d, err
	}
	d.Publish = v.Decode(string(v.Topic))
	return d, nil
}

// encoded returns d as this package writes it.
func (d decoded) encoded() []byte {
	if d.Ack.Type != 0 {
		return wire.AppendAck(nil, d.Ack)
	}
	return wire.AppendPublish(nil, &d.Publish)
}

// comparable removes values that paho.golang v0.23.0 cannot represent. It keeps only the last of
// several Subscription Identifiers, and does not distinguish empty from absent.
func (d decoded) comparable() decoded {
	p := &d.Publish
	if n := len(p.SubscriptionIDs); n > 1 {
		p.SubscriptionIDs = p.SubscriptionIDs[n-1:]
	}
	for _, b := range []*[]byte{&p.CorrelationData, &p.Payload, &d.Ack.ReasonString} {
		if len(*b) == 0 {
			*b = nil
		}
	}
	return d
}

// decodePaho decodes a packet with paho. again writes it once more. If paho should not have
// accepted the packet, again may panic.
func decodePaho(b []byte) (d decoded, again func() []byte, err error) {
	cp, err := packets.ReadPacket(bytes.NewReader(b))
	if err != nil {
		return d, nil, err
	}
	again = func() []byte {
		var w bytes.Buffer
		_, _ = cp.Content.WriteTo(&w) // a Buffer accepts all bytes
		return w.Bytes()
	}
	d.Ack.Type = wire.Type(cp.Type)
	ack := func(id uint16, code byte, p *packets.Properties) {
		d.Ack.PacketID, d.Ack.Reason, d.Ack.ReasonString = id, code, []byte(p.ReasonString)
	}
	switch in := cp.Content.(type) {
	case *packets.Puback:
		ack(in.PacketID, in.ReasonCode, in.Properties)
	case *packets.Pubrec:
		ack(in.PacketID, in.ReasonCode, in.Properties)
	case *packets.Pubrel:
		ack(in.PacketID, in.ReasonCode, in.Properties)
	case *packets.Pubcomp:
		ack(in.PacketID, in.ReasonCode, in.Properties)
	case *packets.Publish:
		d = decoded{Publish: theirPublish(in)}
	}
	return d, again, nil
}

func theirPublish(in *packets.Publish) wire.Publish {
	props := in.Properties
	p := wire.Publish{Dup: in.Duplicate, Retain: in.Retain, QoS: in.QoS, PacketID: in.PacketID, Topic: in.Topic, Payload: in.Payload,
		ContentType: props.ContentType, ResponseTopic: props.ResponseTopic, CorrelationData: props.CorrelationData}
	if props.PayloadFormat != nil {
		p.PayloadFormat = *props.PayloadFormat
	}
	if props.MessageExpiry != nil {
		p.HasExpiry, p.MessageExpiry = true, *props.MessageExpiry
	}
	if props.TopicAlias != nil {
		p.TopicAlias = *props.TopicAlias
	}
	if props.SubscriptionIdentifier != nil {
		p.SubscriptionIDs = []uint32{uint32(*props.SubscriptionIdentifier)}
	}
	for _, u := range props.User {
		p.User = append(p.User, wire.UserProperty{u.Key, u.Value})
	}
	return p
}

// compare checks that both sides agree about the first packet in b, or differ for a known reason.
// It returns the packet if this package accepts it.
func compare(t *testing.T, b []byte) (d decoded, accepted bool) {
	t.Helper()
	d, err := decodeWire(b)
	reasons, raw := examine(b)
	if raw == nil { // paho would allocate the announced length
		if err == nil {
			t.Fatalf("%x is not a complete packet, but is accepted", b)
		}
		return d, false
	}
	names := func() (s string) {
		for _, r := range reasons {
			s += fmt.Sprintf("\n\t%s (0x%02X)", r.name, r.code)
		}
		return s
	}
	if accepted = err == nil; accepted != (len(reasons) == 0) {
		t.Fatalf("%x: decoding returned %v, and these are the reasons to refuse it:%s", raw, err, names())
	}
	var bad *wire.Error
	if !accepted && (!errors.As(err, &bad) || !slices.ContainsFunc(reasons, func(r *reason) bool { return r.code == bad.Code })) {
		t.Fatalf("%x: decoding returned %v, and the reasons are:%s", raw, err, names())
	}
	p, again, err := decodePaho(raw)
	if blames := slices.ContainsFunc(reasons, func(r *reason) bool { return r.paho }); blames != (err != nil) {
		t.Fatalf("%x: paho says %v, and the reasons are:%s", raw, err, names())
	}
	if !accepted {
		return d, false
	}
	if own, theirs := d.comparable(), p.comparable(); !reflect.DeepEqual(own, theirs) {
		t.Fatalf("%x: this package reads %+v, paho %+v", raw, own, theirs)
	}
	written := again()
	if back, err := decodeWire(written); err != nil || !reflect.DeepEqual(back.comparable(), d.comparable()) {
		t.Fatalf("%x: paho writes it as %x, which this package reads as %+v, %v", raw, written, back, err)
	}
	return d, true
}

// seeds are valid and invalid packets of all five types.
func seeds(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		f.Add(wire.AppendPublish(nil, anyPublish(r, false)))
	}
	f.Add(samplePublish)
	for _, t := range ackTypes {
		f.Add(wire.AppendAck(nil, wire.Ack{Type: t, PacketID: 1}))
		f.Add(wire.AppendAck(nil, wire.Ack{Type: t, PacketID: 1, Reason: wire.ReasonPacketIDNotFound, ReasonString: []byte("why")}))
		f.Add(append([]byte{ackHeader(t), 11}, "\x00\x01\x00\x07\x26\x00\x01k\x00\x01v"...))
	}
	for _, b := range faulty {
		f.Add([]byte(b.packet))
	}
}

// faulty has one packet for each reason.
var faulty = []struct {
	reason *reason
	packet string
}{
	{cutShort, "\x30\x03\x00\x05t"},
	{otherProperty, "\x30\x07\x00\x01t\x03\x21\x00\x01"},
	{cutVarint, "\x30\x06\x00\x01t\x02\x0B\x80"},
	{longSection, "\x30\x06\x00\x01t\x05\x01\x01"},
	{longVarint, "\x40\x82\x00\x00\x01"},
	{longVarint, "\x40\x82\x80\x80\x80\x00\x00\x01"},
	{longVarint, "\x30\x05\x00\x01t\x80\x00"},
	{reservedFlags, "\x60\x02\x00\x01"},
	{qos3, "\x36\x06\x00\x01t\x00\x01\x00"},
	{dupQoS0, "\x38\x04\x00\x01t\x00"},
	{identifier0, "\x40\x02\x00\x00"},
	{notUTF8, "\x30\x04\x00\x01\xFF\x00"},
	{hasNUL, "\x30\x0A\x00\x01t\x06\x26\x00\x00\x00\x01\x00"},
	{topicWildcard, "\x30\x04\x00\x01#\x00"},
	{noTopic, "\x30\x03\x00\x00\x00"},
	{badResponse, "\x30\x07\x00\x01t\x03\x08\x00\x00"},
	{twice, "\x30\x08\x00\x01t\x04\x01\x01\x01\x00"},
	{outOfRange, "\x30\x06\x00\x01t\x02\x0B\x00"},
	{otherReasonCode, "\x62\x03\x00\x01\x10"},
	{trailing, "\x50\x05\x00\x01\x00\x00x"},
}

func TestReasons_EachIsRefused(t *testing.T) {
	for _, tt := range faulty {
		if found, _ := examine([]byte(tt.packet)); !slices.Equal(found, []*reason{tt.reason}) {
			t.Errorf("%x: found %v, want %q", tt.packet, found, tt.reason.name)
		}
		if _, accepted := compare(t, []byte(tt.packet)); accepted {
			t.Errorf("%x is accepted in spite of: %s", tt.packet, tt.reason.name)
		}
	}
}

// FuzzDecodeAgainstPaho compares decoded packets. It also checks that an accepted packet is written
// unchanged if and only if it is canonical.
func FuzzDecodeAgainstPaho(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if typ := b[0] >> 4; typ < byte(wire.PUBLISH) || typ > byte(wire.PUBCOMP) {
			b = append([]byte{b[0]&0x0F | byte(wire.PUBLISH+wire.Type(typ)%5)<<4}, b[1:]...)
		}
		d, accepted := compare(t, b)
		if !accepted {
			return
		}
		_, raw := examine(b)
		again := d.encoded()
		if canonical(raw) != bytes.Equal(again, raw) {
			t.Fatalf("%x is written again as %x; canonical: %v", raw, again, canonical(raw))
		}
		if !canonical(again) {
			t.Fatalf("%x is not canonical, but this package writes it", again)
		}
		if d2, err := decodeWire(again); err != nil || !reflect.DeepEqual(d, d2) {
			t.Fatalf("%+v became %+v, %v", d, d2, err)
		}
	})
}

// canonical reports whether an accepted packet has the canonical form described in doc.go.
func canonical(raw []byte) bool {
	_, n := wire.Varint(raw[1:])
	body := raw[1+n:]
	if t := wire.Type(raw[0] >> 4); t != wire.PUBLISH {
		if len(body) <= 3 {
			return len(body) == 2 || body[2] != wire.ReasonSuccess
		}
		props, _, _ := wire.SplitProperties(t, body[3:])
		p, _ := props.Next()
		return p.ID == wire.PropReasonString && len(p.Bytes) > 0 && len(props) == 0
	}
	v, err := wire.ParsePublish(wire.Frame{Header: raw[0], Body: body})
	if err != nil {
		return false
	}
	order := []byte{wire.PropMessageExpiry, wire.PropPayloadFormat, wire.PropTopicAlias, wire.PropContentType, wire.PropResponseTopic, wire.PropCorrelationData, wire.PropSubscriptionID, wire.PropUser}
	at := 0
	for props := v.Properties; ; {
		p, ok := props.Next()
		if !ok {
			return true
		}
		place := slices.Index(order, p.ID)
		if place < at || p.ID == wire.PropPayloadFormat && p.Int == 0 || p.ID == wire.PropContentType && len(p.Bytes) == 0 {
			return false
		}
		at = place
	}
}
