package conformance

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.3: PUBLISH. Its flow control is in receivemax_test.go, its Topic
// Aliases are in alias_test.go.

// [MQTT-3.3.1-1]: DUP is 1 when a PUBLISH is delivered again.
func TestMQTT_3_3_1_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		restart := r.store()
		r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
		c, conn := r.start(control.Connack{})
		r.wantPublish(conn, "online", false)
		for n, qos := range []client.QoS{1, 2, 1, 2} {
			r.publish(c, qos, fmt.Sprint(n))
		}
		var ids []uint16
		for n := range 4 {
			ids = append(ids, r.wantPublish(conn, fmt.Sprint(n), false).PacketID)
		}
		// The messages are sent repeatedly, each time with DUP, and otherwise unchanged.
		var first [][]byte
		for round := range 3 {
			conn = r.resume(conn)
			r.wantPublish(conn, "online", true)
			for n := range 4 {
				f := conn.Expect(wire.PUBLISH)
				v, err := wire.ParsePublish(f)
				r.must(err)
				if !v.Dup || string(v.Payload) != fmt.Sprint(n) || v.PacketID != ids[n] {
					t.Errorf("message %d: PUBLISH of %q under %d with DUP %v", n, v.Payload, v.PacketID, v.Dup)
				}
				if round == 0 {
					first = append(first, f.Raw)
				} else if !bytes.Equal(first[n], f.Raw) {
					t.Errorf("round %d sent % x, before it was % x", round, f.Raw, first[n])
				}
			}
		}
		// A message published meanwhile is not a repetition, but becomes one later.
		r.publish(c, client.AtLeastOnce, "new")
		r.wantPublish(conn, "new", false)
		r.cfg.Presence.Status = nil
		go conn.Rest()
		r.must(c.Close())
		restart()
		r.client()
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		for _, payload := range []string{"0", "1", "2", "3", "new"} {
			r.wantPublish(conn, payload, true)
		}
	})
}

// [MQTT-3.3.1-2]: DUP is 0 for QoS 0.
func TestMQTT_3_3_1_2(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for range 3 {
			for _, retain := range []bool{false, true} {
				r.publishMessage(c, client.Message{Topic: "t", Retain: retain, Duplicate: true, ID: client.NewMessageID()})
				if f := conn.Expect(wire.PUBLISH); f.Header&0x08 != 0 || f.Header&0x06 != 0 {
					t.Errorf("% x was sent", f.Raw)
				}
			}
			conn = r.resume(conn) // nor is it sent again
			r.await(c)
			conn.Quiet()
		}
	})
	wantViolation(t, "received", wire.ReasonMalformedPacket, raw(0x38, "t", 0, []byte("p")))
	wantViolation(t, "received, retained", wire.ReasonMalformedPacket, raw(0x39, "t", 0, []byte("p")))
}

// [MQTT-3.3.1-3]: DUP of a sent message depends only on whether it is a retransmission, and not on
// the DUP of a received message.
func TestMQTT_3_3_1_3(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		var c *client.Client
		relay := func(ctx context.Context, m *client.Message) error {
			m.Topic = "out"
			m.QoS = client.AtLeastOnce
			_, err := c.Publish(ctx, *m)
			return err
		}
		c, conn := r.receiver(control.Connack{}, func(ctx context.Context, m *client.Message) error { return relay(ctx, m) })
		for n, dup := range []bool{false, true, false, true} {
			for qos := byte(1); qos <= 2; qos++ {
				m := message(qos, uint16(10*n)+uint16(qos), fmt.Sprint(n))
				m.Dup = dup
				conn.Publish(m)
				var out wire.Publish
				for range 2 { // PUBACK or PUBREC precedes or follows it
					switch f := conn.Next(); f.Type() {
					case wire.PUBLISH:
						v, err := wire.ParsePublish(f)
						r.must(err)
						out = v.Decode("out")
					case wire.PUBACK, wire.PUBREC:
					default:
						t.Fatalf("%v came", f.Type())
					}
				}
				if string(out.Payload) != fmt.Sprint(n) || out.Dup {
					t.Errorf("received with DUP %v, sent %q with DUP %v", dup, out.Payload, out.Dup)
				}
			}
		}
		// A message received with DUP 0 is sent with DUP 1 when it is sent again.
		conn.Close()
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		for range 8 {
			if p := conn.ExpectPublish(); !p.Dup {
				t.Errorf("%q is sent again with DUP 0", p.Payload)
			}
		}
	})
	dupAfterTheEndOfAProcess(t)
}

// [MQTT-3.3.1-4]: never both QoS bits.
func TestMQTT_3_3_1_4(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for qos := client.QoS(3); qos > 0; qos += 4 { // 3, 7 and so on to 255, which wraps to 3
			wantFieldError(t, fmt.Sprint("QoS ", qos), publishError(c, client.Message{Topic: "t", QoS: qos}))
			if qos == 255 {
				break
			}
		}
		for qos := client.QoS(4); qos < 8; qos++ {
			wantFieldError(t, fmt.Sprint("QoS ", qos), publishError(c, client.Message{Topic: "t", QoS: qos}))
		}
		conn.Quiet()
	})
	for _, header := range []byte{0x36, 0x37, 0x3E, 0x3F} {
		wantViolation(t, fmt.Sprintf("received %02x", header), wire.ReasonMalformedPacket, raw(header, "t", uint16(7), 0, []byte("p")))
	}
}

// [MQTT-3.3.2-1]: the Topic Name is the first field, and a UTF-8 Encoded String.
func TestMQTT_3_3_2_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for _, topic := range []string{"t", "/", " ", "$SYS/x", "\u00e9/\u6f22/\U0001F600", "\uFEFF", strings.Repeat("x", 65_535)} {
			for qos := client.AtMostOnce; qos <= client.ExactlyOnce; qos++ {
				r.publishMessage(c, client.Message{Topic: topic, QoS: qos, ContentType: "ct", UserProperties: []client.UserProperty{{Key: "k", Value: "v"}}})
				if f := conn.Expect(wire.PUBLISH); !bytes.HasPrefix(f.Body, bytesOf(topic)) {
					t.Errorf("the packet begins with % x", f.Body[:10])
				}
			}
		}
	})
	bad := map[string]client.Message{"none": {Payload: []byte("p")}, "too long": {Topic: strings.Repeat("x", 65_536)}}
	for _, s := range append(append([]string{}, illFormed...), withNull...) {
		bad[s] = client.Message{Topic: s}
		wantViolation(t, fmt.Sprintf("received %q", s), wire.ReasonMalformedPacket, raw(0x30, s, 0, []byte("p")))
	}
	wantRefused(t, bad)
	wantViolation(t, "received, cut short", wire.ReasonMalformedPacket, raw(0x30, []byte{0, 9, 't'}))
	wantViolation(t, "received, none and no alias", wire.ReasonProtocolError, raw(0x30, "", 0, []byte("p")))
}

// wildcards are Topic Filters that are not valid Topic Names.
var wildcards = []string{"#", "+", "a/#", "a/+/b", "+/a", "a#", "a+b", "/+", "$share/g/+"}

// [MQTT-3.3.2-2]: no wildcard characters in the Topic Name.
func TestMQTT_3_3_2_2(t *testing.T) {
	bad := map[string]client.Message{}
	for _, topic := range wildcards {
		bad[topic] = client.Message{Topic: topic}
		wantImpossible(t, map[string]func(*client.Config){
			"will " + topic:   func(c *client.Config) { c.Presence.Will = &client.Will{Topic: topic} },
			"status " + topic: func(c *client.Config) { c.Presence.Status = &client.Status{Topic: topic, NoCorrection: true} },
		})
		wantViolation(t, "received "+topic, wire.ReasonMalformedPacket, raw(0x32, topic, uint16(7), 0, []byte("p")))
	}
	wantRefused(t, bad)
}

// wantText checks a string property. A valid string must be sent unchanged and an invalid one
// refused. If the server sends an invalid one, the packet is malformed.
func wantText(t *testing.T, property byte, set func(m *client.Message, s string), get func(m *client.Message) string) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.receiver(control.Connack{}, r.keep)
		for n, s := range []string{"a", "\u00e9/\u6f22/\U0001F600", "\uFEFF", "\U0010FFFF", strings.Repeat("x", 65_535)} {
			m := client.Message{Topic: "t"}
			set(&m, s)
			r.publishMessage(c, m)
			want := raw(0x30, "t", props(property, s))
			conn.ExpectBytes(want)
			conn.Send(want)
			r.kept()
			if got := get(r.got[n]); got != s {
				t.Errorf("received %q, want %q", got, s)
			}
		}
	})
	bad := map[string]client.Message{}
	for _, s := range append(append([]string{strings.Repeat("x", 65_536)}, illFormed...), withNull...) {
		m := client.Message{Topic: "t"}
		set(&m, s)
		bad[s[:min(len(s), 6)]] = m
		if len(s) < 65_536 {
			wantViolation(t, fmt.Sprintf("received %q", s), wire.ReasonMalformedPacket, raw(0x30, "t", props(property, s), []byte("p")))
		}
	}
	wantRefused(t, bad)
}

// [MQTT-3.3.2-13]: the Response Topic is a UTF-8 Encoded String.
func TestMQTT_3_3_2_13(t *testing.T) {
	wantText(t, wire.PropResponseTopic, func(m *client.Message, s string) { m.ResponseTopic = s }, func(m *client.Message) string { return m.ResponseTopic })
	wantImpossible(t, map[string]func(*client.Config){"will": func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", ResponseTopic: "\xff"} }})
}

// [MQTT-3.3.2-14]: no wildcard characters in the Response Topic.
func TestMQTT_3_3_2_14(t *testing.T) {
	bad := map[string]client.Message{}
	for _, topic := range wildcards {
		bad[topic] = client.Message{Topic: "t", ResponseTopic: topic}
		wantImpossible(t, map[string]func(*client.Config){topic: func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", ResponseTopic: topic} }})
		wantViolation(t, "received "+topic, wire.ReasonProtocolError, raw(0x32, "t", uint16(7), props(wire.PropResponseTopic, topic), []byte("p")))
	}
	wantRefused(t, bad)
}

// [MQTT-3.3.2-19]: the Content Type is a UTF-8 Encoded String.
func TestMQTT_3_3_2_19(t *testing.T) {
	wantText(t, wire.PropContentType, func(m *client.Message, s string) { m.ContentType = s }, func(m *client.Message) string { return m.ContentType })
	wantImpossible(t, map[string]func(*client.Config){"will": func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", ContentType: "\xff"} }})
}

// [MQTT-3.3.4-1]: the client answers a PUBLISH according to its QoS.
func TestMQTT_3_3_4_1(t *testing.T) {
	handlers := map[string]struct {
		handle client.HandlerFunc
		reason byte
	}{
		"accepted": {func(context.Context, *client.Message) error { return nil }, 0},
		"refused":  {func(context.Context, *client.Message) error { return client.Refuse(0x97, "") }, 0x97},
		"failed":   {func(context.Context, *client.Message) error { return fmt.Errorf("no") }, 0x80},
		"panics":   {func(context.Context, *client.Message) error { panic("no") }, 0x80},
	}
	for name, h := range handlers {
		for _, dup := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " DUP ", dup), func(t *testing.T) {
				onRig(t, func(t *testing.T, r *rig) {
					r.cfg.Receiving.HandlerAttempts = 3
					_, conn := r.receiver(control.Connack{}, h.handle)
					conn.Publish(message(0, 0, "0"))
					conn.QuietFor(time.Minute)
					for qos, kind := range map[byte]wire.Type{1: wire.PUBACK, 2: wire.PUBREC} {
						m := message(qos, 7, "x")
						m.Dup = dup
						conn.Publish(m)
						if a := conn.ExpectAck(kind); a.PacketID != 7 || a.Reason != h.reason {
							t.Errorf("%v %+v, want reason code 0x%02X", kind, a, h.reason)
						}
						conn.QuietFor(time.Minute) // one answer is sufficient
						if qos == 2 && h.reason == 0 {
							conn.Ack(wire.PUBREL, 7, 0)
							conn.ExpectAck(wire.PUBCOMP)
						}
					}
				})
			})
		}
	}
	t.Run("without a handler", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Receiving.UnhandledGrace = client.NoGrace
			_, conn := r.start(control.Connack{})
			conn.Send(publishes(message(0, 0, "0"), message(1, 7, "1"), message(2, 8, "2"))...)
			conn.ExpectAck(wire.PUBACK)
			conn.ExpectAck(wire.PUBREC)
			conn.Quiet()
		})
	})
	t.Run("in one segment with CONNACK", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			_, conn := r.receiver(control.Connack{}, r.keep)
			conn.Close()
			conn, _ = r.Open()
			conn.Send(append([][]byte{raw(0x20, 1, 0, 0)}, publishes(message(1, 7, "1"), message(2, 8, "2"))...)...)
			conn.ExpectBytes(raw(0x40, uint16(7)), raw(0x50, uint16(8)))
		})
	})
	t.Run("all bytes alone", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			_, conn := r.receiver(control.Connack{}, r.keep)
			conn.Trickle(publishes(message(1, 7, "1"), message(0, 0, "0"), message(2, 8, "2"))...)
			conn.ExpectBytes(raw(0x40, uint16(7)), raw(0x50, uint16(8)))
			conn.Quiet()
		})
	})
}

// [MQTT-3.3.4-6]: a PUBLISH of a client has no Subscription Identifier.
func TestMQTT_3_3_4_6(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		var c *client.Client
		c, conn := r.receiver(control.Connack{}, func(ctx context.Context, m *client.Message) error {
			if len(m.SubscriptionIDs) != 2 {
				t.Errorf("got %+v", m)
			}
			for m.QoS = 0; m.QoS <= 2; m.QoS++ { // publish the message as received
				if _, err := c.Publish(ctx, *m); err != nil {
					return err
				}
			}
			return nil
		})
		conn.Send(raw(0x30, "t", props(wire.PropSubscriptionID, 1, wire.PropSubscriptionID, 0xFF, 0x7F)))
		for range 3 {
			if p := conn.ExpectPublish(); len(p.SubscriptionIDs) > 0 {
				t.Errorf("%+v was sent", p)
			}
		}
		conn.Quiet()
	})
}
