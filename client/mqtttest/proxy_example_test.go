package mqtttest_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// acknowledger is a stand-in for a broker: it answers CONNECT, and then says
// PUBACK to everything.
func acknowledger(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer func() { _ = far.Close() }()
		in := make([]byte, 1024)
		for answer := []byte{0x20, 3, 0, 0, 0}; ; answer = []byte{0x40, 2, 0, 1} {
			if _, err := far.Read(in); err != nil {
				return
			}
			if _, err := far.Write(answer); err != nil {
				return
			}
		}
	}()
	return near, nil
}

// An acknowledgement gets lost the only way TCP can lose it: the broker has the
// message, the connection is gone, and the client must not guess.
func ExampleProxy_Lose() {
	proxy := mqtttest.NewPipeProxy(acknowledger) // with a broker: mqtttest.StartProxy(t, broker.URL())
	defer func() { _ = proxy.Close() }()
	proxy.Lose(mqtttest.ToClient, mqtttest.PUBACK)

	client, err := proxy.Dial() // with a client: connect to proxy.URL()
	if err != nil {
		fmt.Println(err)
		return
	}
	answer := make([]byte, 5)
	_, _ = client.Write([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, 0, 0, 0})
	_, _ = io.ReadFull(client, answer)
	fmt.Printf("CONNACK %x\n", answer)

	_, _ = client.Write([]byte{0x32, 6, 0, 1, 'a', 0, 1, 0}) // PUBLISH at QoS 1
	_, err = client.Read(answer)
	fmt.Println("instead of PUBACK:", err)
	fmt.Println("lost:", proxy.Stats().Lost)
	// Output:
	// CONNACK 2003000000
	// instead of PUBACK: EOF
	// lost: 1
}

// A hook sees every packet and decides what becomes of it.
func ExampleProxy_OnPacket() {
	proxy := mqtttest.NewPipeProxy(acknowledger)
	defer func() { _ = proxy.Close() }()
	proxy.OnPacket(func(dir mqtttest.Direction, header byte, body []byte) mqtttest.Action {
		t := mqtttest.PacketType(header >> 4)
		fmt.Printf("%v: %v, %d bytes\n", dir, t, len(body))
		if t == mqtttest.CONNACK {
			return mqtttest.ActionTear
		}
		return mqtttest.ActionPass
	})
	client, err := proxy.Dial()
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = client.Write([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, 0, 0, 0})
	torn, _ := io.ReadAll(client)
	fmt.Printf("arrived: %x\n", torn)
	// Output:
	// to server: CONNECT, 13 bytes
	// to client: CONNACK, 3 bytes
	// arrived: 2003
}
