package wire_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

var samplePublish = wire.AppendPublish(nil, &wire.Publish{Topic: "a/b", QoS: 1, PacketID: 5, PayloadFormat: 1, HasExpiry: true, MessageExpiry: 60,
	TopicAlias: 3, ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte{1}, SubscriptionIDs: []uint32{1, 300},
	User: []wire.UserProperty{{"k", "v"}, {"k", ""}}, Payload: []byte("payload")})

// typed checks that err is nil or an *Error that is valid in a DISCONNECT.
func typed(t *testing.T, err error) {
	var e *wire.Error
	if err != nil && (!errors.As(err, &e) || e.Code < 0x80 || e.Detail == "") {
		t.Fatalf("not a proper *Error: %#v", err)
	}
}

// FuzzReader checks that the frames do not depend on how bytes arrive, that together they are the
// stream, and that no frame exceeds the maximum.
func FuzzReader(f *testing.F) {
	f.Add(append(samplePublish, 0xD0, 0), uint32(0))
	f.Add([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 1, 2}, uint32(100))
	f.Add([]byte{0x30, 0x80, 0x00}, uint32(0))
	f.Fuzz(func(t *testing.T, stream []byte, limit uint32) {
		read := func(src io.Reader) (frames [][]byte, end error) {
			r := wire.NewReader(src, limit)
			for {
				fr, err := r.Next()
				if err != nil {
					return frames, err
				}
				if limit > 0 && len(fr.Raw) > int(limit) {
					t.Fatalf("frame of %d bytes, limit %d", len(fr.Raw), limit)
				}
				frames = append(frames, bytes.Clone(fr.Raw))
			}
		}
		whole, err1 := read(bytes.NewReader(stream))
		single, err2 := read(iotest.OneByteReader(bytes.NewReader(stream)))
		if !reflect.DeepEqual(whole, single) || err1.Error() != err2.Error() {
			t.Fatalf("at once: %x, %v; byte by byte: %x, %v", whole, err1, single, err2)
		}
		joined := bytes.Join(whole, nil)
		if !bytes.HasPrefix(stream, joined) || err1 == io.EOF && len(joined) != len(stream) {
			t.Fatalf("%x was cut into %x", stream, whole)
		}
		if err1 != io.EOF && err1 != io.ErrUnexpectedEOF {
			typed(t, err1)
		}
	})
}

// FuzzParsePublish checks that an accepted packet has the same meaning after it is written and read
// again.
func FuzzParsePublish(f *testing.F) {
	fr := frame(f, samplePublish)
	f.Add(fr.Header, fr.Body)
	f.Add(byte(0x30), []byte("\x00\x00\x03\x23\x00\x07x"))
	f.Fuzz(func(t *testing.T, header byte, body []byte) {
		v, err := wire.ParsePublish(wire.Frame{Header: byte(wire.PUBLISH)<<4 | header&0x0F, Body: body})
		typed(t, err)
		if err != nil {
			return
		}
		p := v.Decode(string(v.Topic))
		v2, err := wire.ParsePublish(frame(t, wire.AppendPublish(nil, &p)))
		if err != nil {
			t.Fatalf("%+v is not read back: %v", p, err)
		}
		if q := v2.Decode(string(v2.Topic)); !reflect.DeepEqual(p, q) {
			t.Fatalf("%+v became %+v", p, q)
		}
	})
}

// FuzzParseAck checks the same for the four acknowledgements.
func FuzzParseAck(f *testing.F) {
	f.Add(byte(0x40), []byte{0, 1})
	f.Add(byte(0x62), []byte("\x00\x01\x92\x0A\x1F\x00\x01x\x26\x00\x00\x00\x01y"))
	f.Fuzz(func(t *testing.T, header byte, body []byte) {
		typ := wire.PUBACK + wire.Type(header>>4)%4
		a, err := wire.ParseAck(wire.Frame{Header: byte(typ)<<4 | header&0x0F, Body: body})
		typed(t, err)
		if err != nil {
			return
		}
		b, err := wire.ParseAck(frame(t, wire.AppendAck(nil, a)))
		if err != nil || a.Type != b.Type || a.PacketID != b.PacketID || a.Reason != b.Reason || !bytes.Equal(a.ReasonString, b.ReasonString) {
			t.Fatalf("%+v became %+v, %v", a, b, err)
		}
	})
}

// FuzzProperties checks that properties accepted by SplitProperties can be read to the end and are
// written unchanged.
func FuzzProperties(f *testing.F) {
	for _, row := range table24 {
		f.Add(byte(row.in[0]), section(string(append([]byte{row.id}, row.value...))))
	}
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		props, rest, err := wire.SplitProperties(wire.Type(typ&0x0F), b)
		typed(t, err)
		if err != nil {
			return
		}
		if wire.VarintLen(uint32(len(props)))+len(props)+len(rest) != len(b) {
			t.Fatalf("%x was split into %x and %x", b, props, rest)
		}
		var again []byte
		for walk := props; len(walk) > 0; {
			p, ok := walk.Next()
			if !ok {
				t.Fatalf("%x was accepted and cannot be walked", props)
			}
			again = wire.AppendProperty(again, p)
		}
		if !bytes.Equal(again, props) {
			t.Fatalf("%x was written back as %x", props, again)
		}
	})
}

// FuzzMatch checks that Match agrees with the slow model for valid filters and topics, and never
// panics.
func FuzzMatch(f *testing.F) {
	f.Add("sport/tennis/#", "sport/tennis")
	f.Add("$share/g/+/b", "a/b")
	f.Add("#", "$SYS/x")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		got := wire.Match(filter, topic)
		if wire.CheckTopicFilter(filter) != nil || wire.CheckTopicName("Topic Name", topic) != nil {
			return
		}
		if want := slowMatch(filter, topic); got != want {
			t.Fatalf("Match(%q, %q) = %v, the model says %v", filter, topic, got, want)
		}
	})
}
