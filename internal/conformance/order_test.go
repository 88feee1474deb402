package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Section 4.6: message ordering.

// payloads returns the payloads of the next n packets, which must be PUBLISH.
func payloads(conn *fakebroker.Conn, n int) string {
	var list []string
	for range n {
		list = append(list, string(conn.ExpectPublish().Payload))
	}
	return strings.Join(list, " ")
}

// When the Client re-sends any PUBLISH packets, it MUST re-send them in the order
// in which the original PUBLISH packets were sent (QoS 1 and QoS 2 messages).
func TestMQTT_4_6_0_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{ReceiveMaximum: 6})
		ids := map[string]uint16{}
		// The order of sending follows the priorities only among waiting messages.
		for i, m := range []client.Message{
			{QoS: 1}, {QoS: 2, Priority: client.High}, {QoS: 1, Priority: client.Urgent},
			{QoS: 2}, {QoS: 1, Priority: client.High}, {QoS: 2, Priority: client.Urgent},
			{QoS: 1, Priority: client.High}, {QoS: 1, Priority: client.Urgent}, // these two have to wait
		} {
			m.Topic, m.Payload = fmt.Sprint("t/", i%3), fmt.Append(nil, i)
			r.publishMessage(c, m)
			if i < 6 {
				ids[fmt.Sprint(i)] = conn.ExpectPublish().PacketID
			}
		}
		conn.Quiet()
		conn.Ack(wire.PUBACK, ids["2"], 0)
		if got := payloads(conn, 1); got != "7" {
			t.Errorf("%s is sent next, want 7", got)
		}
		for _, window := range []uint16{6, 1, 6} {
			conn.Close()
			conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: window})
			if window == 6 {
				if got := payloads(conn, 6); got != "0 1 3 4 5 7" {
					t.Errorf("%s were resent, want 0 1 3 4 5 7", got)
				}
			} else if got := payloads(conn, 1); got != "0" {
				t.Errorf("%s were resent first, want 0", got)
			}
			conn.Quiet()
		}
		conn.Close() // a window of one shows the order of all messages
		conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: 1})
		for _, want := range strings.Fields("0 1 3 4 5 7 6") {
			p := conn.ExpectPublish()
			if string(p.Payload) != want || p.Dup != (want != "6") {
				t.Errorf("%s came, DUP %v; want %s", p.Payload, p.Dup, want)
			}
			if p.QoS == 1 {
				conn.Ack(wire.PUBACK, p.PacketID, 0)
				continue
			}
			conn.Ack(wire.PUBREC, p.PacketID, 0)
			conn.ExpectAck(wire.PUBREL)
			conn.Ack(wire.PUBCOMP, p.PacketID, 0)
		}
	})
	onRig(t, func(t *testing.T, r *rig) { // the order of sending differs from the order of acceptance
		c, err := client.New(r.cfg)
		r.must(err)
		defer c.Close()
		for i, p := range []client.Priority{client.Normal, client.High, client.Urgent, client.Normal, client.High, client.Urgent} {
			r.publishMessage(c, client.Message{Topic: "t", QoS: client.QoS(1 + i%2), Priority: p, Payload: fmt.Append(nil, i)})
		}
		r.must(c.Start(context.Background()))
		conn, _ := r.Connect(control.Connack{})
		for range 4 {
			if got := payloads(conn, 6); got != "2 5 1 4 0 3" {
				t.Errorf("%s were sent, want 2 5 1 4 0 3", got)
			}
			conn = r.resume(conn)
		}
	})
	onRig(t, func(t *testing.T, r *rig) { // across the end of the process
		store := persistence.NewMemory(persistence.Options{})
		r.cfg.Store.Custom = store
		c, conn := r.start(control.Connack{})
		for i := range 9 {
			r.publish(c, client.QoS(1+i%2), fmt.Sprint(i))
		}
		want := "0 1 2 3 4 5 6 7 8"
		if got := payloads(conn, 9); got != want {
			t.Errorf("%s were sent, want %s", got, want)
		}
		conn.Close()
		r.must(c.Close())
		_, _ = r.restart(store)
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		if got := payloads(conn, 9); got != want {
			t.Errorf("%s were resent, want %s", got, want)
		}
	})
}

// acksInOrder makes handlers end in another order than their messages arrived. Some of them refuse.
func acksInOrder(t *testing.T, qos byte, answer wire.Type) {
	onRig(t, func(t *testing.T, r *rig) {
		g := newGate(t)
		probing, topics := make(chan struct{}), []string(nil)
		_, conn := r.receiver(control.Connack{}, func(ctx context.Context, m *client.Message) error {
			if string(m.Payload) != "probe" {
				return g.handle(ctx, m)
			}
			_ = r.keep(ctx, m)
			<-probing
			return nil
		})
		// Find topics that are handled concurrently: one whose message comes first in the queue of
		// each worker.
		for i := range 256 {
			conn.Publish(wire.Publish{Topic: fmt.Sprint(i), Payload: []byte("probe")})
		}
		r.kept()
		for _, m := range r.got {
			topics = append(topics, m.Topic)
		}
		close(probing)
		send := func(dup bool) {
			for i, name := range []string{"a", "b", "c", "d"} {
				p := message(qos, uint16(40-i), name)
				p.Topic, p.Dup = topics[i], dup
				conn.Publish(p)
			}
		}
		send(false)
		want := func(ids ...byte) {
			t.Helper()
			for _, id := range ids {
				if a := conn.ExpectAck(answer); a.PacketID != uint16(id) {
					t.Errorf("%d is acknowledged, want %d", a.PacketID, id)
				}
			}
			conn.Quiet()
		}
		g.open("d")
		g.refuse("c", 0x97)
		want()
		g.open("a")
		want(40)
		g.open("b")
		want(39, 38, 37)

		send(false)
		if qos == 1 {
			g.open("c")
		}
		conn = r.resume(conn)
		send(true)
		if qos == 2 { // all except c were handled, but have no PUBREL yet
			g.open("c")
		} else {
			g.open("d")
			g.open("b")
			want()
			g.open("a")
		}
		want(40, 39, 38, 37)
	})
}

// The Client MUST send PUBACK packets in the order in which the corresponding
// PUBLISH packets were received (QoS 1 messages).
func TestMQTT_4_6_0_2(t *testing.T) { acksInOrder(t, 1, wire.PUBACK) }

// The Client MUST send PUBREC packets in the order in which the corresponding
// PUBLISH packets were received (QoS 2 messages).
func TestMQTT_4_6_0_3(t *testing.T) { acksInOrder(t, 2, wire.PUBREC) }

// The Client MUST send PUBREL packets in the order in which the corresponding
// PUBREC packets were received (QoS 2 messages).
func TestMQTT_4_6_0_4(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		var ids []uint16
		for i := range 8 {
			r.publish(c, client.ExactlyOnce, fmt.Sprint(i))
			ids = append(ids, conn.ExpectPublish().PacketID)
		}
		order := []int{5, 0, 7, 2, 1, 6, 3, 4}
		conn.Ack(wire.PUBREC, ids[order[0]], 0)
		var together [][]byte // and many in one segment
		for _, i := range order[1:] {
			together = append(together, wire.AppendAck(nil, wire.Ack{Type: wire.PUBREC, PacketID: ids[i]}))
		}
		conn.Send(together...)
		for _, i := range order {
			if a := conn.ExpectAck(wire.PUBREL); a.PacketID != ids[i] {
				t.Errorf("PUBREL of %d came, want %d", a.PacketID, ids[i])
			}
		}
	})
	pubrelsOfEarlierProcesses(t)
}
