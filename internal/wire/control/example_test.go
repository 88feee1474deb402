package control_test

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// A fake server reads the CONNECT of a client and answers it.
func Example() {
	sent := control.AppendConnect(nil, &control.Connect{ClientID: "pump-7", KeepAlive: 30, SessionExpiry: 3600})

	f, err := wire.NewReader(bytes.NewReader(sent), 0).Next()
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := control.ParseConnect(f)
	fmt.Println(c.ClientID, c.KeepAlive, c.SessionExpiry, err)
	fmt.Printf("% x\n", control.AppendConnack(nil, &control.Connack{ReceiveMaximum: 10}))
	// Output:
	// pump-7 30 3600 <nil>
	// 20 06 00 00 03 21 00 0a
}

// A server reports an unsupported version to a client of MQTT 3.1.1.
func ExampleParseConnect_version() {
	old := []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'}
	f, _ := wire.NewReader(bytes.NewReader(old), 0).Next()
	_, err := control.ParseConnect(f)
	var e *wire.Error
	if errors.As(err, &e) {
		fmt.Printf("% x\n", control.AppendConnack(nil, &control.Connack{Reason: e.Code}))
	}
	// Output: 20 03 00 84 00
}
