package conformance

import (
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 4.3.1 and 4.3.2: QoS 0 and 1, and the common parts of QoS 1 and 2.

// In the QoS 0 delivery protocol, the sender MUST send a PUBLISH packet with QoS 0
// and DUP flag set to 0.
func TestMQTT_4_3_1_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		send := func() {
			t.Helper()
			r.publish(c, client.AtMostOnce, "p")
			conn.ExpectBytes([]byte{0x30, 5, 0, 1, 't', 0, 'p'})
			r.publishMessage(c, client.Message{Topic: "t", Retain: true})
			conn.ExpectBytes([]byte{0x31, 4, 0, 1, 't', 0})
			r.publishMessage(c, client.Message{Topic: "t", Duplicate: true}) // a received message that is forwarded
			conn.ExpectBytes([]byte{0x30, 4, 0, 1, 't', 0})
		}
		send()
		conn = r.resume(conn)
		conn.Quiet() // none of them is resent
		send()
	})
}

// identifiersAreUnused publishes while some messages stay unacknowledged. It checks that each
// Packet Identifier is non-zero and not used by another exchange. Priority High has few
// identifiers, so they wrap around.
func identifiersAreUnused(t *testing.T, qos client.QoS, priority client.Priority, total int) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
		c, conn := r.start(control.Connack{})
		used := map[uint16]bool{r.wantPublish(conn, "online", false).PacketID: true}
		take := func(id uint16) {
			t.Helper()
			if id == 0 || used[id] {
				t.Fatalf("Packet Identifier %d is given out, and is in use", id)
			}
			used[id] = true
		}
		end := func(id uint16) {
			if qos == 1 {
				conn.Ack(wire.PUBACK, id, 0)
			} else {
				conn.Ack(wire.PUBREC, id, 0)
				conn.ExpectAck(wire.PUBREL)
				conn.Ack(wire.PUBCOMP, id, 0)
			}
			delete(used, id)
		}
		asking := r.subscribe(c, "a") // not answered
		take(conn.ExpectSubscribe().PacketID)
		var last *client.Delivery
		for i := range total {
			last = r.publishMessage(c, client.Message{Topic: "t", QoS: qos, Priority: priority})
			p := conn.ExpectPublish()
			take(p.PacketID)
			if i%50 != 49 {
				end(p.PacketID)
			}
		}
		r.wantState(last, client.Pending)
		if len(used) != 2+total/50 {
			t.Errorf("%d identifiers are in use, want %d", len(used), 2+total/50)
		}
		conn.Close()
		r.must(<-asking)
	})
}

// waitsForItsIdentifier keeps the first of many messages open until identifiers wrap around. Its
// identifier must not be assigned to another message.
func waitsForItsIdentifier(t *testing.T, qos client.QoS) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for range 1000 {
			r.publishMessage(c, client.Message{Topic: "t", QoS: qos, Priority: client.High})
		}
		first, open := conn.ExpectPublish().PacketID, 999
		end := func(id uint16) {
			if qos == 2 {
				conn.Ack(wire.PUBREC, id, 0)
				conn.ExpectAck(wire.PUBREL)
				conn.Ack(wire.PUBCOMP, id, 0)
				return
			}
			conn.Ack(wire.PUBACK, id, 0)
		}
		var batch []uint16
		for open > 0 && len(batch) < 383 {
			id := conn.ExpectPublish().PacketID
			if id == first {
				t.Fatalf("%d is given out again", id)
			}
			batch = append(batch, id)
			open--
		}
		conn.Quiet()
		for _, id := range batch {
			end(id)
		}
		conn.Quiet() // the next message would need the identifier of the first one
		end(first)
		if id := conn.ExpectPublish().PacketID; id != first {
			t.Errorf("the next message has %d, and only %d is free", id, first)
		}
	})
}

// In the QoS 1 delivery protocol, the sender MUST assign an unused Packet
// Identifier each time it has a new Application Message to publish.
func TestMQTT_4_3_2_1(t *testing.T) {
	identifiersAreUnused(t, 1, client.Normal, 1000)
	identifiersAreUnused(t, 1, client.High, 300)
	waitsForItsIdentifier(t, 1)
}

// In the QoS 2 delivery protocol, the sender MUST assign an unused Packet
// Identifier when it has a new Application Message to publish.
func TestMQTT_4_3_3_1(t *testing.T) {
	identifiersAreUnused(t, 2, client.Normal, 1000)
	identifiersAreUnused(t, 2, client.High, 300)
	waitsForItsIdentifier(t, 2)
}

// firstSending checks the exact first bytes of a new message: the header, and the identifier that
// its acknowledgement ends.
func firstSending(t *testing.T, qos client.QoS) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for i := range 5 {
			d := r.publishMessage(c, client.Message{Topic: "t", QoS: qos, Duplicate: true, Payload: fmt.Append(nil, i)})
			f := conn.Expect(wire.PUBLISH)
			if want := 0x30 | byte(qos)<<1; f.Header != want {
				t.Errorf("the first byte is 0x%02X, want 0x%02X", f.Header, want)
			}
			v, err := wire.ParsePublish(f)
			r.must(err)
			r.wantState(d, client.Pending)
			if qos == 1 {
				conn.Ack(wire.PUBACK, v.PacketID, 0)
			} else {
				conn.Ack(wire.PUBREC, v.PacketID, 0)
				conn.ExpectBytes([]byte{0x62, 2, byte(v.PacketID >> 8), byte(v.PacketID)})
				r.wantState(d, client.Pending)
				conn.Ack(wire.PUBCOMP, v.PacketID, 0)
			}
			r.wantState(d, client.Acked)
			if i == 2 { // a new connection does not turn new messages into repetitions
				conn = r.resume(conn)
			}
		}
	})
}

// In the QoS 1 delivery protocol, the sender MUST send a PUBLISH packet containing
// this Packet Identifier with QoS 1 and DUP flag set to 0.
func TestMQTT_4_3_2_2(t *testing.T) { firstSending(t, 1) }

// In the QoS 2 delivery protocol, the sender MUST send a PUBLISH packet containing
// this Packet Identifier with QoS 2 and DUP flag set to 0.
func TestMQTT_4_3_3_2(t *testing.T) { firstSending(t, 2) }

// In the QoS 1 delivery protocol, the sender MUST treat the PUBLISH packet as
// "unacknowledged" until it has received the corresponding PUBACK packet.
func TestMQTT_4_3_2_3(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		d := r.publish(c, client.AtLeastOnce, "p")
		id := r.wantPublish(conn, "p", false).PacketID
		conn.Ack(wire.PUBACK, id+1, 0) // of another message
		conn.Ack(wire.PUBACK, id-1, 0x97)
		r.wantState(d, client.Pending)
		for range 3 {
			conn = r.resume(conn)
			if again := r.wantPublish(conn, "p", true); again.PacketID != id {
				t.Errorf("it is resent as %d, want %d", again.PacketID, id)
			}
			r.wantState(d, client.Pending)
		}
		r.wantEnd(conn, 0x82, wire.AppendAck(nil, wire.Ack{Type: wire.PUBCOMP, PacketID: id}))
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		r.wantPublish(conn, "p", true)
		r.wantEnd(conn, 0x82, wire.AppendAck(nil, wire.Ack{Type: wire.PUBREC, PacketID: id}))
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		r.wantPublish(conn, "p", true)
		r.wantState(d, client.Pending)
		conn.Ack(wire.PUBACK, id, 0x10)
		r.wantState(d, client.Acked)
		conn = r.resume(conn)
		conn.Quiet()
	})
}

// In the QoS 1 delivery protocol, the receiver MUST respond with a PUBACK packet containing the
// Packet Identifier from the incoming PUBLISH packet, having accepted ownership of the Application
// Message. The client sends it only after the message was handled.
func TestMQTT_4_3_2_4(t *testing.T) { answeredWhenHandled(t, 1, wire.PUBACK) }

// In the QoS 2 delivery protocol, the receiver MUST respond with a PUBREC packet containing the
// Packet Identifier from the incoming PUBLISH packet, having accepted ownership of the Application
// Message. The client sends it only after the message was handled.
func TestMQTT_4_3_3_8(t *testing.T) { answeredWhenHandled(t, 2, wire.PUBREC) }

func answeredWhenHandled(t *testing.T, qos byte, answer wire.Type) {
	onRig(t, func(t *testing.T, r *rig) {
		g := newGate(t)
		_, conn := r.receiver(control.Connack{}, g.handle)
		for _, id := range []uint16{1, 256, 65_535} {
			conn.Publish(message(qos, id, "p"))
			conn.QuietFor(time.Hour)
			g.open("p")
			conn.ExpectBytes([]byte{byte(answer) << 4, 2, byte(id >> 8), byte(id)})
			conn.Quiet()
		}
	})
}

// In the QoS 1 delivery protocol, after it has sent a PUBACK packet the receiver
// MUST treat any incoming PUBLISH packet that contains the same Packet Identifier
// as being a new Application Message, irrespective of the setting of its DUP flag.
func TestMQTT_4_3_2_5(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{}, r.keep)
		p := message(1, 7, "a")
		puback := []byte{0x40, 2, 0, 7}
		conn.Publish(p)
		conn.ExpectBytes(puback)
		conn.Publish(again(p))
		conn.ExpectBytes(puback)
		conn.Publish(p)
		conn.ExpectBytes(puback)
		conn = r.resume(conn)
		conn.Publish(again(p))
		conn.ExpectBytes(puback)
		p.Payload = []byte("b")
		conn.Publish(again(p))
		conn.ExpectBytes(puback)
		r.wantKept("aaaab")
	})
}
