package conformance

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.2: CONNACK, and what it forbids the client to send.

// wantClosed checks a session that the store does not know. The client must close the connection
// without sending anything, and connect again when the store knows the session. Then the server has
// no session; client.TestSessionAdopted_ReceivesAndPurges covers the case in which it has one.
func (r *rig) wantClosed() *fakebroker.Conn {
	r.t.Helper()
	conn, connect := r.Connect(control.Connack{SessionPresent: true})
	if connect.CleanStart {
		r.t.Error("Clean Start is 1")
	}
	for _, f := range conn.Rest() {
		if f.Type() != wire.DISCONNECT {
			r.t.Errorf("%v % x was sent in a session that the store does not know", f.Type(), f.Raw)
		}
	}
	conn, connect = r.Connect(control.Connack{})
	if connect.CleanStart {
		r.t.Error("the next CONNECT asks for a new session")
	}
	return conn
}

// [MQTT-3.2.2-4]: if Session Present is 1 and the client has no session state, it must close the
// connection.
func TestMQTT_3_2_2_4(t *testing.T) {
	t.Run("a new client", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
			c := r.client()
			r.publish(c, client.ExactlyOnce, "x")
			r.must(<-subscribe(t.Context(), c, "f"))
			r.wantClosed().ExpectPublish() // the birth
		})
	})
	t.Run("one whose store never had a session", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			restart := r.store()
			c := r.client()
			r.publish(c, client.AtLeastOnce, "x")
			conn, _ := r.Open()
			conn.Connack(control.Connack{Reason: 0x88})
			r.must(c.Close())
			restart()
			r.client()
			r.wantPublish(r.wantClosed(), "x", false)
		})
	})
	t.Run("packets after a CONNACK with an unknown session are ignored", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, err := client.New(r.cfg)
			r.must(err)
			t.Cleanup(func() { _ = c.Close() })
			r.must(c.Handle("#", client.HandlerFunc(r.keep)))
			r.must(c.Start(t.Context()))
			conn, _ := r.Open()
			conn.Send(raw(0x20, 1, 0, 0), raw(0x34, "t", uint16(7), 0, []byte("old")))
			for _, f := range conn.Rest() {
				if f.Type() != wire.DISCONNECT {
					t.Errorf("%v was sent", f.Type())
				}
			}
			r.wantKept("")
		})
	})
	anotherClientID(t, true)
	t.Run("the connection stays up with a known session", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			_, conn := r.start(control.Connack{})
			r.resume(conn).Quiet()
		})
	})
}

// [MQTT-3.2.2-5]: if the client has session state and Session Present is 0, it must discard the
// state.
func TestMQTT_3_2_2_5(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				restart := r.store()
				c, conn := r.receiver(control.Connack{}, r.keep)
				r.publish(c, client.ExactlyOnce, "released")
				conn.Ack(wire.PUBREC, conn.ExpectPublish().PacketID, 0)
				conn.ExpectAck(wire.PUBREL)
				r.publish(c, client.ExactlyOnce, "two")
				conn.ExpectPublish()
				r.publish(c, client.AtLeastOnce, "one")
				conn.ExpectPublish()
				conn.Publish(message(2, 7, "old "))
				conn.ExpectAck(wire.PUBREC)
				if restarted {
					r.must(c.Close())
					restart()
					_, conn = r.receiver(control.Connack{}, r.keep)
				} else {
					conn.Close()
					conn, _ = r.Connect(control.Connack{})
				}
				// The messages are new ones. They are published from the beginning, without DUP,
				// and the client sends no PUBREC for messages of the old session.
				for _, payload := range []string{"released", "two", "one"} {
					r.wantPublish(conn, payload, false)
				}
				conn.Quiet()
				conn.Publish(message(2, 7, "new"))
				conn.ExpectAck(wire.PUBREC)
				r.wantKept("old new")
				// An exchange of the old session does not exist in the new one.
				conn.Ack(wire.PUBREL, 8, 0)
				if a := conn.ExpectAck(wire.PUBCOMP); a.Reason != 0x92 {
					t.Errorf("PUBCOMP has reason code 0x%02X", a.Reason)
				}
			})
		})
	}
	t.Run("subscriptions", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			done := subscribe(t.Context(), c, "f")
			conn.Suback(conn.ExpectSubscribe().PacketID, 1)
			r.must(<-done)
			conn = r.resume(conn)
			conn.Quiet() // the session has these subscriptions
			conn.Close()
			conn, _ = r.Connect(control.Connack{})
			if sub := conn.ExpectSubscribe(); sub.Subscriptions[0].Filter != "f" {
				t.Errorf("SUBSCRIBE %+v", sub)
			}
		})
	})
}

// wantNoBirthAgain checks that an unacknowledged birth is not resent to a server that does not
// accept it.
func wantNoBirthAgain(t *testing.T, ack control.Connack) {
	t.Helper()
	t.Run("a birth that was sent before", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
			_, conn := r.start(control.Connack{})
			conn.ExpectPublish()
			conn.Close()
			ack.SessionPresent = true
			conn, _ = r.Connect(ack)
			conn.Quiet()
		})
	})
}

// [MQTT-3.2.2-11]: no PUBLISH above the server's Maximum QoS.
func TestMQTT_3_2_2_11(t *testing.T) {
	for maximum := client.AtMostOnce; maximum <= client.AtLeastOnce; maximum++ {
		t.Run(fmt.Sprint("maximum ", maximum), func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true} // at QoS 1
				c := r.client()
				before := r.publish(c, client.ExactlyOnce, "before")
				conn, _ := r.Connect(control.Connack{HasMaximumQoS: true, MaximumQoS: byte(maximum)})
				r.await(c)
				for range 3 {
					for qos := client.AtMostOnce; qos <= client.ExactlyOnce; qos++ {
						if d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: qos}); qos > maximum && err == nil {
							r.wantState(d, client.Refused)
						}
					}
				}
				r.wantState(before, client.Refused)
				within := 0
				for _, f := range conn.Take() {
					if qos := client.QoS(f.Header >> 1 & 3); f.Type() != wire.PUBLISH || qos > maximum {
						t.Errorf("% x was sent", f.Raw)
					}
					within++
				}
				if want := 3 + 4*int(maximum); within != want { // with Maximum QoS 1 also the birth
					t.Errorf("%d messages were sent, want %d: those that are allowed", within, want)
				}
				go func() { _ = c.Close() }()
				synctest.Wait()
				for _, f := range conn.Take() { // the offline status
					if f.Type() == wire.PUBLISH && client.QoS(f.Header>>1&3) > maximum {
						t.Errorf("% x was sent", f.Raw)
					}
				}
				conn.Close()
			})
		})
	}
	t.Run("what was sent before", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			d := r.publish(c, client.ExactlyOnce, "x")
			conn.ExpectPublish()
			conn.Close()
			conn, _ = r.Connect(control.Connack{SessionPresent: true, HasMaximumQoS: true, MaximumQoS: 1})
			conn.Quiet()
			r.wantState(d, client.Refused)
		})
	})
	wantNoBirthAgain(t, control.Connack{HasMaximumQoS: true})
}

// [MQTT-3.2.2-14]: no PUBLISH with RETAIN where Retain Available is 0.
func TestMQTT_3_2_2_14(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		before := r.publishMessage(c, client.Message{Topic: "t", QoS: client.AtLeastOnce, Retain: true})
		if p := conn.ExpectPublish(); !p.Retain {
			t.Error("RETAIN is 0 where it is allowed")
		}
		conn.Close()
		conn, _ = r.Connect(control.Connack{SessionPresent: true, RetainUnavailable: true})
		r.await(c)
		r.wantState(before, client.Refused)
		for qos := client.AtMostOnce; qos <= client.ExactlyOnce; qos++ {
			d, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: qos, Retain: true})
			if err == nil {
				r.wantState(d, client.Refused)
			}
		}
		r.publish(c, client.AtLeastOnce, "plain")
		if p := r.wantPublish(conn, "plain", false); p.Retain {
			t.Error("RETAIN is 1")
		}
		conn.Quiet()
	})
	t.Run("birth and offline status", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
			c, conn := r.start(control.Connack{RetainUnavailable: true})
			conn.Quiet()
			r.must(c.Close())
			for _, f := range conn.Rest() {
				if f.Type() == wire.PUBLISH {
					t.Errorf("% x was sent", f.Raw)
				}
			}
		})
	})
	wantNoBirthAgain(t, control.Connack{RetainUnavailable: true})
}

// [MQTT-3.2.2-17]: no Topic Alias above the server's Topic Alias Maximum.
func TestMQTT_3_2_2_17(t *testing.T) { wantAliases(t, 5, 1, 20, 65_535) }

// [MQTT-3.2.2-18]: no Topic Alias where that is absent or 0.
func TestMQTT_3_2_2_18(t *testing.T) {
	wantAliases(t, 0, 10, 0)
	t.Run("0 in the packet", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Publishing.TopicAliases = 10
			c := r.client()
			conn, _ := r.Open()
			conn.Send(raw(0x20, 0, 0, props(wire.PropTopicAliasMaximum, uint16(0))))
			r.await(c)
			for range 3 {
				r.publishMessage(c, client.Message{Topic: "a/long/topic"})
				conn.ExpectBytes(raw(0x30, "a/long/topic", 0))
			}
		})
	})
}

// [MQTT-3.2.2-21]: the Server Keep Alive is used.
func TestMQTT_3_2_2_21(t *testing.T) { wantServerKeepAlive(t) }
