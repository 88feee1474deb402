package conformance

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Section 4.3.3: QoS 2. TestMQTT_4_3_3_1, _2 and _8 are with the tests of QoS 1.

// restart stops the client as a crash would, and starts another one with the content of its store.
// The first client's store is only read.
func (r *rig) restart(store *persistence.Memory) (*client.Client, *persistence.Memory) {
	r.t.Helper()
	next := store.Reopen()
	r.cfg.Store.Custom = next
	return r.client(), next
}

// In the QoS 2 delivery protocol, the sender MUST treat the PUBLISH packet as
// "unacknowledged" until it has received the corresponding PUBREC packet.
func TestMQTT_4_3_3_3(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		d := r.publish(c, client.ExactlyOnce, "p")
		id := r.wantPublish(conn, "p", false).PacketID
		conn.Ack(wire.PUBREC, id+1, 0) // of another message
		conn.ExpectAck(wire.PUBREL)
		for range 3 {
			conn = r.resume(conn)
			if again := r.wantPublish(conn, "p", true); again.PacketID != id {
				t.Errorf("it is resent as %d, want %d", again.PacketID, id)
			}
			r.wantState(d, client.Pending)
		}
		for _, wrong := range []wire.Type{wire.PUBACK, wire.PUBCOMP} {
			r.wantEnd(conn, 0x82, wire.AppendAck(nil, wire.Ack{Type: wrong, PacketID: id}))
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			r.wantPublish(conn, "p", true)
		}
		conn.Ack(wire.PUBREC, id, 0)
		conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
		conn.Ack(wire.PUBCOMP, id, 0)
		r.wantState(d, client.Acked)
		conn = r.resume(conn)
		conn.Quiet()
	})
}

// In the QoS 2 delivery protocol, the sender MUST send a PUBREL packet when it
// receives a PUBREC packet with a Reason Code value less than 0x80. This PUBREL
// packet MUST contain the same Packet Identifier as the original PUBLISH packet.
func TestMQTT_4_3_3_4(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for _, reason := range pubackReasons {
			d := r.publish(c, client.ExactlyOnce, "p")
			id := r.wantPublish(conn, "p", false).PacketID
			conn.Ack(wire.PUBREC, id, reason)
			if reason >= 0x80 {
				conn.Quiet()
				r.wantState(d, client.Refused)
				continue
			}
			conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
			conn.Ack(wire.PUBREC, id, reason)
			conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
			conn.Ack(wire.PUBCOMP, id, 0)
			r.wantState(d, client.Acked)
		}
	})
}

// released starts a client with a QoS 2 message for which PUBREC has arrived.
func (r *rig) released(store *persistence.Memory) (c *client.Client, d *client.Delivery, id uint16) {
	r.t.Helper()
	r.cfg.Store.Custom = store
	c, conn := r.start(control.Connack{})
	d = r.publish(c, client.ExactlyOnce, "p")
	id = r.wantPublish(conn, "p", false).PacketID
	conn.Ack(wire.PUBREC, id, 0)
	conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
	conn.Close()
	return c, d, id
}

// In the QoS 2 delivery protocol, the sender MUST treat the PUBREL packet as
// "unacknowledged" until it has received the corresponding PUBCOMP packet.
func TestMQTT_4_3_3_5(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		_, d, id := r.released(persistence.NewMemory(persistence.Options{}))
		pubrel := []byte{0x62, 2, byte(id >> 8), byte(id)}
		conn, _ := r.Connect(control.Connack{SessionPresent: true})
		conn.ExpectBytes(pubrel)
		r.wantEnd(conn, 0x82, wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: id}))
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		conn.ExpectBytes(pubrel)
		conn.Ack(wire.PUBCOMP, id+1, 0) // of another message
		r.wantState(d, client.Pending)
		conn = r.resume(conn)
		conn.ExpectBytes(pubrel)
		conn.Ack(wire.PUBCOMP, id, 0x92) // the server had ended it before
		r.wantState(d, client.Acked)
		conn = r.resume(conn)
		conn.Quiet()
	})
	onRig(t, func(t *testing.T, r *rig) { // across the end of the process
		store := persistence.NewMemory(persistence.Options{})
		c, _, id := r.released(store)
		r.must(c.Close())
		_, _ = r.restart(store)
		for range 2 {
			conn, _ := r.Connect(control.Connack{SessionPresent: true})
			conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
			conn.Quiet()
			conn.Close()
		}
	})
}

// In the QoS 2 delivery protocol, the sender MUST NOT re-send the PUBLISH once it
// has sent the corresponding PUBREL packet.
func TestMQTT_4_3_3_6(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		store := persistence.NewMemory(persistence.Options{})
		c, d, id := r.released(store)
		never := func() {
			t.Helper()
			for range 3 {
				conn, _ := r.Connect(control.Connack{SessionPresent: true})
				conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
				conn.Ack(wire.PUBREC, id, 0) // a server with an older state
				conn.ExpectBytes([]byte{0x62, 2, byte(id >> 8), byte(id)})
				conn.QuietFor(time.Hour)
				conn.Close()
			}
		}
		never()
		r.wantState(d, client.Pending)
		r.must(c.Close())
		_, _ = r.restart(store)
		never()
	})
}

// In the QoS 2 delivery protocol, the sender MUST NOT apply Message expiry if a
// PUBLISH packet has been sent.
func TestMQTT_4_3_3_7(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		store := persistence.NewMemory(persistence.Options{})
		r.cfg.Store.Custom = store
		c, conn := r.start(control.Connack{})
		d := r.publishMessage(c, client.Message{Topic: "t", QoS: client.ExactlyOnce, Expiry: 2 * time.Second, Payload: []byte("p")})
		p := r.wantPublish(conn, "p", false)
		if !p.HasExpiry || p.MessageExpiry != 2 {
			t.Errorf("the Message Expiry Interval is %d", p.MessageExpiry)
		}
		id := p.PacketID
		comesAgain := func(why string) {
			t.Helper()
			again := r.wantPublish(conn, "p", true)
			if again.PacketID != id || !again.HasExpiry || again.MessageExpiry != 1 {
				t.Errorf("%s: it is resent as %+v", why, again)
			}
		}
		time.Sleep(time.Hour)
		r.wantState(d, client.Pending)
		conn = r.resume(conn)
		comesAgain("a new connection")
		r.must(c.Close())
		c, _ = r.restart(store)
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		comesAgain("a new process")
		time.Sleep(time.Hour)
		conn.Ack(wire.PUBREC, id, 0)
		conn.ExpectAck(wire.PUBREL)
		time.Sleep(time.Hour)
		conn = r.resume(conn)
		conn.ExpectAck(wire.PUBREL)
		conn.Ack(wire.PUBCOMP, id, 0)
		conn.Quiet()
		if s := c.Stats().Store; s.Expired != 0 || s.Pending != 0 {
			t.Errorf("expired are %d, pending %d", s.Expired, s.Pending)
		}
	})
}

// In the QoS 2 delivery protocol, the receiver, if it has sent a PUBREC with a
// Reason Code of 0x80 or greater, MUST treat any subsequent PUBLISH packet that
// contains that Packet Identifier as being a new Application Message.
func TestMQTT_4_3_3_9(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		refuse := true
		_, conn := r.receiver(control.Connack{}, func(ctx context.Context, m *client.Message) error {
			_ = r.keep(ctx, m)
			if refuse {
				return client.Refuse(0x97, "")
			}
			return nil
		})
		p := message(2, 7, "a")
		refused := []byte{0x50, 3, 0, 7, 0x97}
		conn.Publish(p)
		conn.ExpectBytes(refused)
		conn.Publish(p)
		conn.ExpectBytes(refused)
		conn.Publish(again(p))
		conn.ExpectBytes(refused)
		conn = r.resume(conn)
		conn.Publish(again(p))
		conn.ExpectBytes(refused)
		refuse = false
		conn.Publish(again(p))
		conn.ExpectBytes([]byte{0x50, 2, 0, 7})
		r.wantKept("aaaaa")
	})
}

// In the QoS 2 delivery protocol, until it has received the corresponding PUBREL
// packet, the receiver MUST acknowledge any subsequent PUBLISH packet with the
// same Packet Identifier by sending a PUBREC. It MUST NOT cause duplicate messages
// to be delivered to any onward recipients in this case.
func TestMQTT_4_3_3_10(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		store := persistence.NewMemory(persistence.Options{})
		r.cfg.Store.Custom = store
		c, conn := r.receiver(control.Connack{}, r.keep)
		p, pubrec := message(2, 7, "a"), []byte{0x50, 2, 0, 7}
		conn.Publish(p)
		conn.ExpectBytes(pubrec)
		for range 3 {
			conn.Publish(again(p))
			conn.ExpectBytes(pubrec)
			conn.Publish(p) // whatever the DUP flag
			conn.ExpectBytes(pubrec)
			conn = r.resume(conn)
			conn.Publish(again(p))
			conn.ExpectBytes(pubrec)
		}
		r.wantKept("a")
		r.must(c.Close()) // and across the end of the process
		r.cfg.Store.Custom = store.Reopen()
		_, conn = r.receiver(control.Connack{SessionPresent: true}, r.keep)
		conn.Publish(again(p))
		conn.ExpectBytes(pubrec)
		conn.Ack(wire.PUBREL, 7, 0)
		conn.ExpectBytes([]byte{0x70, 2, 0, 7})
		r.wantKept("a")
	})
	onRig(t, func(t *testing.T, r *rig) { // while it is being handled
		g := newGate(t)
		_, conn := r.receiver(control.Connack{}, func(ctx context.Context, m *client.Message) error {
			return errors.Join(r.keep(ctx, m), g.handle(ctx, m))
		})
		conn.Publish(message(2, 7, "a"))
		conn.Quiet()
		conn = r.resume(conn)
		conn.Publish(again(message(2, 7, "a")))
		conn.Quiet()
		conn.Publish(message(2, 7, "a")) // once more: each copy gets an answer
		conn.Quiet()
		g.open("a")
		conn.ExpectBytes([]byte{0x50, 2, 0, 7}, []byte{0x50, 2, 0, 7})
		conn.Quiet()
		r.wantKept("a")
	})
}

// In the QoS 2 delivery protocol, the receiver MUST respond to a PUBREL packet by
// sending a PUBCOMP packet containing the same Packet Identifier as the PUBREL.
func TestMQTT_4_3_3_11(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{}, r.keep)
		for _, id := range []uint16{1, 256, 65_535} {
			conn.Publish(message(2, id, "a"))
			conn.ExpectBytes([]byte{0x50, 2, byte(id >> 8), byte(id)})
		}
		conn.Ack(wire.PUBREL, 256, 0)
		conn.ExpectBytes([]byte{0x70, 2, 1, 0})
		conn = r.resume(conn)
		conn.Ack(wire.PUBREL, 65_535, 0)
		conn.ExpectBytes([]byte{0x70, 2, 0xFF, 0xFF})
		conn.Ack(wire.PUBREL, 1, 0)
		conn.ExpectBytes([]byte{0x70, 2, 0, 1})
		conn = r.resume(conn)
		conn.Ack(wire.PUBREL, 1, 0) // the PUBCOMP for it was lost
		conn.ExpectBytes([]byte{0x70, 3, 0, 1, 0x92})
		r.wantKept("aaa")
	})
}

// In the QoS 2 delivery protocol, after it has sent a PUBCOMP, the receiver MUST
// treat any subsequent PUBLISH packet that contains that Packet Identifier as
// being a new Application Message.
func TestMQTT_4_3_3_12(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.receiver(control.Connack{}, r.keep)
		p := message(2, 7, "a")
		round := func(p wire.Publish) {
			t.Helper()
			conn.Publish(p)
			conn.ExpectBytes([]byte{0x50, 2, 0, 7})
			conn.Ack(wire.PUBREL, 7, 0)
			conn.ExpectBytes([]byte{0x70, 2, 0, 7})
		}
		round(p)
		round(p)
		round(again(p))
		conn = r.resume(conn)
		round(again(p))
		p.Payload = []byte("b")
		round(p)
		r.wantKept("aaaab")
	})
}

// In the QoS 2 delivery protocol, the receiver MUST continue the QoS 2 acknowledgement sequence
// even if it has applied message expiry. The sender does so too.
func TestMQTT_4_3_3_13(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		g := newGate(t)
		c, conn := r.receiver(control.Connack{}, g.handle)
		p := message(2, 7, "a")
		p.HasExpiry, p.MessageExpiry = true, 1
		conn.Publish(p)
		conn.QuietFor(time.Hour)
		g.open("a")
		conn.ExpectBytes([]byte{0x50, 2, 0, 7})
		time.Sleep(time.Hour)
		p.MessageExpiry = 0
		conn = r.resume(conn)
		conn.Publish(again(p))
		conn.ExpectBytes([]byte{0x50, 2, 0, 7})
		conn.Ack(wire.PUBREL, 7, 0)
		conn.ExpectBytes([]byte{0x70, 2, 0, 7})

		d := r.publishMessage(c, client.Message{Topic: "t", QoS: client.ExactlyOnce, Expiry: time.Second})
		id := conn.ExpectPublish().PacketID
		time.Sleep(time.Hour)
		conn.Ack(wire.PUBREC, id, 0)
		conn.ExpectAck(wire.PUBREL)
		conn.Ack(wire.PUBCOMP, id, 0)
		r.wantState(d, client.Acked)
	})
}
