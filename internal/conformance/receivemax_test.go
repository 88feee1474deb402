package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.3.4: the server's Receive Maximum.

// quota counts the unacknowledged messages of a client, as a server does.
type quota struct {
	t       *testing.T
	maximum int
	open    map[uint16]wire.Type // the acknowledgement that the server still has to send: PUBACK, PUBREC or PUBCOMP
	counted map[uint16]bool      // identifiers in open that were published on this connection
	most    int
}

// connected starts a connection, on which nothing was sent yet.
func (q *quota) connected() {
	q.open, q.counted = map[uint16]wire.Type{}, map[uint16]bool{}
}

// take processes all packets received so far.
func (q *quota) take(conn *fakebroker.Conn) {
	q.t.Helper()
	for _, f := range conn.Take() {
		switch f.Type() {
		case wire.PUBLISH:
			v, err := wire.ParsePublish(f)
			if err != nil {
				q.t.Fatal(err)
			}
			if v.QoS > 0 {
				q.open[v.PacketID] = map[byte]wire.Type{1: wire.PUBACK, 2: wire.PUBREC}[v.QoS]
				q.counted[v.PacketID] = true
			}
		case wire.PUBREL:
			a, err := wire.ParseAck(f)
			if err != nil {
				q.t.Fatal(err)
			}
			q.open[a.PacketID] = wire.PUBCOMP
		default:
			q.t.Fatalf("%v % x came", f.Type(), f.Raw)
		}
	}
	q.most = max(q.most, len(q.counted))
	if len(q.counted) > q.maximum {
		q.t.Fatalf("%d messages are not acknowledged, the Receive Maximum is %d", len(q.counted), q.maximum)
	}
}

// answer answers one open exchange, chosen at random.
func (q *quota) answer(conn *fakebroker.Conn, r *rand.Rand) {
	ids := make([]uint16, 0, len(q.open))
	for id := range q.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := ids[r.IntN(len(ids))]
	kind := q.open[id]
	switch {
	case kind == wire.PUBREC && r.IntN(4) == 0:
		conn.Ack(wire.PUBREC, id, 0x97) // the exchange ends here
		delete(q.open, id)
		delete(q.counted, id)
	case kind == wire.PUBREC:
		conn.Ack(wire.PUBREC, id, 0) // it does not end, so nothing more may be sent
	default:
		conn.Ack(kind, id, 0)
		delete(q.open, id)
		delete(q.counted, id)
	}
}

// [MQTT-3.3.4-7]: no more than Receive Maximum messages at QoS 1 and 2 without
// PUBACK, PUBCOMP, or a PUBREC that refuses.
func TestMQTT_3_3_4_7(t *testing.T) {
	for _, maximum := range []int{1, 2, 3, 10} {
		for _, status := range []bool{false, true} {
			t.Run(fmt.Sprint("maximum ", maximum, " status ", status), func(t *testing.T) {
				onRig(t, func(t *testing.T, r *rig) {
					if status {
						r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
					}
					random := rand.New(rand.NewPCG(uint64(maximum), 1))
					c := r.client()
					var all []*client.Delivery
					for n := range 60 {
						all = append(all, r.publishMessage(c, client.Message{Topic: "t", QoS: client.QoS(1 + n%2), Priority: client.Priority(n / 7 % 3)}))
					}
					conn, _ := r.Connect(control.Connack{ReceiveMaximum: uint16(maximum)})
					q := &quota{t: t, maximum: maximum}
					q.connected()
					for steps := 0; ; steps++ {
						q.take(conn)
						if len(q.open) == 0 {
							break
						}
						if steps == 20 || steps == 50 {
							// Messages are sent again and count again.
							conn.Close()
							conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: uint16(maximum)})
							q.connected()
							q.take(conn)
						}
						q.answer(conn, random)
					}
					for n, d := range all {
						if s := r.state(d); s != client.Acked && s != client.Refused {
							t.Errorf("message %d is %v", n, s)
						}
					}
					if q.most < maximum {
						t.Errorf("no more than %d messages were on their way", q.most)
					}
				})
			})
		}
	}
	t.Run("smaller than what was sent before", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			for n := range 20 {
				r.publish(c, client.QoS(1+n%2), "x")
			}
			if n := len(conn.Take()); n != 20 {
				t.Errorf("%d messages came", n)
			}
			conn.Close()
			conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: 3})
			q := &quota{t: t, maximum: 3}
			q.connected()
			random := rand.New(rand.NewPCG(1, 1))
			for q.take(conn); len(q.open) > 0; q.take(conn) {
				q.answer(conn, random)
			}
			if n := c.Stats().Store.Pending; n != 0 {
				t.Errorf("%d messages are pending", n)
			}
		})
	})
	t.Run("birth and offline status count too", func(t *testing.T) {
		for _, maximum := range []int{1, 2} {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
				c := r.client()
				for range 3 {
					r.publish(c, client.AtLeastOnce, "x")
				}
				conn, _ := r.Connect(control.Connack{ReceiveMaximum: uint16(maximum)})
				q := &quota{t: t, maximum: maximum}
				q.connected()
				q.take(conn)
				conn.Ack(wire.PUBACK, 1, 0) // for the birth
				delete(q.open, 1)
				delete(q.counted, 1)
				q.take(conn)
				closed := make(chan error, 1)
				go func() { closed <- c.Close() }()
				for _, f := range conn.Rest() {
					switch f.Type() {
					case wire.PUBLISH:
						q.counted[0] = true
					case wire.DISCONNECT:
					default:
						t.Errorf("%v came", f.Type())
					}
				}
				if n := len(q.counted); n > maximum {
					t.Errorf("%d messages are not acknowledged, the Receive Maximum is %d", n, maximum)
				}
				r.must(<-closed)
			})
		}
	})
	t.Run("absent is 65,535", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			for range 66_000 {
				r.publish(c, client.AtLeastOnce, "")
			}
			if n := len(conn.Take()); n < 60_000 || n > 65_535 {
				t.Errorf("%d messages came", n)
			}
		})
	})
	t.Run("0 is a Protocol Error", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c := r.client()
			r.publish(c, client.AtLeastOnce, "x")
			conn, _ := r.Open()
			conn.Send(raw(0x20, 0, 0, props(wire.PropReceiveMaximum, uint16(0))))
			conn.ExpectClosed()
		})
	})
}

// [MQTT-3.3.4-8]: only PUBLISH waits for the Receive Maximum.
func TestMQTT_3_3_4_8(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.KeepAlive = 5 * time.Second
		c, conn := r.receiver(control.Connack{ReceiveMaximum: 1}, r.keep)
		for n := range 10 {
			r.publish(c, client.ExactlyOnce, fmt.Sprint(n))
		}
		out := r.wantPublish(conn, "0", false)
		conn.Quiet()

		done := subscribe(t.Context(), c, "f")
		conn.Suback(conn.ExpectSubscribe().PacketID, 1)
		r.must(<-done)
		done = unsubscribe(t.Context(), c, "f")
		conn.Unsuback(conn.ExpectUnsubscribe().PacketID, 0)
		r.must(<-done)
		conn.Publish(message(1, 7, "a"))
		conn.ExpectAck(wire.PUBACK)
		conn.Publish(message(2, 8, "b"))
		conn.ExpectAck(wire.PUBREC)
		conn.Ack(wire.PUBREL, 8, 0)
		conn.ExpectAck(wire.PUBCOMP)
		conn.Ack(wire.PUBREC, out.PacketID, 0)
		conn.ExpectAck(wire.PUBREL)
		conn.Ack(wire.PUBREC, 99, 0) // for an unknown identifier
		if a := conn.ExpectAck(wire.PUBREL); a.PacketID != 99 {
			t.Errorf("PUBREL for %d", a.PacketID)
		}
		r.Timeout = time.Minute
		conn.ExpectPingreq()
		conn.Pingresp()
		r.wantKept("ab")
		synctest.Wait()
		r.must(c.Close())
		conn.ExpectDisconnect(0)
	})
	t.Run("a second time around", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			// SUBSCRIBE on a new connection whose window is full at once.
			c, conn := r.start(control.Connack{})
			for n := range 10 {
				r.publish(c, client.AtLeastOnce, fmt.Sprint(n))
			}
			conn.Take()
			conn.Close()
			synctest.Wait()
			r.must(<-subscribe(t.Context(), c, "f"))
			conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: 1})
			types := map[wire.Type]int{}
			for range 2 {
				f := conn.Next()
				types[f.Type()]++
				if f.Type() == wire.SUBSCRIBE {
					conn.Suback(uint16(f.Body[0])<<8|uint16(f.Body[1]), 1)
				}
			}
			if types[wire.SUBSCRIBE] != 1 || types[wire.PUBLISH] != 1 {
				t.Errorf("the client sent %v", types)
			}
			conn.Quiet()
		})
	})
	t.Run("PUBREL on a new connection", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			r.publish(c, client.AtLeastOnce, "one")
			conn.ExpectPublish()
			var want []uint16
			for range 3 {
				r.publish(c, client.ExactlyOnce, "two")
				id := conn.ExpectPublish().PacketID
				conn.Ack(wire.PUBREC, id, 0)
				conn.ExpectAck(wire.PUBREL)
				want = append(want, id)
			}
			conn.Close()
			conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: 1})
			if _, rels := resent(t, conn); !slices.Equal(rels, want) {
				t.Errorf("PUBREL for %v, want %v", rels, want)
			}
		})
	})
}
