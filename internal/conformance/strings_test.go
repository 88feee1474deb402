package conformance

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Chapter 1: data representation.

// illFormed are invalid UTF-8 sequences: a single byte, a truncated sequence, both ends of the
// surrogates, an overlong form, and a code point that is too high.
var illFormed = []string{"\xff", "a\xc3", "\xed\xa0\x80", "x\xed\xbf\xbfx", "\xc0\x80", "\xf4\x90\x80\x80"}

// withNull are strings that contain U+0000.
var withNull = []string{"\x00", "a\x00", "a\x00b"}

// messagesWith returns messages with s in each string that an application can set.
func messagesWith(s string) map[string]client.Message {
	return map[string]client.Message{
		"Topic":               {Topic: s},
		"ContentType":         {Topic: "t", ContentType: s},
		"ResponseTopic":       {Topic: "t", ResponseTopic: s},
		"UserProperty, name":  {Topic: "t", UserProperties: []client.UserProperty{{Key: "ok", Value: "ok"}, {Key: s, Value: "v"}}},
		"UserProperty, value": {Topic: "t", UserProperties: []client.UserProperty{{Key: "k", Value: s}}},
	}
}

// configurationsWith returns configurations with s in each string that is sent.
func configurationsWith(s string) map[string]func(*client.Config) {
	will := func(edit func(*client.Will)) func(*client.Config) {
		return func(c *client.Config) {
			c.Presence.Will = &client.Will{Topic: "w"}
			edit(c.Presence.Will)
		}
	}
	return map[string]func(*client.Config){
		"ClientID":            func(c *client.Config) { c.ClientID = s },
		"Username":            func(c *client.Config) { c.Connection.Username = s },
		"Publisher":           func(c *client.Config) { c.Publishing.Publisher, c.Publishing.Sequenced = s, true },
		"Status":              func(c *client.Config) { c.Presence.Status = &client.Status{Topic: s, NoCorrection: true} },
		"Will, topic":         will(func(w *client.Will) { w.Topic = s }),
		"Will, content":       will(func(w *client.Will) { w.ContentType = s }),
		"Will, response":      will(func(w *client.Will) { w.ResponseTopic = s }),
		"Will, user property": will(func(w *client.Will) { w.UserProperties = []client.UserProperty{{Key: s, Value: "v"}} }),
		"Will, its value":     will(func(w *client.Will) { w.UserProperties = []client.UserProperty{{Key: "k", Value: s}} }),
	}
}

// packetsWith returns packets with s in each string that a server sends after CONNACK. Their
// identifiers are unused, which must not matter.
func packetsWith(s string) map[string][]byte {
	reason, user := props(wire.PropReasonString, s), props(wire.PropUser, "k", s)
	return map[string][]byte{
		"PUBLISH, topic":          raw(0x30, s, 0, []byte("p")),
		"PUBLISH, content type":   raw(0x30, "t", props(wire.PropContentType, s)),
		"PUBLISH, response topic": raw(0x30, "t", props(wire.PropResponseTopic, s)),
		"PUBLISH, name":           raw(0x30, "t", props(wire.PropUser, s, "v")),
		"PUBLISH, value":          raw(0x32, "t", uint16(9), user),
		"PUBACK":                  raw(0x40, uint16(9), 0, reason),
		"PUBACK, user property":   raw(0x40, uint16(9), 0, user),
		"PUBREC":                  raw(0x50, uint16(9), 0, reason),
		"PUBREC, user property":   raw(0x50, uint16(9), 0, user),
		"PUBREL":                  raw(0x62, uint16(9), 0, reason),
		"PUBCOMP":                 raw(0x70, uint16(9), 0, reason),
		"SUBACK":                  raw(0x90, uint16(9), reason, 0),
		"SUBACK, user property":   raw(0x90, uint16(9), user, 0),
		"UNSUBACK":                raw(0xB0, uint16(9), reason, 0),
		"DISCONNECT":              raw(0xE0, 0x80, reason),
		"DISCONNECT, reference":   raw(0xE0, 0x9D, props(wire.PropServerReference, s)),
		"DISCONNECT, value":       raw(0xE0, 0x80, user),
	}
}

// wantStringsRefused checks that s is refused in every string in both directions.
func wantStringsRefused(t *testing.T, s string) {
	t.Helper()
	t.Run(fmt.Sprintf("%q", s), func(t *testing.T) {
		wantRefused(t, messagesWith(s))
		wantImpossible(t, configurationsWith(s))
		for name, packet := range packetsWith(s) {
			wantViolation(t, name, wire.ReasonMalformedPacket, packet)
		}
		for name, property := range map[string]byte{"reason string": wire.PropReasonString, "assigned client identifier": wire.PropAssignedClientID,
			"response information": wire.PropResponseInfo, "server reference": wire.PropServerReference} {
			t.Run("CONNACK, "+name, func(t *testing.T) {
				onRig(t, func(t *testing.T, r *rig) {
					r.client()
					conn, _ := r.Open()
					conn.Send(raw(0x20, 0, 0, props(property, s)))
					conn.ExpectClosed()
				})
			})
		}
		onRig(t, func(t *testing.T, r *rig) { // strings from a handler, and a filter
			c, conn := r.receiver(control.Connack{}, func(context.Context, *client.Message) error { return client.Refuse(0x83, s) })
			conn.Publish(message(1, 7, "p"))
			if f := conn.Expect(wire.PUBACK); bytes.Contains(f.Body[2:], []byte(s)) {
				t.Errorf("PUBACK has it: % x", f.Raw)
			}
			wantFieldError(t, "Subscribe", <-subscribe(t.Context(), c, s))
			wantFieldError(t, "Unsubscribe", <-unsubscribe(t.Context(), c, s))
			conn.Quiet()
		})
	})
}

// [MQTT-1.5.4-1]: strings are well-formed UTF-8, without surrogates.
func TestMQTT_1_5_4_1(t *testing.T) {
	for _, s := range illFormed {
		wantStringsRefused(t, s)
	}
}

// [MQTT-1.5.4-2]: strings contain no U+0000.
func TestMQTT_1_5_4_2(t *testing.T) {
	for _, s := range withNull {
		wantStringsRefused(t, s)
	}
}

// [MQTT-1.5.4-3]: 0xEF 0xBB 0xBF is U+FEFF wherever it appears, and not skipped
// or stripped.
func TestMQTT_1_5_4_3(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		const s = "\uFEFFa\uFEFFb\uFEFF"
		// A handler for the topic without the character must not get the message.
		c, err := client.New(r.cfg)
		r.must(err)
		t.Cleanup(func() { _ = c.Close() })
		r.must(c.Handle(s, client.HandlerFunc(r.keep)))
		r.must(c.Handle("ab", client.HandlerFunc(func(_ context.Context, m *client.Message) error {
			t.Errorf("topic %q was stripped", m.Topic)
			return nil
		})))
		r.must(c.Start(context.Background()))
		conn, _ := r.Connect(control.Connack{})
		conn.Send(raw(0x30, s, props(wire.PropContentType, s, wire.PropResponseTopic, s, wire.PropUser, s, s), []byte("p")))
		r.wantKept("p")
		m := r.got[0]
		if m.Topic != s || m.ContentType != s || m.ResponseTopic != s || len(m.UserProperties) != 1 || m.UserProperties[0] != (client.UserProperty{Key: s, Value: s}) {
			t.Errorf("got %+v", m)
		}
		r.publishMessage(c, client.Message{Topic: s, ContentType: s, ResponseTopic: s, UserProperties: m.UserProperties})
		conn.ExpectBytes(raw(0x30, s, props(wire.PropContentType, s, wire.PropResponseTopic, s, wire.PropUser, s, s)))
		subscribe(t.Context(), c, s)
		sub := conn.Expect(wire.SUBSCRIBE)
		if want := bytesOf(s, 1); !bytes.HasSuffix(sub.Raw, want) {
			t.Errorf("SUBSCRIBE % x, want % x at its end", sub.Raw, want)
		}
		conn.Suback(1, 1)
	})
}

// wantShortest checks that the Variable Byte Integer at the start of b has the fewest bytes, and
// returns its value and their number.
func wantShortest(t *testing.T, what string, b []byte) (value, n int) {
	t.Helper()
	value, n = varint(t, b)
	if n > 1 && value < 1<<(7*(n-1)) {
		t.Errorf("%s: %d takes %d bytes: % x", what, value, n, b[:n])
	}
	return value, n
}

// [MQTT-1.5.5-1]: a Variable Byte Integer takes the fewest bytes.
func TestMQTT_1_5_5_1(t *testing.T) {
	// Sizes around each length that needs another byte.
	sizes := func(around int) (list []int) {
		for n := -70; n <= 10; n++ {
			list = append(list, around+n)
		}
		return list
	}
	t.Run("PUBLISH", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			seen := map[int]bool{}
			for _, n := range []int{120, 121, 122, 123, 124, 16375, 16376, 16377, 16378, 16379, 16380, 2097143, 2097144, 2097145, 2097146, 2097147, 2097148} {
				r.publishMessage(c, client.Message{Topic: "t", Payload: make([]byte, n)})
				f := conn.Expect(wire.PUBLISH)
				size, _ := wantShortest(t, "Remaining Length", f.Raw[1:])
				seen[size] = true
			}
			for _, want := range []int{127, 128, 16383, 16384, 2097151, 2097152} {
				if !seen[want] {
					t.Errorf("no packet with a Remaining Length of %d was made: %v", want, seen)
				}
			}
			seen = map[int]bool{}
			for _, n := range append(sizes(128), sizes(16384)...) {
				for qos := client.AtMostOnce; qos <= client.AtLeastOnce; qos++ {
					d := r.publishMessage(c, client.Message{Topic: "t", QoS: qos, UserProperties: []client.UserProperty{{Key: "k", Value: strings.Repeat("v", n)}}})
					f := conn.Expect(wire.PUBLISH)
					_, k := varint(t, f.Raw[1:])
					size, _ := wantShortest(t, "Property Length", f.Raw[1+k+3+2*int(qos):])
					seen[size] = true
					if qos > 0 {
						conn.Ack(wire.PUBACK, uint16(f.Body[3])<<8|uint16(f.Body[4]), 0)
						r.wantState(d, client.Acked)
					}
				}
			}
			for _, want := range []int{127, 128, 16383, 16384} {
				if !seen[want] {
					t.Errorf("no Property Length of %d was made", want)
				}
			}
		})
	})
	t.Run("CONNECT", func(t *testing.T) {
		seen := map[int]bool{}
		for _, n := range append(sizes(128), sizes(16384)...) {
			if n < 61 {
				continue
			}
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Presence.Will = &client.Will{Topic: "w", UserProperties: []client.UserProperty{{Key: "k", Value: strings.Repeat("v", n)}}}
				f := r.connectFrame()
				size, _ := wantShortest(t, "Remaining Length", f.Raw[1:])
				seen[size] = true
				_, k := wantShortest(t, "Property Length", f.Body[10:])
				at := 10 + k + int(f.Body[10]) + 2 + len("c")
				size, _ = wantShortest(t, "Will Property Length", f.Body[at:])
				seen[-size] = true
			})
		}
		for _, want := range []int{127, 128, 16383, 16384, -127, -128, -16383, -16384} {
			if !seen[want] {
				t.Errorf("no length of %d was made (negative: Will Properties)", want)
			}
		}
	})
	t.Run("SUBSCRIBE and UNSUBSCRIBE", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			for _, n := range append(sizes(128), sizes(16384)...) {
				filter := strings.Repeat("f", n)
				done := subscribe(t.Context(), c, filter)
				f := conn.Expect(wire.SUBSCRIBE)
				wantShortest(t, "Remaining Length", f.Raw[1:])
				conn.Suback(uint16(f.Body[0])<<8|uint16(f.Body[1]), 1)
				r.must(<-done)
				done = unsubscribe(t.Context(), c, filter)
				f = conn.Expect(wire.UNSUBSCRIBE)
				wantShortest(t, "Remaining Length", f.Raw[1:])
				conn.Unsuback(uint16(f.Body[0])<<8|uint16(f.Body[1]), 0)
				r.must(<-done)
			}
		})
	})
	t.Run("PUBACK", func(t *testing.T) {
		for n := 110; n <= 130; n++ {
			onRig(t, func(t *testing.T, r *rig) {
				_, conn := r.receiver(control.Connack{}, func(context.Context, *client.Message) error { return client.Refuse(0x83, strings.Repeat("r", n)) })
				conn.Publish(message(1, 7, "p"))
				f := conn.Expect(wire.PUBACK)
				wantShortest(t, "Remaining Length", f.Raw[1:])
				if size, _ := wantShortest(t, "Property Length", f.Body[3:]); size != 3+n {
					t.Errorf("Property Length is %d, want %d", size, 3+n)
				}
			})
		}
	})
	const bad = wire.ReasonMalformedPacket
	wantViolation(t, "Remaining Length, PINGRESP", bad, []byte{0xD0, 0x80, 0x00})
	wantViolation(t, "Remaining Length, PUBLISH", bad, []byte{0x30, 0x85, 0x80, 0x00, 0, 1, 't', 0, 'p'})
	wantViolation(t, "Remaining Length, five bytes", bad, []byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x01})
	wantViolation(t, "Property Length, PUBLISH", bad, raw(0x30, "t", []byte{0x80, 0x00}))
	wantViolation(t, "Property Length, PUBACK", bad, raw(0x40, uint16(9), 0, []byte{0x80, 0x00}))
	wantViolation(t, "Property Length, SUBACK", bad, raw(0x90, uint16(9), []byte{0x80, 0x00}, 0))
	wantViolation(t, "Subscription Identifier", bad, raw(0x30, "t", props(wire.PropSubscriptionID, 0x81, 0x00)))
	wantHandled(t, "Subscription Identifier, good", "p", raw(0x30, "t", props(wire.PropSubscriptionID, 0x81, 0x01), []byte("p")))
}

// [MQTT-1.5.7-1]: both strings of a String Pair are UTF-8 Encoded Strings.
func TestMQTT_1_5_7_1(t *testing.T) {
	for _, s := range []string{"\xed\xa0\x80", "\xff", "\x00"} {
		for name, pair := range map[string][2]string{"name": {s, "v"}, "value": {"k", s}} {
			t.Run(fmt.Sprintf("%s %q", name, s), func(t *testing.T) {
				bad := []client.UserProperty{{Key: "good", Value: "good"}, {Key: pair[0], Value: pair[1]}}
				wantRefused(t, map[string]client.Message{name: {Topic: "t", UserProperties: bad}})
				wantImpossible(t, map[string]func(*client.Config){name: func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", UserProperties: bad} }})
				user := props(wire.PropUser, "good", "good", wire.PropUser, pair[0], pair[1])
				wantViolation(t, "PUBLISH", wire.ReasonMalformedPacket, raw(0x30, "t", user))
				wantViolation(t, "PUBACK", wire.ReasonMalformedPacket, raw(0x40, uint16(9), 0, user))
				wantViolation(t, "SUBACK", wire.ReasonMalformedPacket, raw(0x90, uint16(9), user, 0))
				wantViolation(t, "DISCONNECT", wire.ReasonMalformedPacket, raw(0xE0, 0x80, user))
			})
		}
	}
	wantHandled(t, "empty strings are strings", "p", raw(0x30, "t", props(wire.PropUser, "", ""), []byte("p")))
}
