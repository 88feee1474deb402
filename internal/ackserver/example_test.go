package ackserver_test

import (
	"fmt"
	"io"
	"net"

	"github.com/mooring-mqtt/mooring/internal/ackserver"
)

func Example() {
	server, err := ackserver.New(ackserver.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Close() }()
	flood, err := server.Flood(ackserver.Flood{Messages: 2, QoS: 1, Topics: []string{"a", "b"}})
	if err != nil {
		fmt.Println(err)
		return
	}

	// The client sends raw packets: CONNECT, SUBSCRIBE, and a PUBACK for each message.
	client, err := net.Dial("tcp", server.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = client.Write([]byte{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, 0, 0, 1, 'c'})
	_, _ = client.Write([]byte{0x82, 7, 0, 1, 0, 0, 1, '#', 1})
	answers := make([]byte, 5+6+2*8) // CONNACK, SUBACK, two PUBLISH
	_, _ = io.ReadFull(client, answers)
	_, _ = client.Write([]byte{0x40, 2, 0, 1, 0x40, 2, 0, 2})

	<-flood.Done()
	fmt.Println(flood.Acked(), flood.Err())
	// Output: 2 <nil>
}
