package conformance

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Chapter 2: the common parts of all packets.

// [MQTT-2.1.3-1]: reserved flag bits have the values listed.
func TestMQTT_2_1_3_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.KeepAlive = 5 * time.Second
		r.cfg.Presence.Will = &client.Will{Topic: "w", QoS: 2, Retain: true}
		r.cfg.Connection.Username, r.cfg.Connection.Password = "u", []byte("p")
		c, err := client.New(r.cfg)
		r.must(err)
		t.Cleanup(func() { _ = c.Close() })
		r.must(c.Handle("#", client.HandlerFunc(r.keep)))
		r.must(c.Start(context.Background()))
		conn := r.Accept()
		next := func(header byte) wire.Frame {
			t.Helper()
			f := conn.Next()
			if f.Header != header {
				t.Fatalf("got % x, want it to begin with %02x", f.Raw, header)
			}
			return f
		}
		if f := next(0x10); f.Body[7]&0x01 != 0 {
			t.Errorf("Connect Flags are %08b: bit 0 is reserved and 0", f.Body[7])
		}
		conn.Connack(control.Connack{})
		subscribed := make(chan error, 1)
		go func() {
			subscribed <- errOf(c.Subscribe(t.Context(), "f", client.ExactlyOnce, client.HandlerFunc(r.keep), client.NoLocal(), client.RetainAsPublished(), client.RetainHandling(client.SendRetainedNever)))
		}()
		f := next(0x82)
		if options := f.Body[len(f.Body)-1]; options&0xC0 != 0 {
			t.Errorf("Subscription Options are %08b: bits 6 and 7 are reserved and 0", options)
		}
		conn.Send(raw(0x90, f.Body[:2], 0, 2))
		r.must(<-subscribed)
		conn.Publish(message(1, 7, "1"))
		next(0x40)
		conn.Publish(message(2, 8, "2"))
		next(0x50)
		conn.Ack(wire.PUBREL, 8, 0)
		next(0x70)
		r.publish(c, client.ExactlyOnce, "out")
		f = next(0x34)
		conn.Send(raw(0x50, f.Body[3:5]))
		next(0x62)
		conn.Send(raw(0x70, f.Body[3:5]))
		unsubscribed := unsubscribe(t.Context(), c, "f")
		f = next(0xA2)
		conn.Unsuback(uint16(f.Body[0])<<8|uint16(f.Body[1]), 0)
		r.must(<-unsubscribed)
		next(0xC0)
		conn.Pingresp()
		r.must(c.Close())
		next(0xE0)
	})
	for name, packet := range map[string][]byte{
		"PUBACK": raw(0x42, uint16(9)), "PUBREC": raw(0x52, uint16(9)), "PUBREL": raw(0x60, uint16(9)), "PUBREL, 3": raw(0x63, uint16(9)),
		"PUBCOMP": raw(0x78, uint16(9)), "SUBACK": raw(0x92, uint16(9), 0, 0), "UNSUBACK": raw(0xB2, uint16(9), 0, 0),
		"PINGRESP": raw(0xD1), "DISCONNECT": raw(0xE2, 0x80), "AUTH": raw(0xF1), "type 0": raw(0x00),
	} {
		wantViolation(t, name, wire.ReasonMalformedPacket, packet)
	}
	for name, connack := range map[string][]byte{"CONNACK": raw(0x21, 0, 0, 0), "CONNACK, its own flags": raw(0x20, 2, 0, 0)} {
		t.Run(name, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.client()
				conn, _ := r.Open()
				conn.Send(connack)
				conn.ExpectClosed()
			})
		})
	}
}

// [MQTT-2.2.1-2]: a PUBLISH at QoS 0 has no Packet Identifier.
func TestMQTT_2_2_1_2(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		// Publish one at QoS 1 first: its identifier must not be used for the next message.
		r.publish(c, client.AtLeastOnce, "1")
		conn.ExpectPublish()
		r.publish(c, client.AtMostOnce, "p")
		conn.ExpectBytes([]byte{0x30, 5, 0, 1, 't', 0, 'p'})
		r.publishMessage(c, client.Message{Topic: "t", Retain: true, Priority: client.Urgent})
		conn.ExpectBytes([]byte{0x31, 4, 0, 1, 't', 0})
	})
	// The bytes after the topic of a received QoS 0 PUBLISH are not an identifier either.
	wantHandled(t, "received", "\x00\x05p", raw(0x30, "t", 0, []byte("\x00\x05p")))
}

// [MQTT-2.2.1-3]: a new SUBSCRIBE, UNSUBSCRIBE or PUBLISH (QoS > 0) gets a
// Packet Identifier that is not zero and not in use.
func TestMQTT_2_2_1_3(t *testing.T) {
	id := func(f wire.Frame) uint16 {
		at := 0
		if f.Type() == wire.PUBLISH {
			at = 2 + int(f.Body[0])<<8 + int(f.Body[1])
		}
		return uint16(f.Body[at])<<8 | uint16(f.Body[at+1])
	}
	t.Run("many at once", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true} // a birth has an identifier too
			c, conn := r.start(control.Connack{})
			for n := range 1200 {
				r.publishMessage(c, client.Message{Topic: "t", QoS: client.QoS(1 + n%2), Priority: client.Priority(n / 2 % 3)})
			}
			synctest.Wait() // the outbox waits for an unanswered SUBSCRIBE
			subscribe(t.Context(), c, "f")
			synctest.Wait()
			used := map[uint16]bool{}
			types := map[wire.Type]int{}
			for _, f := range conn.Take() {
				types[f.Type()]++
				if n := id(f); n == 0 || used[n] {
					t.Fatalf("%v has identifier %d, which is zero or in use", f.Type(), n)
				}
				used[id(f)] = true
			}
			if types[wire.PUBLISH] < 1000 || types[wire.SUBSCRIBE] != 1 {
				t.Errorf("the client sent %v", types)
			}
		})
	})
	t.Run("once around", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			// One exchange stays open: it gets PUBREC, but no PUBCOMP.
			r.publish(c, client.ExactlyOnce, "stays")
			stays := id(conn.Expect(wire.PUBLISH))
			conn.Ack(wire.PUBREC, stays, 0)
			conn.Expect(wire.PUBREL)
			published, around := 0, 0
			for ; around < 2*65_535 && published-around < 100; around++ {
				for published < around+100 {
					r.publish(c, client.AtLeastOnce, "x")
					published++
				}
				frames := conn.Take()
				if len(frames) == 0 {
					break // it may wait
				}
				var answers [][]byte
				for _, f := range frames {
					if n := id(f); n == 0 || n == stays {
						t.Fatalf("message %d has identifier %d, which is zero or in use", around, n)
					}
					answers = append(answers, raw(0x40, f.Body[3:5]))
				}
				conn.Send(answers...)
				around += len(frames) - 1
			}
			if around < 60_000 {
				t.Errorf("only %d identifiers were used", around)
			}
			// The waiting message is sent when the identifier is free.
			conn.Ack(wire.PUBCOMP, stays, 0)
			if f := conn.Expect(wire.PUBLISH); id(f) == 0 {
				t.Error("identifier 0")
			}
		})
	})
	t.Run("a request without an answer", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			ctx, cancel := context.WithCancel(t.Context())
			first := subscribe(ctx, c, "first")
			stays := id(conn.Expect(wire.SUBSCRIBE))
			cancel()
			<-first
			for n := range 600 {
				request := subscribe
				if n%2 == 1 {
					request = unsubscribe
				}
				done := request(t.Context(), c, fmt.Sprint("f", n))
				f := conn.Next()
				got := id(f)
				if got == 0 || got == stays {
					t.Fatalf("%v has identifier %d, which is zero or in use", f.Type(), got)
				}
				if f.Type() == wire.SUBSCRIBE {
					conn.Suback(got, 0)
				} else {
					conn.Unsuback(got, 0)
				}
				<-done
			}
		})
	})
}

// [MQTT-2.2.1-5]: PUBACK, PUBREC, PUBREL and PUBCOMP have the Packet Identifier
// of the PUBLISH.
func TestMQTT_2_2_1_5(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.receiver(control.Connack{}, r.keep)
		want := func(kind wire.Type, id uint16) {
			t.Helper()
			if a := conn.ExpectAck(kind); a.PacketID != id {
				t.Errorf("%v for %d, want %d", kind, a.PacketID, id)
			}
		}
		for _, id := range []uint16{1, 0x00FF, 0x0100, 0xFFFF} {
			conn.Publish(message(1, id, "1"))
			want(wire.PUBACK, id)
			conn.Publish(message(2, id, "2"))
			want(wire.PUBREC, id)
			conn.Ack(wire.PUBREL, id, 0)
			want(wire.PUBCOMP, id)
		}
		// Several messages at once, with both QoS levels.
		conn.Send(publishes(message(1, 3, "a"), message(2, 4, "b"), message(1, 5, "c"), message(2, 6, "d"))...)
		want(wire.PUBACK, 3)
		want(wire.PUBREC, 4)
		want(wire.PUBACK, 5)
		want(wire.PUBREC, 6)
		conn.Ack(wire.PUBREL, 6, 0) // in another order
		want(wire.PUBCOMP, 6)
		conn.Ack(wire.PUBREL, 4, 0)
		want(wire.PUBCOMP, 4)
		// An unknown identifier.
		conn.Ack(wire.PUBREL, 99, 0)
		want(wire.PUBCOMP, 99)

		// The client's own PUBREL, also on the next connection.
		for range 3 {
			r.publish(c, client.ExactlyOnce, "out")
		}
		var ids []uint16
		for range 3 {
			ids = append(ids, conn.ExpectPublish().PacketID)
		}
		for _, id := range ids {
			conn.Ack(wire.PUBREC, id, 0)
			want(wire.PUBREL, id)
		}
		conn = r.resume(conn)
		for _, id := range ids {
			want(wire.PUBREL, id)
		}
	})
}

// publishes returns PUBLISH packets for one segment.
func publishes(list ...wire.Publish) (packets [][]byte) {
	for _, p := range list {
		packets = append(packets, wire.AppendPublish(nil, &p))
	}
	return packets
}

// [MQTT-2.2.2-1]: if there are no properties, the Property Length is zero.
func TestMQTT_2_2_2_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Presence.Will = &client.Will{Topic: "w"}
		c := r.client()
		conn := r.Accept()
		f := conn.Expect(wire.CONNECT)
		if want := bytesOf("c", 0, "w", ""); !bytes.HasSuffix(f.Raw, want) {
			t.Errorf("CONNECT % x, want the Will Properties 00 in % x", f.Raw, want)
		}
		conn.Connack(control.Connack{SubIDUnavailable: true})
		r.await(c)
		r.publishMessage(c, client.Message{Topic: "t"})
		conn.ExpectBytes([]byte{0x30, 4, 0, 1, 't', 0})
		subscribe(t.Context(), c, "t")
		f = conn.Expect(wire.SUBSCRIBE)
		if want := raw(0x82, f.Body[:2], 0, "t", 1); !bytes.Equal(f.Raw, want) {
			t.Errorf("got % x, want % x", f.Raw, want)
		}
		conn.Send(raw(0x90, f.Body[:2], 0, 1))
		unsubscribe(t.Context(), c, "t")
		f = conn.Expect(wire.UNSUBSCRIBE)
		if want := raw(0xA2, f.Body[:2], 0, "t"); !bytes.Equal(f.Raw, want) {
			t.Errorf("got % x, want % x", f.Raw, want)
		}
		conn.Send(raw(0xB0, f.Body[:2], 0, 0))
	})
	// A server must not omit it either if something follows.
	wantViolation(t, "PUBLISH", wire.ReasonMalformedPacket, raw(0x30, "t"))
	wantViolation(t, "SUBACK", wire.ReasonMalformedPacket, raw(0x90, uint16(9)))
}
