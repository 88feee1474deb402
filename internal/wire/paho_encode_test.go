package wire_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"

	"github.com/eclipse/paho.golang/packets"
)

// mutate returns a packet with a few bytes of its body changed, removed or inserted, and a matching
// Remaining Length. Occasionally it returns the packet unchanged.
func mutate(r *rand.Rand, packet []byte) []byte {
	_, n := wire.Varint(packet[1:])
	header, body := packet[0], bytes.Clone(packet[1+n:])
	interesting := []byte{0, 1, 2, 3, 7, 8, '#', '+', 0x10, 0x1F, 0x23, 0x26, 0x7F, 0x80, 0x92, 0xC0, 0xED, 0xFF}
	for range r.IntN(4) {
		at := r.IntN(min(len(body), 40) + 1)
		end := min(at+r.IntN(8), len(body))
		b := interesting[r.IntN(len(interesting))]
		switch r.IntN(5) {
		case 0:
			if at < len(body) {
				body[at] = b
			}
		case 1:
			body = append(body[:at], append([]byte{b}, body[at:]...)...)
		case 2:
			body = append(body[:at], body[end:]...)
		case 3: // for example a property
			body = append(body[:end], append(bytes.Clone(body[at:end]), body[end:]...)...)
		case 4:
			header = header&0xF0 | byte(r.IntN(16))
		}
	}
	out := wire.AppendVarint([]byte{header}, uint32(len(body)))
	if r.IntN(20) == 0 {
		out[len(out)-1] |= 0x80
		out = append(out, 0)
	}
	return append(out, body...)
}

// TestMutationsAgainstPaho runs FuzzDecodeAgainstPaho briefly, with changes that keep more of a
// packet's structure than the fuzzer's changes.
func TestMutationsAgainstPaho(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	accepted, refused := 0, 0
	for range 60_000 {
		p := wire.Publish{Topic: "a/b"}
		switch r.IntN(3) {
		case 0:
			p = *anyPublish(r, false)
		case 1: // short, so that changes hit relevant bytes
			p = wire.Publish{Topic: "t", QoS: byte(r.IntN(3)), PacketID: 1, TopicAlias: 1, SubscriptionIDs: []uint32{200}, ResponseTopic: "r",
				User: []wire.UserProperty{{"k", "v"}}}
		}
		if p.QoS == 0 {
			p.PacketID = 0
		}
		packet := wire.AppendPublish(nil, &p)
		if r.IntN(2) == 0 {
			typ := ackTypes[r.IntN(len(ackTypes))]
			packet = wire.AppendAck(nil, wire.Ack{Type: typ, PacketID: 7, Reason: wire.ReasonPacketIDNotFound, ReasonString: []byte("why")})
			if r.IntN(2) == 0 {
				packet = wire.AppendAck(nil, wire.Ack{Type: typ, PacketID: 7})
			}
		}
		if _, ok := compare(t, mutate(r, packet)); ok {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 10_000 || refused < 10_000 {
		t.Errorf("%d accepted and %d refused: the changes are too many or too few", accepted, refused)
	}
}

// FuzzEncodeAgainstPaho checks packets that pass Check. paho must read the intended values,
// decoding must give the same packet, and AppendImage must change only the documented bytes.
func FuzzEncodeAgainstPaho(f *testing.F) {
	f.Add(byte(0x0B), uint16(7), "a/b", "text/plain", "r", []byte("c"), "k", "v", uint32(60), []byte("payload"))
	f.Add(byte(0), uint16(0), "t", "", "", []byte(nil), "", "", uint32(0), []byte{0xFF})
	f.Add(byte(0x7F), uint16(9), "温度", "\xFF", "+", []byte{}, "\x00", "v", uint32(1), []byte{})
	f.Fuzz(func(t *testing.T, flags byte, id uint16, topic, contentType, response string, correlation []byte, key, value string, expiry uint32, payload []byte) {
		p := wire.Publish{QoS: flags & 3, Retain: flags&4 != 0, Topic: topic, ContentType: contentType, ResponseTopic: response,
			CorrelationData: correlation, HasExpiry: flags&8 != 0, PayloadFormat: flags >> 4 & 1, Payload: payload}
		if p.HasExpiry {
			p.MessageExpiry = expiry
		}
		if p.QoS > 0 {
			p.PacketID, p.Dup = max(id, 1), flags&0x20 != 0
		}
		if flags&0x40 != 0 {
			p.User = []wire.UserProperty{{key, value}, {value, key}}
		}
		if flags&0x80 != 0 {
			p.TopicAlias = max(id, 1)
		}
		checked := p.Check()
		if len(correlation) > wire.MaxString || len(topic) > wire.MaxString || len(contentType) > wire.MaxString || len(response) > wire.MaxString || len(key) > wire.MaxString || len(value) > wire.MaxString {
			if checked == nil {
				t.Fatalf("%d bytes are let through", p.Size())
			}
			return // paho would truncate it
		}
		if p.QoS < 3 {
			paho := pahoWrites(&p)
			d, accepted := compare(t, paho)
			if checked == nil && (!accepted || !reflect.DeepEqual(d.comparable(), decoded{Publish: p}.comparable())) {
				t.Fatalf("%+v passes Check, paho writes it as %x, and this package reads %+v", p, paho, d.Publish)
			}
		}
		if checked != nil {
			return
		}
		image := wire.AppendPublish(nil, &p)
		if len(image) != p.Size() || !canonical(image) {
			t.Fatalf("%x: %d bytes, Size says %d; canonical: %v", image, len(image), p.Size(), canonical(image))
		}
		d, accepted := compare(t, image)
		if !accepted || !reflect.DeepEqual(d.comparable(), decoded{Publish: p}.comparable()) || !bytes.Equal(d.encoded(), image) {
			t.Fatalf("%+v became %x, which is read as %+v", p, image, d.Publish)
		}
		want := p
		want.Dup, want.PacketID = p.QoS > 0, 0
		if p.QoS > 0 {
			want.PacketID = 0xABCD
		}
		if p.HasExpiry {
			want.MessageExpiry = 5
		}
		if got := wire.AppendImage(nil, image, 0xABCD, true, 5); !bytes.Equal(got, wire.AppendPublish(nil, &want)) {
			t.Fatalf("%x was patched to %x", image, got)
		}
	})
}

// pahoWrites returns p as paho writes it.
func pahoWrites(p *wire.Publish) []byte {
	props := &packets.Properties{ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData}
	if p.PayloadFormat != 0 {
		props.PayloadFormat = &p.PayloadFormat
	}
	if p.HasExpiry {
		props.MessageExpiry = &p.MessageExpiry
	}
	if p.TopicAlias != 0 {
		props.TopicAlias = &p.TopicAlias
	}
	for _, u := range p.User {
		props.User = append(props.User, packets.User{Key: u.Key, Value: u.Value})
	}
	out := packets.Publish{Topic: p.Topic, QoS: p.QoS, PacketID: p.PacketID, Duplicate: p.Dup, Retain: p.Retain, Payload: p.Payload, Properties: props}
	var b bytes.Buffer
	_, _ = out.WriteTo(&b) // a Buffer accepts all bytes
	return b.Bytes()
}

// FuzzAckAgainstPaho checks the same for the four acknowledgements.
func FuzzAckAgainstPaho(f *testing.F) {
	f.Add(byte(0), uint16(1), byte(0), "", "", "")
	f.Add(byte(2), uint16(9), byte(0x92), "why", "k", "v")
	f.Fuzz(func(t *testing.T, typ byte, id uint16, code byte, text, key, value string) {
		a := wire.Ack{Type: wire.PUBACK + wire.Type(typ%4), PacketID: id, Reason: code, ReasonString: []byte(text)}
		if len(text) > wire.MaxString || len(key) > wire.MaxString || len(value) > wire.MaxString {
			return
		}
		allowed := id != 0 && wire.CheckServerReason(a.Type, code) == nil && wire.ValidString(a.ReasonString)
		b := wire.AppendAck(nil, a)
		if d, accepted := compare(t, b); accepted != allowed || accepted && (!bytes.Equal(wire.AppendAck(nil, d.Ack), b) || !canonical(b)) {
			t.Fatalf("%+v became %x, which is read as %+v, %v", a, b, d.Ack, accepted)
		}
		props := &packets.Properties{ReasonString: text}
		if typ&0x80 != 0 {
			props.User = []packets.User{{Key: key, Value: value}}
			allowed = allowed && wire.ValidString([]byte(key)) && wire.ValidString([]byte(value))
		}
		d, accepted := compare(t, pahoWritesAck(a, props))
		if a.ReasonString = nil; text != "" {
			a.ReasonString = []byte(text)
		}
		if accepted != allowed || accepted && !reflect.DeepEqual(d.comparable().Ack, a) {
			t.Fatalf("%+v, written by paho, is read as %+v, %v", a, d.Ack, accepted)
		}
	})
}

func pahoWritesAck(a wire.Ack, props *packets.Properties) []byte {
	var out packets.Packet
	switch a.Type {
	case wire.PUBACK:
		out = &packets.Puback{PacketID: a.PacketID, ReasonCode: a.Reason, Properties: props}
	case wire.PUBREC:
		out = &packets.Pubrec{PacketID: a.PacketID, ReasonCode: a.Reason, Properties: props}
	case wire.PUBREL:
		out = &packets.Pubrel{PacketID: a.PacketID, ReasonCode: a.Reason, Properties: props}
	case wire.PUBCOMP:
		out = &packets.Pubcomp{PacketID: a.PacketID, ReasonCode: a.Reason, Properties: props}
	}
	var b bytes.Buffer
	_, _ = out.WriteTo(&b)
	return b.Bytes()
}

// The longest possible strings are written and read in both directions.
func TestLargestStringsAgainstPaho(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), wire.MaxString))
	p := wire.Publish{Topic: long, ContentType: long, ResponseTopic: long, CorrelationData: []byte(long), User: []wire.UserProperty{{long, long}},
		Payload: binary.BigEndian.AppendUint32(nil, 7)}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{wire.AppendPublish(nil, &p), pahoWrites(&p)} {
		if d, accepted := compare(t, b); !accepted || !reflect.DeepEqual(d.Publish, p) {
			t.Errorf("%d bytes: accepted %v, read as something else", len(b), accepted)
		}
	}
}
