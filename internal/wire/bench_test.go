package wire_test

import (
	"bytes"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"

	"github.com/eclipse/paho.golang/packets"
)

var benchPublish = &wire.Publish{Topic: "plant/7/line/3/temperature", QoS: 1, PacketID: 9, HasExpiry: true, MessageExpiry: 60,
	User: []wire.UserProperty{{"m-id", "01900000-0000-7000-8000-000000000000"}, {"m-seq", "42"}}, Payload: make([]byte, 256)}

func BenchmarkReader(b *testing.B) {
	packet := wire.AppendPublish(nil, benchPublish)
	r := wire.NewReader(&endless{packet: packet}, 0)
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParsePublish(b *testing.B) {
	f := frame(b, wire.AppendPublish(nil, benchPublish))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.ParsePublish(f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	v, _ := wire.ParsePublish(frame(b, wire.AppendPublish(nil, benchPublish)))
	b.ReportAllocs()
	for b.Loop() {
		v.Decode("plant/7/line/3/temperature")
	}
}

// BenchmarkPahoReadPacket measures paho.golang's codec for the work of BenchmarkReader,
// ParsePublish and Decode together.
func BenchmarkPahoReadPacket(b *testing.B) {
	packet := wire.AppendPublish(nil, benchPublish)
	r := bytes.NewReader(nil)
	b.SetBytes(int64(len(packet)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(packet)
		if _, err := packets.ReadPacket(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPublish(b *testing.B) {
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = wire.AppendPublish(dst[:0], benchPublish)
	}
}

func BenchmarkAppendImage(b *testing.B) {
	image, dst := wire.AppendPublish(nil, benchPublish), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = wire.AppendImage(dst[:0], image, 7, true, 5)
	}
}

func BenchmarkParseAck(b *testing.B) {
	f := frame(b, wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: 9}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.ParseAck(f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		wire.Match("plant/+/line/+/#", "plant/7/line/3/temperature")
	}
}
