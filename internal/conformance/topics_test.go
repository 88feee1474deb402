package conformance

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 4.7 and 4.8: Topic Names, Topic Filters, Shared Subscriptions.

// refusesTopics checks that each Topic Name causes a *FieldError wherever a client uses one, and
// that nothing is stored or sent.
func refusesTopics(t *testing.T, topics []string) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		for _, topic := range topics {
			cfg := r.cfg
			cfg.Presence.Will = &client.Will{Topic: topic}
			var bad *client.ConfigError
			if err := cfg.Validate(); !errors.As(err, &bad) || bad.Field != "Presence.Will" {
				t.Errorf("a will for %.40q: the error is %v", topic, err)
			}
			cfg.Presence.Will, cfg.Presence.Status = nil, &client.Status{Topic: topic, NoCorrection: true}
			if err := cfg.Validate(); !errors.As(err, &bad) || bad.Field != "Presence.Status.Topic" {
				t.Errorf("a status at %.40q: the error is %v", topic, err)
			}
		}
		c, conn := r.start(control.Connack{})
		for _, topic := range topics {
			for qos := range client.QoS(3) {
				var field *client.FieldError
				if _, err := c.Publish(context.Background(), client.Message{Topic: topic, QoS: qos}); !errors.As(err, &field) || field.Field != "Topic Name" {
					t.Errorf("a message for %.40q: the error is %v, want a *FieldError", topic, err)
				}
			}
		}
		conn.Quiet()
		if s := c.Stats().Store; s.Accepted != 0 {
			t.Errorf("%d messages were accepted", s.Accepted)
		}
	})
}

// sendsTopics checks that these Topic Names are sent unchanged.
func sendsTopics(t *testing.T, topics []string) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for _, topic := range topics {
			for qos := range client.QoS(3) {
				r.publishMessage(c, client.Message{Topic: topic, QoS: qos})
				if p := conn.ExpectPublish(); p.Topic != topic {
					t.Errorf("%.40q was sent, want %.40q", p.Topic, topic)
				}
			}
		}
	})
}

// sendsFilters checks that these Topic Filters are sent unchanged.
func sendsFilters(t *testing.T, filters []string) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for _, filter := range filters {
			done := r.subscribe(c, filter)
			s := conn.ExpectSubscribe()
			if len(s.Subscriptions) != 1 || s.Subscriptions[0].Filter != filter {
				t.Errorf("%d filters come, the first %.40q; want %.40q", len(s.Subscriptions), s.Subscriptions[0].Filter, filter)
			}
			conn.Suback(s.PacketID, 0)
			r.must(<-done)
			done = r.unsubscribe(c, filter)
			u := conn.ExpectUnsubscribe()
			if u.Filters[0] != filter {
				t.Errorf("UNSUBSCRIBE is of %.40q, want %.40q", u.Filters[0], filter)
			}
			conn.Unsuback(u.PacketID, 0)
			r.must(<-done)
		}
	})
}

// refusesFilters checks that each Topic Filter causes a *FieldError, and that nothing is sent.
func refusesFilters(t *testing.T, filters []string) {
	t.Helper()
	refusesFields(t, filters, trySubscribe)
	refusesFields(t, filters, tryUnsubscribe)
}

// The wildcard characters can be used in Topic Filters, but MUST NOT be used
// within a Topic Name.
func TestMQTT_4_7_0_1(t *testing.T) {
	refusesTopics(t, []string{"#", "+", "a/#", "a/+/b", "a#", "a+b", "+/#"})
	sendsTopics(t, []string{"a/b", "*", "$SYS/a", "a//b", "/", "-/–"})
	sendsFilters(t, []string{"#", "+", "a/#", "a/+/b"})
}

// The multi-level wildcard character MUST be specified either on its own or
// following a topic level separator. In either case it MUST be the last character
// specified in the Topic Filter.
func TestMQTT_4_7_1_1(t *testing.T) {
	refusesFilters(t, []string{"a#", "a/b#", "#/a", "a/#/b", "##", "#a", "a/##", "#/", "a/#/", "+#", "$share/n/#/a", "$share/n/a#"})
	sendsFilters(t, []string{"#", "a/#", "/#", "a//#", "+/#", "$SYS/#", "$share/n/#", "$share/n/a/#"})
}

// The single-level wildcard can be used at any level in the Topic Filter,
// including first and last levels. Where it is used, it MUST occupy an entire level
// of the filter.
func TestMQTT_4_7_1_2(t *testing.T) {
	refusesFilters(t, []string{"a+", "+a", "a/b+", "a/+b/c", "++", "+/++", "a+/b", "$share/n/a+"})
	sendsFilters(t, []string{"+", "+/a", "a/+", "a/+/b", "+/+", "/+", "+/", "+/a/#", "$share/n/+/a"})
}

// All Topic Names and Topic Filters MUST be at least one character long.
func TestMQTT_4_7_3_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for qos := range client.QoS(3) {
			var field *client.FieldError
			if _, err := c.Publish(context.Background(), client.Message{QoS: qos, Payload: []byte("p")}); !errors.As(err, &field) {
				t.Errorf("the error is %v, want a *FieldError", err)
			}
		}
		conn.Quiet()
	})
	refusesTopics(t, []string{""})
	refusesFilters(t, []string{"", "$share/n/"})
	sendsTopics(t, []string{"a", "/", " "})
	sendsFilters(t, []string{"a", "/", " "})
}

// Topic Names and Topic Filters MUST NOT include the null character.
func TestMQTT_4_7_3_2(t *testing.T) {
	list := []string{"\x00", "a\x00", "\x00a", "a/\x00/b"}
	refusesTopics(t, list)
	refusesFilters(t, append(list, "#\x00", "$share/\x00/a", "$share/n/\x00"))
}

// Topic Names and Topic Filters are UTF-8 Encoded Strings; they MUST NOT encode to
// more than 65,535 bytes.
func TestMQTT_4_7_3_3(t *testing.T) {
	long, umlauts := strings.Repeat("t", 65_535), strings.Repeat("ä", 32_768)
	refusesTopics(t, []string{long + "t", umlauts, strings.Repeat("t", 70_000), strings.Repeat("t", 1<<17+5)})
	refusesFilters(t, []string{long + "t", umlauts, strings.Repeat("t", 1<<17+5), long[2:] + "/##"})
	sendsTopics(t, []string{long, umlauts[2:]})
	sendsFilters(t, []string{long, long[2:] + "/#", umlauts[2:]})
}

// A Shared Subscription's Topic Filter MUST start with $share/ and MUST contain a
// ShareName that is at least one character long.
func TestMQTT_4_8_2_1(t *testing.T) {
	refusesFilters(t, []string{"$share/", "$share//", "$share//a", "$share//#"})
	sendsFilters(t, []string{"$share/n/a", "$share/n//", "$share/ä/+", "$SHARE//a"}) // the last one is not a Shared Subscription
}

// The ShareName MUST NOT contain the characters "/", "+" or "#", but MUST be
// followed by a "/" character. This "/" character MUST be followed by a Topic
// Filter.
func TestMQTT_4_8_2_2(t *testing.T) {
	refusesFilters(t, []string{"$share/n", "$share/n/", "$share/+/a", "$share/#/a", "$share/n+/a", "$share/n#/a", "$share/#", "$share/+"})
	sendsFilters(t, []string{"$share/n/a/b", "$share/n/+", "$share/n/$SYS/a", "$share/$share/a"})
}

// handled checks that a message for a topic reaches the handlers of the wanted filters, and no
// other handlers.
func handled(t *testing.T, all []string, topic string, want ...string) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Receiving.UnhandledGrace = client.NoGrace
		c, err := client.New(r.cfg)
		r.must(err)
		defer c.Close()
		got := map[string]bool{}
		for _, filter := range all {
			r.must(c.Handle(filter, client.HandlerFunc(func(context.Context, *client.Message) error {
				got[filter] = true
				return nil
			})))
		}
		r.must(c.Start(context.Background()))
		conn, _ := r.Connect(control.Connack{})
		conn.Publish(wire.Publish{Topic: topic, QoS: 1, PacketID: 1})
		if a := conn.ExpectAck(wire.PUBACK); (a.Reason == 0) != (len(want) > 0) {
			t.Errorf("%q is answered with 0x%02X", topic, a.Reason)
		}
		for _, filter := range want {
			if !got[filter] {
				t.Errorf("%q does not reach the handler of %q", topic, filter)
			}
			delete(got, filter)
		}
		if len(got) > 0 {
			t.Errorf("%q reaches the handlers of %v too", topic, got)
		}
	})
}

// The Server MUST NOT match Topic Filters starting with a wildcard character with Topic Names
// beginning with a $ character. The client's handlers follow this rule too.
func TestMQTT_4_7_2_1(t *testing.T) {
	all := []string{"#", "+/a", "+/#", "$share/n/#", "$share/m/+/a", "$SYS/#", "$SYS/+", "$SYS/a"}
	handled(t, all, "$SYS/a", "$SYS/#", "$SYS/+", "$SYS/a")
	handled(t, all, "$other/a")
	handled(t, all, "x/a", "#", "+/a", "+/#", "$share/n/#", "$share/m/+/a")
	handled(t, all, "x/$a", "#", "+/#", "$share/n/#")
}

// When it performs subscription matching the Server MUST NOT perform any normalization of Topic
// Names or Topic Filters, or any modification or substitution of unrecognized characters. The
// client's handlers follow this rule too.
func TestMQTT_4_7_3_4(t *testing.T) {
	all := []string{"Accounts", "ACCOUNTS", "accounts", "/accounts", "accounts/", " accounts", "\u00e4", "a\u0308", "\ufeffaccounts", "account\ufffd"}
	for _, topic := range all {
		handled(t, all, topic, topic)
	}
	handled(t, all, "account\U000F0000")
	handled(t, all, "//accounts")
	handled(t, []string{"+/accounts", "+", "#"}, "/accounts", "+/accounts", "#")
}
