package fakebroker_test

import (
	"context"
	"fmt"
	"log"

	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// program is a TB for an example. A test passes its *testing.T.
type program struct{ cleanup []func() }

func (p *program) Helper()                        {}
func (p *program) Fatalf(format string, a ...any) { log.Panicf(format, a...) }
func (p *program) Cleanup(f func())               { p.cleanup = append(p.cleanup, f) }
func (p *program) end() {
	for _, f := range p.cleanup {
		f()
	}
}

// The client in this example is five lines. In a test, the client gets Broker.Dial.
func Example() {
	t := &program{}
	defer t.end()
	b := fakebroker.New(t)

	client, _ := b.Dial(context.Background(), nil)
	go func() {
		_, _ = client.Write(control.AppendConnect(nil, &control.Connect{ClientID: "c", CleanStart: true}))
		_, _ = client.Read(make([]byte, 1)) // the first byte of CONNACK
		_, _ = client.Write([]byte{0xE0, 0x00})
		_ = client.Close()
	}()

	conn, connect := b.Open()
	fmt.Printf("%s, Clean Start %v\n", connect.ClientID, connect.CleanStart)
	conn.Send([]byte{0x20, 3, 0, 0, 0})
	conn.ExpectDisconnect(0x00)
	fmt.Printf("% x\n", conn.Heard())
	// Output:
	// c, Clean Start true
	// 10 0e 00 04 4d 51 54 54 05 02 00 00 00 00 01 63 e0 00
}
