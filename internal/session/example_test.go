package session_test

import (
	"context"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// memory is the minimal store for a session.
type memory struct{}

func (memory) Release(uint64) error       { fmt.Println("store: released"); return nil }
func (memory) Seen(uint16, uint64) error  { return nil }
func (memory) Cleared(uint16) error       { return nil }
func (memory) SeenIDs() map[uint16]uint64 { return nil }
func (memory) FingerprintKey() [16]byte   { return [16]byte{} }
func (memory) ResetSession() error        { return nil }
func (memory) Sync() error                { fmt.Println("store: synced"); return nil }

// printer is a connection that prints the packets written to it.
type printer struct{}

func (printer) Send(encode func([]byte) []byte) error {
	fmt.Printf("sent: % x\n", encode(nil))
	return nil
}
func (printer) Fail(err error) { fmt.Println("failed:", err) }

// This example sends a QoS 2 message. PUBREL is sent only after the store was synced.
func Example() {
	s := session.New(session.Config{
		Store:   memory{},
		Settled: func(seq uint64, reason byte, _ string) { fmt.Printf("message %d: 0x%02X\n", seq, reason) },
	})
	s.Begin(true)
	g := s.Attach(printer{}, session.Limits{ReceiveMaximum: 20})
	id := session.PacketID(0, 42)
	g.Offer(42, id, 2) // the outbox sends it now under this identifier
	fmt.Println("identifier", id)
	_ = g.HandleAck(wire.Ack{Type: wire.PUBREC, PacketID: id})

	ctx, cancel := context.WithCancel(context.Background())
	cancel() // queued acknowledgements are still sent
	s.RunAcks(ctx)
	_ = g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id})
	// Output:
	// identifier 1067
	// store: released
	// store: synced
	// sent: 62 02 04 2b
	// message 42: 0x00
}
