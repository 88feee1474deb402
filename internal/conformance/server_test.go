package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Statements of chapters 2 and 3 that apply to servers and whose violation the client detects.

// Each time a Server sends a new PUBLISH (with QoS > 0) it MUST assign it a
// non-zero Packet Identifier that is currently unused.
func TestMQTT_2_2_1_4(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		onRig(t, func(t *testing.T, r *rig) {
			g := newGate(t)
			_, conn := r.receiver(control.Connack{}, g.handle)
			r.wantEnd(conn, 0x82, []byte{0x30 | qos<<1, 6, 0, 1, 't', 0, 0, 0})
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			conn.Publish(message(qos, 7, "a"))
			other := message(qos, 7, "b")
			r.wantEnd(conn, 0x82, wire.AppendPublish(nil, &other))
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			conn.Publish(again(message(qos, 7, "a")))
			g.open("a")
			if a := conn.ExpectAck(wire.PUBACK + wire.Type(qos-1)); a.PacketID != 7 {
				t.Errorf("%d is acknowledged", a.PacketID)
			}
		})
	}
}

// The Server MUST NOT send packets exceeding Maximum Packet Size to the Client.
func TestMQTT_3_1_2_24(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.MaximumPacketSize = 100
		_, conn := r.receiver(control.Connack{}, r.keep)
		p := message(1, 1, "")
		p.Payload = make([]byte, 92)
		if p.Size() != 100 {
			t.Fatalf("the packet has %d bytes", p.Size())
		}
		conn.Publish(p)
		conn.ExpectBytes([]byte{0x40, 2, 0, 1})
		p.Payload = make([]byte, 93) // mosquitto does not count the first byte (ADR 0030)
		conn.Publish(p)
		conn.ExpectBytes([]byte{0x40, 2, 0, 1})
		p.Payload = make([]byte, 94)
		r.wantEnd(conn, 0x95, wire.AppendPublish(nil, &p))
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		r.wantEnd(conn, 0x95, []byte{0x32, 0xFF, 0xFF, 0xFF, 0x7F}) // the header is sufficient
	})
}

// aliasEnds sends an alias above the client's Topic Alias Maximum, and below it.
func aliasEnds(t *testing.T, maximum uint16) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Receiving.TopicAliasMaximum = maximum
		_, conn := r.receiver(control.Connack{}, r.keep)
		p := message(1, 1, "p")
		for p.TopicAlias = 1; p.TopicAlias <= maximum; p.TopicAlias++ {
			conn.Publish(p)
			conn.ExpectBytes([]byte{0x40, 2, 0, 1})
		}
		r.wantEnd(conn, 0x94, wire.AppendPublish(nil, &p))
	})
}

// The Server MUST NOT send a Topic Alias greater than the Topic Alias Maximum to
// the Client.
func TestMQTT_3_1_2_26(t *testing.T) { aliasEnds(t, 3) }

// If the Topic Alias Maximum is absent or zero, the Server MUST NOT send any Topic
// Aliases to the Client.
func TestMQTT_3_1_2_27(t *testing.T) { aliasEnds(t, 0) }

// A Server MUST NOT send a PUBLISH packet with a Topic Alias greater than the Topic
// Alias Maximum value sent by the Client in the CONNECT packet.
func TestMQTT_3_3_2_11(t *testing.T) {
	for _, maximum := range []uint16{0, 1, 20} {
		aliasEnds(t, maximum)
	}
}

// refusedConnack checks that a packet other than a valid CONNACK closes the connection without a
// DISCONNECT, and that the next connection works.
func refusedConnack(t *testing.T, packet []byte) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		r.client()
		conn, _ := r.Open()
		conn.Send(packet)
		conn.ExpectClosed()
		if got := eventsOf[client.Connected](r); len(got) != 0 {
			t.Errorf("% x is treated as an accepting CONNACK", packet)
		}
		r.Connect(control.Connack{})
		if got := eventsOf[client.Connected](r); len(got) != 1 {
			t.Errorf("%d connections were reported, want 1", len(got))
		}
	})
}

// The Server MUST send a CONNACK with a 0x00 (Success) Reason Code before sending
// any Packet other than AUTH.
func TestMQTT_3_2_0_1(t *testing.T) {
	publish := message(0, 0, "p")
	for _, packet := range [][]byte{
		wire.AppendPublish(nil, &publish), {0x40, 2, 0, 1}, {0x50, 2, 0, 1}, {0x62, 2, 0, 1}, {0x70, 2, 0, 1},
		{0x90, 4, 0, 1, 0, 0}, {0xB0, 4, 0, 1, 0, 0}, {0xD0, 0}, {0xE0, 1, 0x8B}, {0x10, 0}, {0xC0, 0},
	} {
		t.Run(fmt.Sprintf("%02X", packet[0]), func(t *testing.T) { refusedConnack(t, packet) })
	}
}

// The Server MUST NOT send more than one CONNACK in a Network Connection.
func TestMQTT_3_2_0_2(t *testing.T) {
	for _, present := range []bool{false, true} {
		for _, reason := range []byte{0, 0x87} {
			onRig(t, func(t *testing.T, r *rig) {
				_, conn := r.start(control.Connack{})
				r.wantEnd(conn, 0x82, control.AppendConnack(nil, &control.Connack{SessionPresent: present, Reason: reason}))
			})
		}
	}
}

// Bits 7-1 of the Connect Acknowledge Flags are reserved and MUST be set to 0.
func TestMQTT_3_2_2_1(t *testing.T) {
	for flags := 2; flags < 256; flags++ {
		refusedConnack(t, []byte{0x20, 3, byte(flags), 0, 0})
	}
}

// The Server sending the CONNACK packet MUST use one of the Connect Reason Code values. Codes
// between 0x00 and 0x80 are invalid. Codes from 0x80 refuse, whether or not they exist.
func TestMQTT_3_2_2_8(t *testing.T) {
	for reason := 1; reason < 0x80; reason++ {
		refusedConnack(t, []byte{0x20, 3, 0, byte(reason), 0})
	}
	known := []byte{0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F}
	for reason := 0x80; reason < 0x100; reason++ {
		onRig(t, func(t *testing.T, r *rig) {
			c := r.client()
			conn, _ := r.Open()
			conn.Connack(control.Connack{Reason: byte(reason), ReasonString: "why"})
			conn.ExpectClosed()
			synctest.Wait()
			err := c.Err() // some of them stop the client
			if failed := eventsOf[client.ConnectFailed](r); err == nil && len(failed) == 1 {
				err = failed[0].Err
			}
			var said *client.ConnectionError
			if !errors.As(err, &said) || said.Code != byte(reason) || said.Reason != "why" {
				t.Errorf("0x%02X: the error is %v", reason, err)
			}
			var bad *client.ProtocolError
			if exists := bytes.IndexByte(known, byte(reason)) >= 0; errors.As(err, &bad) == exists {
				t.Errorf("0x%02X: the error is %v, which is or is not a violation", reason, err)
			}
		})
	}
}

// The Server MUST NOT send more than Receive Maximum QoS 1 and QoS 2 PUBLISH packets
// that are not acknowledged.
func TestMQTT_3_3_4_9(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Receiving.ReceiveMaximum = 2
		g := newGate(t)
		_, conn := r.receiver(control.Connack{}, g.handle)
		conn.Publish(message(1, 1, "a"))
		conn.Publish(message(2, 2, "b"))
		conn.Publish(message(0, 0, "c")) // does not count
		g.open("a")
		g.open("b")
		g.open("c")
		conn.ExpectBytes([]byte{0x40, 2, 0, 1}, []byte{0x50, 2, 0, 2})
		conn.Publish(message(1, 3, "d")) // PUBACK has made room, but PUBREC has not
		third := message(1, 4, "e")
		r.wantEnd(conn, 0x93, wire.AppendPublish(nil, &third))
	})
}

// The Server MUST process a second CONNECT packet as a Protocol Error. The client sends only one
// per connection, whatever happens on it.
func TestMQTT_3_1_0_2(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c := r.client()
		for i, ack := range []control.Connack{{}, {SessionPresent: true}, {}, {Reason: 0x88}} {
			conn, _ := r.Open()
			conn.Connack(ack)
			r.publish(c, client.QoS(1+i%2), "p")
			r.subscribe(c, "a")
			for _, f := range conn.Take() {
				if f.Type() == wire.CONNECT {
					t.Errorf("connection %d: a second CONNECT came", i)
				}
			}
			conn.Close()
		}
	})
}

// The Server MUST validate that the reserved flag in the CONNECT packet is set to 0. The client
// sets it to 0.
func TestMQTT_3_1_2_3(t *testing.T) {
	flagsOf(t, func(t *testing.T, _ bool, flags byte) {
		if flags&1 != 0 {
			t.Errorf("the Connect Flags are %08b", flags)
		}
	})
}

// If the Server accepts a connection with Clean Start 1, it MUST set Session Present to 0.
// Otherwise it is a violation, and the client sends nothing in that session.
func TestMQTT_3_2_2_2(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Session.CleanStart = true
		c := r.client()
		r.publish(c, client.ExactlyOnce, "p")
		for range 2 {
			conn, connect := r.Connect(control.Connack{SessionPresent: true})
			if !connect.CleanStart {
				t.Error("Clean Start is 0")
			}
			conn.ExpectClosed()
		}
		conn, _ := r.Connect(control.Connack{})
		r.wantPublish(conn, "p", false)
		bad := client.ProtocolError{Code: 0x82, Packet: "CONNACK"}
		r.wantViolations(bad, bad)
	})
}

// If a Server sends a CONNACK packet containing a non-zero Reason Code it MUST set Session Present
// to 0. Otherwise the client reports a violation, and the refusal still applies.
func TestMQTT_3_2_2_6(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.StopOn.When = client.StopAlways
		c := r.client()
		conn, _ := r.Open()
		conn.Connack(control.Connack{SessionPresent: true, Reason: 0x88})
		conn.ExpectClosed()
		conn, connect := r.Connect(control.Connack{})
		if connect.CleanStart {
			t.Error("Session Present in a refusal is treated as a session of another client")
		}
		conn.Quiet()
		r.wantViolations(client.ProtocolError{Code: 0x82, Packet: "CONNACK"})
		var refused *client.ConnectionError
		if got := eventsOf[client.ConnectFailed](r); !errors.As(got[0].Err, &refused) || refused.Code != 0x88 {
			t.Errorf("the error is %v, want a *ConnectionError 0x88", got[0].Err)
		}
		conn.Close()
		conn, _ = r.Open()
		conn.Connack(control.Connack{SessionPresent: true, Reason: 0x87}) // a final refusal
		conn.ExpectClosed()
		<-c.Done()
		if !errors.As(c.Err(), &refused) || refused.Code != 0x87 {
			t.Errorf("the client stopped with %v", c.Err())
		}
	})
}

// If a Server sends a CONNACK with a Reason Code of 128 or greater it MUST then close the Network
// Connection. The client does not wait for that, and ignores further packets.
func TestMQTT_3_2_2_7(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, err := client.New(r.cfg)
		r.must(err)
		defer c.Close()
		r.must(c.Handle("#", client.HandlerFunc(r.keep)))
		r.must(c.Start(t.Context()))
		conn, _ := r.Open()
		p := message(1, 1, "p")
		conn.Send(control.AppendConnack(nil, &control.Connack{Reason: 0x88}), wire.AppendPublish(nil, &p))
		conn.ExpectClosed()
		r.wantKept("")
	})
}

// The Topic Name in a PUBLISH packet sent by a Server MUST match the Subscription's Topic Filter.
// The client refuses and reports a message that matches none of its filters.
func TestMQTT_3_3_2_3(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Receiving.UnhandledGrace = client.NoGrace
		c, conn := r.start(control.Connack{})
		done := r.subscribe(c, "t/+")
		conn.Suback(conn.ExpectSubscribe().PacketID, 2)
		r.must(<-done)
		for qos := range byte(3) {
			p := message(qos, uint16(qos), "p")
			p.Topic = "t/a/b"
			conn.Publish(p)
			if qos > 0 {
				if a := conn.ExpectAck(wire.PUBACK + wire.Type(qos-1)); a.Reason != 0x83 {
					t.Errorf("QoS %d is acknowledged with 0x%02X, want 0x83", qos, a.Reason)
				}
			}
			conn.Quiet()
			if got := eventsOf[client.Unhandled](r); len(got) != int(qos)+1 {
				t.Errorf("%d messages were reported as unhandled", len(got))
			}
		}
		r.wantKept("")
	})
}
