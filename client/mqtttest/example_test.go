package mqtttest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// A test starts a broker in one line:
//
//	func TestPump(t *testing.T) {
//		b := mqtttest.Start(t)
//		c := connect(b.URL())
//		…
//	}
//
// A program makes one with New.
func ExampleNew() {
	b, err := mqtttest.New(mqtttest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()

	nc, err := net.Dial("tcp", b.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	// CONNECT with Clean Start, keep alive 0 and the Client Identifier "c".
	_, _ = nc.Write([]byte{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 1, 'c'})
	connack := make([]byte, 4)
	_, err = io.ReadFull(nc, connack)
	fmt.Printf("packet type %d, reason 0x%02X, error %v\n", connack[0]>>4, connack[3], err)
	fmt.Println(b.Connected("c"))
	// Output:
	// packet type 2, reason 0x00, error <nil>
	// true
}

// A hook sees what goes over the wire; here the client of a test that must
// answer a takeover by staying away.
func ExampleBroker_Disconnect() {
	b, err := mqtttest.New(mqtttest.Options{
		NoTCP: true,
		OnPacket: func(_ context.Context, dir mqtttest.Direction, clientID string, packet []byte) {
			fmt.Printf("%s: %v\n", dir, mqtttest.PacketType(packet[0]>>4))
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()

	nc := b.Dial()
	_, _ = nc.Write([]byte{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 1, 'c'})
	_, _ = nc.Read(make([]byte, 64)) // CONNACK
	b.Disconnect("c", 0x8E)
	_, err = io.Copy(io.Discard, nc)
	fmt.Println("closed:", err == nil || errors.Is(err, io.ErrClosedPipe))
	// Output:
	// to server: CONNECT
	// to client: CONNACK
	// to client: DISCONNECT
	// closed: true
}

// A broker that is killed and started again on the same folder and the same
// port goes on where it was.
func ExampleBroker_Kill() {
	dir, err := os.MkdirTemp("", "mqtttest")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	options := mqtttest.Options{Dir: dir}
	b, err := mqtttest.New(options)
	if err != nil {
		fmt.Println(err)
		return
	}
	nc, err := net.Dial("tcp", b.Addr())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	// CONNECT with a Session Expiry Interval of 60 s.
	_, _ = nc.Write([]byte{0x10, 19, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 5, 0x11, 0, 0, 0, 60, 0, 1, 'c'})
	_, _ = nc.Read(make([]byte, 64)) // CONNACK

	b.Kill()
	options.Addr = b.Addr()
	if b, err = mqtttest.New(options); err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()
	fmt.Println("session:", b.Session("c"), "connected:", b.Connected("c"))
	// Output: session: true connected: false
}
