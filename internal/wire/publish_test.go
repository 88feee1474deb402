package wire_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// anyPublish returns a random valid PUBLISH with absent, empty and full fields. With toServer it
// omits what only a server may send.
func anyPublish(r *rand.Rand, toServer bool) *wire.Publish {
	yes := func() bool { return r.IntN(2) == 0 }
	text := func() string {
		return []string{"", "a", "plant/7/temp", "温度", strings.Repeat("long ", 60)}[r.IntN(5)]
	}
	p := &wire.Publish{
		Topic: "t/" + text(), QoS: byte(r.IntN(3)), Retain: yes(), PayloadFormat: byte(r.IntN(2)),
		ContentType: text(), ResponseTopic: text(), Payload: []byte(text()),
	}
	if p.QoS > 0 {
		p.PacketID, p.Dup = uint16(1+r.IntN(65_535)), yes()
	}
	if yes() {
		p.HasExpiry, p.MessageExpiry = true, r.Uint32()
	}
	if yes() {
		p.CorrelationData = []byte(text())
	}
	for range r.IntN(3) {
		p.User = append(p.User, wire.UserProperty{Key: text(), Value: text()})
	}
	if !toServer {
		p.TopicAlias = uint16(r.IntN(2) * 9)
		for range r.IntN(3) {
			p.SubscriptionIDs = append(p.SubscriptionIDs, uint32(1+r.IntN(wire.MaxVarint)))
		}
	}
	return p
}

func TestPublishRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		p := anyPublish(r, r.IntN(2) == 0)
		if err := p.Check(); err != nil && len(p.SubscriptionIDs) == 0 {
			t.Fatalf("%+v: %v", p, err)
		}
		b := wire.AppendPublish([]byte("before"), p)[len("before"):]
		if len(b) != p.Size() {
			t.Fatalf("Size says %d, it took %d: %+v", p.Size(), len(b), p)
		}
		v, err := wire.ParsePublish(frame(t, b))
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		got := v.Decode(string(v.Topic))
		clear(b) // the result of Decode must own its memory
		if !reflect.DeepEqual(&got, p) {
			t.Fatalf("%+v became %+v", p, &got)
		}
	}
}

func TestDecode_FieldsDoNotShareMemory(t *testing.T) {
	p := &wire.Publish{Topic: "t", CorrelationData: []byte("data"), Payload: []byte("payload")}
	v, err := wire.ParsePublish(frame(t, wire.AppendPublish(nil, p)))
	if err != nil {
		t.Fatal(err)
	}
	got := v.Decode("t")
	got.CorrelationData = append(got.CorrelationData, "over"...)
	if string(got.Payload) != "payload" {
		t.Errorf("appending to Correlation Data wrote into the payload: %q", got.Payload)
	}
}

func TestAppendPublish_ExtraProperties(t *testing.T) {
	p := &wire.Publish{Topic: "t", Extra: wire.AppendProperty(nil, wire.Property{ID: wire.PropUser, Bytes: []byte("k"), Value: []byte("v")})}
	v, err := wire.ParsePublish(frame(t, wire.AppendPublish(nil, p)))
	if got := v.Decode("t"); err != nil || !reflect.DeepEqual(got.User, []wire.UserProperty{{"k", "v"}}) {
		t.Errorf("got %+v, %v", got.User, err)
	}
}

func TestPublishCheck(t *testing.T) {
	long := strings.Repeat("x", wire.MaxString+1)
	for _, tt := range []struct {
		field string
		p     wire.Publish
	}{
		{"QoS", wire.Publish{Topic: "t", QoS: 3}},
		{"Topic Name", wire.Publish{}},
		{"Topic Name", wire.Publish{Topic: "a/+"}},
		{"Topic Name", wire.Publish{Topic: long}},
		{"Payload Format Indicator", wire.Publish{Topic: "t", PayloadFormat: 2}},
		{"Payload", wire.Publish{Topic: "t", PayloadFormat: 1, Payload: []byte{0xFF}}},
		{"Payload", wire.Publish{Topic: "t", Payload: make([]byte, wire.MaxVarint)}},
		{"Subscription Identifier", wire.Publish{Topic: "t", SubscriptionIDs: []uint32{1}}},
		{"Content Type", wire.Publish{Topic: "t", ContentType: "\x00"}},
		{"Response Topic", wire.Publish{Topic: "t", ResponseTopic: "#"}},
		{"Correlation Data", wire.Publish{Topic: "t", CorrelationData: []byte(long)}},
		{"User Property", wire.Publish{Topic: "t", User: []wire.UserProperty{{Key: long}}}},
		{"User Property", wire.Publish{Topic: "t", User: []wire.UserProperty{{Value: "\xFF"}}}},
	} {
		var f *wire.FieldError
		if err := tt.p.Check(); !errors.As(err, &f) || f.Field != tt.field {
			t.Errorf("want an error about %s, got %v", tt.field, err)
		} else if f.Problem == "" || !strings.Contains(f.Error(), tt.field) {
			t.Errorf("the message says too little: %v", f)
		}
	}
	largest := wire.Publish{Topic: "t", Payload: make([]byte, wire.MaxVarint-4)}
	if err := largest.Check(); err != nil || largest.Size() != wire.MaxPacketSize {
		t.Errorf("the largest packet there is: %v, %d bytes", err, largest.Size())
	}
	// U+0000 is well-formed UTF-8. Only strings must not contain it (3.3.2.3.2).
	null := wire.Publish{Topic: "t", PayloadFormat: 1, Payload: []byte("a\x00b")}
	if err := null.Check(); err != nil {
		t.Errorf("a text with U+0000: %v", err)
	}
}

func TestParsePublish_Errors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header byte
		body   string
		code   byte
	}{
		{"QoS 3 [MQTT-3.3.1-4]", 0x36, "\x00\x01t\x00\x01\x00", 0x81},
		{"DUP at QoS 0 [MQTT-3.3.1-2]", 0x38, "\x00\x01t\x00", 0x81},
		{"empty", 0x30, "", 0x81},
		{"topic cut off", 0x30, "\x00\x05abc", 0x81},
		{"no packet identifier", 0x32, "\x00\x01t", 0x81},
		{"half a packet identifier", 0x32, "\x00\x01t\x00", 0x81},
		{"packet identifier 0 [MQTT-2.2.1-3]", 0x32, "\x00\x01t\x00\x00\x00", 0x82},
		{"no properties", 0x30, "\x00\x01t", 0x81},
		{"properties cut off", 0x30, "\x00\x01t\x05\x01", 0x81},
		{"property of CONNECT", 0x30, "\x00\x01t\x03\x21\x00\x01", 0x81},
		{"no topic and no alias", 0x30, "\x00\x00\x00", 0x82},
		{"topic with U+0000", 0x30, "\x00\x01\x00\x00", 0x81},
		{"topic with a surrogate", 0x30, "\x00\x03\xED\xA0\x80\x00", 0x81},
		{"topic with +", 0x30, "\x00\x01+\x00", 0x81},
		{"topic with #", 0x30, "\x00\x03a/#\x00", 0x81},
		{"topic with # and an alias", 0x30, "\x00\x01#\x03\x23\x00\x01", 0x81},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wire.ParsePublish(wire.Frame{Header: tt.header, Body: []byte(tt.body)})
			wantCode(t, err, tt.code)
		})
	}
	v, err := wire.ParsePublish(wire.Frame{Header: 0x30, Body: []byte("\x00\x00\x03\x23\x00\x07x")})
	if err != nil || v.TopicAlias != 7 || len(v.Topic) != 0 || string(v.Payload) != "x" {
		t.Errorf("alias in place of the topic: %+v, %v", v, err)
	}
}

// AppendImage changes only the identifier, DUP and the expiry.
func TestAppendImage_ChangesOnlyDocumentedBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		p := anyPublish(r, true)
		p.Dup = false
		image := wire.AppendPublish(nil, p)
		stored := bytes.Clone(image)
		id, dup, expiry := uint16(1+r.IntN(65_535)), r.IntN(2) == 0, r.Uint32()
		got := wire.AppendImage([]byte("before"), image, id, dup, expiry)[len("before"):]
		want := *p
		if p.QoS > 0 {
			want.PacketID, want.Dup = id, dup
		}
		if p.HasExpiry {
			want.MessageExpiry = expiry
		}
		if w := wire.AppendPublish(nil, &want); !bytes.Equal(got, w) {
			t.Fatalf("%+v: got %x, want %x", p, got, w)
		}
		if !bytes.Equal(image, stored) {
			t.Fatal("the stored image was changed")
		}
	}
}

// DUP at QoS 0 is a malformed packet [MQTT-3.3.1-2].
func TestAppendImage_NoDupAtQoS0(t *testing.T) {
	b := wire.AppendImage(nil, wire.AppendPublish(nil, &wire.Publish{Topic: "t"}), 5, true, 0)
	if _, err := wire.ParsePublish(frame(t, b)); err != nil {
		t.Error(err)
	}
}

func TestPublishAllocations(t *testing.T) {
	p := &wire.Publish{Topic: "plant/7/temp", QoS: 1, PacketID: 9, HasExpiry: true, MessageExpiry: 60,
		User: []wire.UserProperty{{"m-id", "0190"}, {"m-seq", "7"}}, Payload: make([]byte, 256)}
	image := wire.AppendPublish(nil, p)
	f := frame(t, image)
	dst := make([]byte, 0, 1024)
	for name, tt := range map[string]struct {
		max float64
		do  func()
	}{
		"ParsePublish":  {0, func() { _, _ = wire.ParsePublish(f) }},
		"AppendPublish": {0, func() { wire.AppendPublish(dst, p) }},
		"AppendImage":   {0, func() { wire.AppendImage(dst, image, 7, true, 5) }},
		"Check":         {0, func() { _ = p.Check() }},
		"Decode":        {3, func() { v, _ := wire.ParsePublish(f); v.Decode("t") }}, // text, bytes, user properties
		"Match":         {0, func() { wire.Match("plant/+/temp/#", "plant/7/temp") }},
	} {
		if n := testing.AllocsPerRun(100, tt.do); n > tt.max {
			t.Errorf("%s: %v allocations, want at most %v", name, n, tt.max)
		}
	}
}
