package link_test

import (
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/link"
)

func ExampleParseServer() {
	u, err := link.ParseServer("ssl://broker.example")
	fmt.Println(u, err)
	_, err = link.ParseServer("http://broker.example")
	fmt.Println(err)
	// Output:
	// mqtts://broker.example:8883 <nil>
	// "http://broker.example" has the scheme "http"; use ws for MQTT over WebSocket, or mqtt
}

func ExampleConnackError() {
	err := &link.ConnackError{Reason: 0x87, ReasonString: "no such user"}
	fmt.Println(err)
	// Output: mqtt: server refused CONNECT with reason code 0x87 ("no such user")
}
