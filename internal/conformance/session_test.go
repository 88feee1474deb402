package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Sections 4.1, 4.2, 4.4 and 4.5: session state, transport, message delivery retry
// and receipt.

// The Client and Server MUST NOT discard the Session State while the Network Connection is open,
// however long that is.
func TestMQTT_4_1_0_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Session.Expiry = time.Second
		c, conn := r.receiver(control.Connack{}, r.keep)
		r.publish(c, client.ExactlyOnce, "released")
		released := conn.ExpectPublish().PacketID
		conn.Ack(wire.PUBREC, released, 0)
		conn.ExpectAck(wire.PUBREL)
		r.publish(c, client.AtLeastOnce, "sent")
		sent := conn.ExpectPublish().PacketID
		conn.Publish(message(2, 5, "in"))
		conn.ExpectBytes([]byte{0x50, 2, 0, 5})

		conn.QuietFor(10 * time.Hour)
		conn.Publish(again(message(2, 5, "in")))
		conn.ExpectBytes([]byte{0x50, 2, 0, 5})
		conn = r.resume(conn)
		got := []string{r.either(conn), r.either(conn)}
		slices.Sort(got)
		if want := []string{fmt.Sprintf("PUBLISH %d true sent", sent), fmt.Sprintf("PUBREL %d", released)}; !slices.Equal(got, want) {
			t.Errorf("%q were resent, want %q", got, want)
		}
		conn.Ack(wire.PUBREL, 5, 0)
		conn.ExpectBytes([]byte{0x70, 2, 0, 5})
		r.wantKept("in")
	})
}

// either returns the next packet, a PUBLISH or a PUBREL, as text.
func (r *rig) either(conn *fakebroker.Conn) string {
	r.t.Helper()
	f := conn.Next()
	if f.Type() == wire.PUBLISH {
		v, err := wire.ParsePublish(f)
		r.must(err)
		return fmt.Sprintf("PUBLISH %d %v %s", v.PacketID, v.Dup, v.Payload)
	}
	a, err := wire.ParseAck(f)
	r.must(err)
	return fmt.Sprintf("%v %d", a.Type, a.PacketID)
}

// A Client or Server MUST support the use of one or more underlying transport protocols that
// provide an ordered, lossless, stream of bytes in both directions. This test uses TCP. TLS,
// WebSocket and Unix sockets are tested in internal/link.
func TestMQTT_4_2_1(t *testing.T) {
	b := fakebroker.NewTCP(t)
	arrived := make(chan string, 1000)
	c, err := client.New(client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", Connection: client.ConnectionConfig{Dial: b.Dial}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Handle("#", client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		arrived <- string(m.Payload)
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, _ := b.Connect(control.Connack{})
	const n = 100
	var all [][]byte
	for i := range n {
		p := message(1, uint16(i+1), fmt.Sprint(i))
		all = append(all, wire.AppendPublish(nil, &p))
	}
	conn.Send(all[:40]...)
	conn.Trickle(all[40:60]...)
	for i, cut := 60, 0; i < n; i++ { // so that a packet ends within the next segment
		conn.Send(all[i][cut:], all[(i+1)%n][:3*min(1, n-1-i)])
		cut = 3
	}
	for i := range n {
		if got := <-arrived; got != fmt.Sprint(i) {
			t.Fatalf("message %d came as number %d", i, i)
		}
		if a := conn.ExpectAck(wire.PUBACK); int(a.PacketID) != i+1 {
			t.Fatalf("%d is acknowledged, want %d", a.PacketID, i+1)
		}
	}
	for i := range n {
		if _, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1, Payload: make([]byte, 700*i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if p := conn.ExpectPublish(); len(p.Payload) != 700*i {
			t.Fatalf("message %d has %d bytes", i, len(p.Payload))
		}
	}
}

// When a Client reconnects with Clean Start set to 0 and a session is present, it
// MUST resend any unacknowledged PUBLISH packets (where QoS > 0) and PUBREL packets
// using their original Packet Identifiers. Clients MUST NOT resend messages at any
// other time.
func TestMQTT_4_4_0_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		store := persistence.NewMemory(persistence.Options{})
		r.cfg.Store.Custom = store
		c, conn := r.start(control.Connack{})
		send := func(qos client.QoS, payload string) uint16 {
			t.Helper()
			r.publish(c, qos, payload)
			return r.wantPublish(conn, payload, false).PacketID
		}
		send(0, "zero")
		one, two, three := send(1, "one"), send(2, "two"), send(2, "three")
		conn.Ack(wire.PUBREC, three, 0)
		conn.ExpectAck(wire.PUBREL)
		conn.Ack(wire.PUBACK, send(1, "acked"), 0)
		done := send(2, "done")
		conn.Ack(wire.PUBREC, done, 0)
		conn.ExpectAck(wire.PUBREL)
		conn.Ack(wire.PUBCOMP, done, 0)
		conn.QuietFor(10 * time.Hour)

		want := []string{fmt.Sprintf("PUBLISH %d true one", one), fmt.Sprintf("PUBLISH %d true two", two), fmt.Sprintf("PUBREL %d", three)}
		slices.Sort(want)
		resent := func(why string) {
			t.Helper()
			got := []string{r.either(conn), r.either(conn), r.either(conn)}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q were resent, want %q", why, got, want)
			}
			conn.QuietFor(10 * time.Hour)
		}
		for range 3 {
			conn = r.resume(conn)
			resent("a new connection")
		}
		conn.Close()
		r.must(c.Close())
		c, _ = r.restart(store)
		var connect control.Connect
		conn, connect = r.Connect(control.Connack{SessionPresent: true})
		if connect.CleanStart {
			t.Error("the new process asks for a new session")
		}
		resent("a new process")
		conn.Ack(wire.PUBACK, one, 0)
		conn.Ack(wire.PUBREC, two, 0)
		conn.ExpectAck(wire.PUBREL)
		conn.Ack(wire.PUBCOMP, two, 0)
		conn.Ack(wire.PUBCOMP, three, 0)
		conn = r.resume(conn)
		conn.Quiet()
	})
}

// If PUBACK or PUBREC is received containing a Reason Code of 0x80 or greater the
// corresponding PUBLISH packet is treated as acknowledged, and MUST NOT be
// retransmitted.
func TestMQTT_4_4_0_2(t *testing.T) {
	for qos, ack := range map[client.QoS]wire.Type{1: wire.PUBACK, 2: wire.PUBREC} {
		for _, reason := range []byte{0x91, 0x97} { // PUBREL may follow for identifiers that the server holds
			onRig(t, func(t *testing.T, r *rig) {
				c, conn := r.start(control.Connack{})
				conn = r.resume(conn)
				d := r.publish(c, qos, "p")
				conn.Ack(ack, r.wantPublish(conn, "p", false).PacketID, reason)
				r.wantState(d, client.Refused)
				for range 2 {
					if list := r.published(conn); len(list) > 0 {
						t.Errorf("after 0x%02X came %+v", reason, list)
					}
					conn = r.resume(conn)
				}
			})
		}
		onRig(t, func(t *testing.T, r *rig) {
			store := persistence.NewMemory(persistence.Options{})
			r.cfg.Store.Custom = store
			c, conn := r.start(control.Connack{})
			for _, reason := range []byte{0x80, 0x83, 0x87, 0x90, 0x99} {
				d := r.publish(c, qos, "p")
				conn.Ack(ack, r.wantPublish(conn, "p", false).PacketID, reason)
				r.wantState(d, client.Refused)
				var refused *client.RefusedError
				if !errors.As(d.Outcome().Err, &refused) || refused.Code != reason {
					t.Errorf("the outcome of 0x%02X is %v", reason, d.Outcome().Err)
				}
				conn.Quiet()
				conn = r.resume(conn)
				conn.Quiet()
			}
			conn.Close()
			r.must(c.Close())
			_, _ = r.restart(store)
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			conn.Quiet()
		})
	}
}

// The Client MUST acknowledge any Publish packet it receives according to the
// applicable QoS rules regardless of whether it elects to process the Application
// Message that it contains.
func TestMQTT_4_5_0_2(t *testing.T) {
	for qos, answer := range map[byte]wire.Type{1: wire.PUBACK, 2: wire.PUBREC} {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Receiving.HandlerBackoff.Min, r.cfg.Receiving.HandlerBackoff.Max = time.Millisecond, time.Millisecond
			r.cfg.Receiving.HandlerAttempts, r.cfg.Receiving.UnhandledGrace = 3, client.NoGrace
			_, conn := r.receiver(control.Connack{}, func(_ context.Context, m *client.Message) error {
				switch string(m.Payload) {
				case "refused":
					return client.Refuse(0x87, "no")
				case "fails":
					return errors.New("never works")
				case "panics":
					panic("never works")
				}
				return nil
			})
			id := uint16(0)
			for _, payload := range []string{"handled", "refused", "fails", "panics", "nobody's"} {
				id++
				p := message(qos, id, payload)
				p.User = []wire.UserProperty{{Key: "m-id", Value: payload}}
				if payload == "nobody's" {
					p.Topic = "$SYS/t"
				}
				conn.Publish(p)
				if a := conn.ExpectAck(answer); a.PacketID != id || (a.Reason < 0x80) != (payload == "handled") {
					t.Errorf("%s: the answer is %+v", payload, a)
				}
				conn.Quiet()
			}
			conn.Publish(message(0, 0, "refused")) // QoS 0 is not acknowledged
			conn.Quiet()
		})
	}
}
