package conformance

import (
	"context"
	"fmt"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.3.2.3.4: Topic Aliases.

// aliased returns a QoS 0 PUBLISH with a Topic Alias. The topic may be empty.
func aliased(topic string, alias uint16, payload string) []byte {
	return raw(0x30, topic, props(wire.PropTopicAlias, alias), []byte(payload))
}

// wantAliases checks a client that repeatedly uses the same topics, on connections with these
// limits, with and without its own Topic Alias Maximum. No alias may be 0 or above the limit, and
// each one must represent a topic of its connection.
func wantAliases(t *testing.T, maxima ...uint16) {
	t.Helper()
	for _, own := range []int{0, 4, 65_535} {
		t.Run(fmt.Sprint("own ", own), func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Receiving.TopicAliasMaximum = 20 // does not affect what the server accepts
				r.cfg.Publishing.TopicAliases = own
				r.cfg.Presence.Status = &client.Status{Topic: "a/long/topic/of/status", NoCorrection: true, Online: []byte("a/long/topic/of/status")}
				c := r.client()
				for n, maximum := range maxima {
					conn, _ := r.Connect(control.Connack{SessionPresent: n > 0, TopicAliasMaximum: maximum})
					r.await(c)
					for i := range 60 {
						topic := fmt.Sprint("a/long/topic/", i%15)
						r.publishMessage(c, client.Message{Topic: topic, QoS: client.QoS(i % 3), Payload: []byte(topic)})
					}
					stands := map[uint16]string{}
					used, count := 0, 0
					for _, f := range conn.Take() {
						v, err := wire.ParsePublish(f)
						r.must(err)
						count++
						topic := string(v.Topic)
						switch {
						case v.TopicAlias > maximum:
							t.Errorf("Topic Alias %d was sent, the maximum is %d", v.TopicAlias, maximum)
						case topic == "":
							topic = stands[v.TopicAlias]
							used++
						case v.TopicAlias > 0:
							stands[v.TopicAlias] = topic
						}
						if topic != string(v.Payload) {
							t.Errorf("%q was sent as a message for %q, alias %d", v.Payload, topic, v.TopicAlias)
						}
					}
					if want := 60 + n*40 + 1; count != want { // QoS 1 and 2 messages are resent, and there is a birth
						t.Errorf("connection %d: %d messages came, want %d", n, count, want)
					}
					if may := own > 0 && maximum >= 15 && own >= 15; may && used < 20 {
						t.Errorf("connection %d: a Topic Alias was used %d times; this shows nothing", n, used)
					}
					conn.Close()
				}
			})
		})
	}
}

// [MQTT-3.3.2-7]: no Topic Alias mapping is carried from one connection to
// another.
func TestMQTT_3_3_2_7(t *testing.T) {
	for _, present := range []bool{true, false} {
		t.Run(fmt.Sprint("session present ", present), func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Receiving.TopicAliasMaximum, r.cfg.Receiving.Concurrency = 10, 1 // in order
				_, conn := r.receiver(control.Connack{}, r.keep)
				conn.Send(aliased("one", 1, "a"), aliased("two", 2, "b"), aliased("", 1, "c"))
				r.wantKept("abc")
				conn.Close()
				conn, _ = r.Connect(control.Connack{SessionPresent: present})
				conn.Send(aliased("", 1, "x"))
				conn.ExpectDisconnect(wire.ReasonProtocolError)
				r.wantKept("abc")
				// Each connection has its own aliases.
				conn, _ = r.Connect(control.Connack{SessionPresent: true})
				conn.Send(aliased("new", 1, "d"), aliased("", 1, "e"))
				r.wantKept("abcde")
				if m := r.got[4]; m.Topic != "new" {
					t.Errorf("the alias stands for %q", m.Topic)
				}
				conn.Send(aliased("", 2, "x")) // set on the first connection only
				conn.ExpectDisconnect(wire.ReasonProtocolError)
				r.wantKept("abcde")
			})
		})
	}
	// A sender must not do so either.
	wantAliases(t, 20, 20, 20)
}

// [MQTT-3.3.2-8]: a Topic Alias is never 0.
func TestMQTT_3_3_2_8(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Publishing.TopicAliases = 2
		c, conn := r.start(control.Connack{TopicAliasMaximum: 10})
		for n := range 20 {
			r.publishMessage(c, client.Message{Topic: fmt.Sprint("topic/", n%3), QoS: client.QoS(n % 3), ContentType: "ct"})
			// This package would report an alias of 0 as malformed.
			conn.ExpectPublish()
		}
	})
	for name, topic := range map[string]string{"with a topic": "t", "without": ""} {
		wantViolation(t, "received "+name, wire.ReasonProtocolError, aliased(topic, 0, "p"))
	}
}

// [MQTT-3.3.2-9]: no Topic Alias above the Topic Alias Maximum of the CONNACK.
func TestMQTT_3_3_2_9(t *testing.T) { wantAliases(t, 3, 0, 65_535, 2) }

// [MQTT-3.3.2-10]: the client accepts all Topic Aliases from 1 to its Topic Alias Maximum.
func TestMQTT_3_3_2_10(t *testing.T) {
	for _, maximum := range []uint16{1, 2, 300, 65_535} {
		t.Run(fmt.Sprint("maximum ", maximum), func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Receiving.TopicAliasMaximum = maximum
				r.cfg.Receiving.Concurrency, r.cfg.Receiving.QoS0QueueSize = 1, 1<<18 // in order, and none dropped
				var got, want []string
				c, err := client.New(r.cfg)
				r.must(err)
				t.Cleanup(func() { _ = c.Close() })
				r.must(c.Handle("#", client.HandlerFunc(func(_ context.Context, m *client.Message) error {
					got = append(got, m.Topic)
					return nil
				})))
				r.must(c.Start(t.Context()))
				conn, connect := r.Connect(control.Connack{})
				if connect.TopicAliasMaximum != maximum {
					t.Errorf("CONNECT says %d", connect.TopicAliasMaximum)
				}
				step := 1 + int(maximum)/1000
				var aliases []uint16
				for n := 1; n <= int(maximum); n += step {
					aliases = append(aliases, uint16(n))
				}
				aliases = append(aliases, maximum)
				// Set, used, set to another topic, used again.
				for round := range 2 {
					topic := func(alias uint16) string { return fmt.Sprint("topic/", round, "/", alias) }
					for _, a := range aliases {
						conn.Send(aliased(topic(a), a, ""))
						want = append(want, topic(a))
					}
					for _, a := range aliases {
						conn.Send(aliased("", a, ""))
						want = append(want, topic(a))
					}
				}
				conn.Quiet()
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("got %d topics %.100v, want %d %.100v", len(got), got, len(want), want)
				}
				if maximum < 65_535 {
					conn.Send(aliased("t", maximum+1, ""))
					conn.ExpectDisconnect(wire.ReasonTopicAliasInvalid)
				}
			})
		})
	}
	t.Run("with an acknowledgement", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Receiving.TopicAliasMaximum = 1
			_, conn := r.receiver(control.Connack{}, r.keep)
			conn.Trickle(raw(0x32, "t", uint16(7), props(wire.PropTopicAlias, uint16(1)), []byte("a")),
				raw(0x34, "", uint16(8), props(wire.PropTopicAlias, uint16(1)), []byte("b")))
			conn.ExpectBytes(raw(0x40, uint16(7)), raw(0x50, uint16(8)))
			r.wantKept("ab")
			if m := r.got[1]; m.Topic != "t" {
				t.Errorf("the topic is %q", m.Topic)
			}
		})
	})
	t.Run("maximum 0", func(t *testing.T) {
		wantViolation(t, "received", wire.ReasonTopicAliasInvalid, aliased("t", 1, "p"))
	})
}
