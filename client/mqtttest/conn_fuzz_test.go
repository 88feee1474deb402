package mqtttest

import (
	"io"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// FuzzConn lets a client say anything at all: the broker stands, and still
// serves others.
func FuzzConn(f *testing.F) {
	connect := control.AppendConnect(nil, &control.Connect{ClientID: "c", SessionExpiry: 60, Will: &control.Will{Topic: "w", QoS: 2, Retain: true}})
	stream := append([]byte(nil), connect...)
	stream = control.AppendSubscribe(stream, &control.Subscribe{PacketID: 1, Subscriptions: []control.Subscription{{Filter: "#", QoS: 2}, {Filter: "$share/g/+", QoS: 1}}})
	stream = wire.AppendPublish(stream, &wire.Publish{Topic: "t", QoS: 2, PacketID: 1, TopicAlias: 1, HasExpiry: true, MessageExpiry: 1})
	stream = wire.AppendAck(stream, wire.Ack{Type: wire.PUBREC, PacketID: 1})
	stream = wire.AppendAck(stream, wire.Ack{Type: wire.PUBREL, PacketID: 1})
	stream = control.AppendUnsubscribe(stream, &control.Unsubscribe{PacketID: 2, Filters: []string{"#"}})
	stream = control.AppendPingreq(stream)
	f.Add(append(stream, control.AppendDisconnect(nil, &control.Disconnect{Reason: 4})...), false)
	f.Add(stream[len(connect):], true)
	f.Add([]byte("\x10\x15\x00\x04MQTT\x04\x2c\x00\x3c\x00\x01o\x00\x01w\x00\x03off\x82\x06\x00\x01\x00\x01w\x02\x32\x06\x00\x01w\x00\x01x\x40\x02\x00\x01\xe0\x00"), false) // MQTT 3.1.1
	b, err := New(Options{NoTCP: true, Dir: f.TempDir(), MQTT311: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = b.Close() })
	f.Fuzz(func(t *testing.T, said []byte, connected bool) {
		nc := b.Dial()
		go func() { _, _ = io.Copy(io.Discard, nc) }() // ends with nc
		if connected {
			_, _ = nc.Write(connect)
		}
		_, _ = nc.Write(said) // the broker may close at any point
		_ = nc.Close()
		if err := b.WaitFor(t.Context(), func() bool { return b.Stats().Connections == 0 }); err != nil {
			t.Fatal(err)
		}
	})
}
