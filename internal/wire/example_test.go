package wire_test

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

func Example() {
	p := wire.Publish{Topic: "plant/7/temp", QoS: 1, Payload: []byte("21.5"), HasExpiry: true, MessageExpiry: 60}
	if err := p.Check(); err != nil {
		fmt.Println(err)
		return
	}
	image := wire.AppendPublish(nil, &p) // the log stores this

	// The message is sent again ten seconds later, under packet identifier 1025.
	stream := wire.AppendImage(nil, image, 1025, true, 50)
	frame, err := wire.NewReader(bytes.NewReader(stream), 0).Next()
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := wire.ParsePublish(frame)
	got := v.Decode(string(v.Topic))
	fmt.Println(got.PacketID, got.Dup, got.Topic, string(got.Payload), got.MessageExpiry, err)
	// Output: 1025 true plant/7/temp 21.5 50 <nil>
}

func ExampleReader() {
	// The peer announces 16 MiB, but the limit is 64 KiB.
	stream := bytes.NewReader([]byte{0x30, 0x80, 0x80, 0x80, 0x08})
	_, err := wire.NewReader(stream, 64<<10).Next()
	var bad *wire.Error
	if errors.As(err, &bad) {
		fmt.Printf("DISCONNECT with 0x%02X\n", bad.Code)
	}
	// Output: DISCONNECT with 0x95
}

func ExamplePublish_Check() {
	p := wire.Publish{Topic: "plant/+/temp"}
	fmt.Println(p.Check())
	// Output: mqtt: Topic Name: contains a wildcard (+ or #); those are for Topic Filters only
}

func ExampleMatch() {
	fmt.Println(wire.Match("plant/#", "plant"))
	fmt.Println(wire.Match("$share/group/plant/+", "plant/7"))
	fmt.Println(wire.Match("#", "$SYS/uptime"))
	// Output:
	// true
	// true
	// false
}
