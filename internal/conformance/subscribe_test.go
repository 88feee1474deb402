package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 3.8 and 3.9: SUBSCRIBE and SUBACK.

// asks runs a request of the client that waits for its answer.
func asks(f func() error) <-chan error {
	answer := make(chan error, 1)
	go func() { answer <- f() }()
	return answer
}

// subscribe makes the client subscribe to a filter.
func (r *rig) subscribe(c *client.Client, filter string, options ...client.SubscribeOption) <-chan error {
	return asks(func() error {
		return errOf(c.Subscribe(context.Background(), filter, client.ExactlyOnce, client.HandlerFunc(r.keep), options...))
	})
}

// refusesFields checks that each filter causes a *FieldError, that nothing is sent on this
// connection or the next one, and that the client continues.
func refusesFields(t *testing.T, filters []string, try func(c *client.Client, filter string) error) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		for _, filter := range filters {
			var field *client.FieldError
			if err := try(c, filter); !errors.As(err, &field) || field.Field != "Topic Filter" {
				t.Errorf("%.40q: the error is %v, want a *FieldError", filter, err)
			}
		}
		conn.Quiet()
		conn = r.resume(conn)
		conn.Quiet()
	})
}

func trySubscribe(c *client.Client, filter string) error {
	return errOf(c.Subscribe(context.Background(), filter, 0, client.HandlerFunc(func(context.Context, *client.Message) error { return nil })))
}

func tryUnsubscribe(c *client.Client, filter string) error {
	return c.Unsubscribe(context.Background(), filter)
}

// notUTF8 are filters that are not UTF-8 Encoded Strings.
var notUTF8 = []string{"a/\xff", "a/\xc0\x80", "a/\xed\xa0\x80/b", "\xed\xbf\xbf", "\xf4\x90\x80\x80", "$share/n/\xff", "a/\x00"}

// The flags of SUBSCRIBE are reserved and MUST be 0,0,1,0.
func TestMQTT_3_8_1_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		without := control.Connack{SubIDUnavailable: true}
		c, conn := r.start(without)
		done := r.subscribe(c, "a/b")
		conn.ExpectBytes([]byte{0x82, 9, 0, 1, 0, 0, 3, 'a', '/', 'b', 2})
		conn.Suback(1, 2)
		r.must(<-done)
		conn.Close() // and again when it is restored
		conn, _ = r.Connect(without)
		conn.ExpectBytes([]byte{0x82, 9, 0, 2, 0, 0, 3, 'a', '/', 'b', 2})
	})
}

// The Topic Filters MUST be a UTF-8 Encoded String.
func TestMQTT_3_8_3_1(t *testing.T) {
	refusesFields(t, notUTF8, trySubscribe)
	onRig(t, func(t *testing.T, r *rig) { // a valid string is sent unchanged
		c, conn := r.start(control.Connack{})
		for i, filter := range []string{"ä/\U0010FFFF", "\uFEFF", "a\u0301/+"} {
			done := r.subscribe(c, filter)
			if s := conn.ExpectSubscribe(); s.Subscriptions[0].Filter != filter {
				t.Errorf("the filter is %q, want %q", s.Subscriptions[0].Filter, filter)
			}
			conn.Suback(uint16(i+1), 0)
			r.must(<-done)
		}
	})
}

// The Payload MUST contain at least one Topic Filter and Subscription Options pair. If the server
// accepts none of the filters, the client sends no SUBSCRIBE.
func TestMQTT_3_8_3_2(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.ClientID = "c"
		c, err := client.New(r.cfg)
		r.must(err)
		defer c.Close()
		for _, filter := range []string{"a/+", "$share/n/b", "#"} {
			r.must(<-r.subscribe(c, filter))
		}
		r.must(c.Start(context.Background()))
		conn, _ := r.Connect(control.Connack{WildcardUnavailable: true, SharedUnavailable: true})
		conn.Quiet()
		if got := eventsOf[client.SubscriptionFailed](r); len(got) != 3 {
			t.Errorf("%d subscriptions were reported as failed, want 3", len(got))
		}
		conn.Close()
		conn, _ = r.Connect(control.Connack{WildcardUnavailable: true})
		s := conn.ExpectSubscribe() // ParseSubscribe requires at least one
		if len(s.Subscriptions) != 1 || s.Subscriptions[0].Filter != "$share/n/b" {
			t.Errorf("SUBSCRIBE is %+v", s)
		}
	})
}

// It is a Protocol Error to set the No Local bit to 1 on a Shared Subscription.
func TestMQTT_3_8_3_4(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		var field *client.FieldError
		if err := <-r.subscribe(c, "$share/n/t", client.NoLocal()); !errors.As(err, &field) || field.Field != "No Local" {
			t.Errorf("the error is %v, want a *FieldError", err)
		}
		conn.Quiet()
		conn.Close()
		conn, _ = r.Connect(control.Connack{})
		conn.Quiet()
		done := r.subscribe(c, "$share/n/t", client.RetainAsPublished())
		if s := conn.ExpectSubscribe(); s.Subscriptions[0].NoLocal {
			t.Errorf("SUBSCRIBE is %+v", s)
		}
		conn.Suback(1, 0)
		r.must(<-done)
	})
}

// The Server MUST treat a SUBSCRIBE as malformed if any of the reserved bits of its options are
// non-zero. The client sends only zero bits.
func TestMQTT_3_8_3_5(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{SubIDUnavailable: true})
		options := []struct {
			bit    byte
			option client.SubscribeOption
		}{{0x04, client.NoLocal()}, {0x08, client.RetainAsPublished()}, {0x20, client.RetainHandling(client.SendRetainedNever)}}
		id := uint16(0)
		for qos := range byte(3) {
			for set := range 1 << len(options) {
				want, list := qos, []client.SubscribeOption(nil)
				for i, o := range options {
					if set>>i&1 == 1 {
						want |= o.bit
						list = append(list, o.option)
					}
				}
				done := asks(func() error {
					return errOf(c.Subscribe(context.Background(), "f", client.QoS(qos), client.HandlerFunc(r.keep), list...))
				})
				id++
				conn.ExpectBytes([]byte{0x82, 7, 0, byte(id), 0, 0, 1, 'f', want})
				conn.Suback(id, qos)
				r.must(<-done)
			}
		}
	})
}

// The SUBACK packet MUST have the same Packet Identifier as the SUBSCRIBE. Another identifier is a
// violation and not an answer.
func TestMQTT_3_8_4_2(t *testing.T) {
	for _, wrong := range []uint16{2, 0xFFFF} {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			done := r.subscribe(c, "a")
			conn.ExpectSubscribe()
			r.wantEnd(conn, 0x82, control.AppendSuback(nil, &control.Suback{PacketID: wrong, Reasons: []byte{0}}))
			r.violated(<-done, "SUBACK")
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			conn.Suback(conn.ExpectSubscribe().PacketID, 2)
			conn.Quiet()
		})
	}
}

// violated checks that the error of a request names the packet that violates MQTT.
func (r *rig) violated(err error, packet string) {
	r.t.Helper()
	var bad *client.ProtocolError
	if !errors.As(err, &bad) || bad.Packet != packet {
		r.t.Errorf("the request has returned %v, want a *ProtocolError about %s", err, packet)
	}
}

// The SUBACK MUST contain a Reason Code for each Topic Filter. Another number is a violation.
func TestMQTT_3_8_4_6(t *testing.T) {
	tests := []struct {
		reasons []byte
		end     byte
	}{{nil, 0x81}, {[]byte{0, 0}, 0x82}}
	for _, test := range tests {
		t.Run(fmt.Sprint(len(test.reasons)), func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				c, conn := r.start(control.Connack{})
				done := r.subscribe(c, "a")
				id := conn.ExpectSubscribe().PacketID
				r.wantEnd(conn, test.end, control.AppendSuback(nil, &control.Suback{PacketID: id, Reasons: test.reasons}))
				r.violated(<-done, "SUBACK")
				conn, _ = r.Connect(control.Connack{SessionPresent: true})
				id = conn.ExpectSubscribe().PacketID // it counts as not made
				conn.Suback(id, 2)
				conn.Quiet()
			})
		})
	}
}

// The order of Reason Codes in the SUBACK packet MUST match the order of Topic Filters in the
// SUBSCRIBE packet. The client reads them in this order.
func TestMQTT_3_9_3_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, err := client.New(r.cfg)
		r.must(err)
		defer c.Close()
		for _, filter := range []string{"a", "b", "c", "d"} {
			r.must(<-r.subscribe(c, filter))
		}
		r.must(c.Start(context.Background()))
		conn, _ := r.Connect(control.Connack{SubIDUnavailable: true})
		s := conn.ExpectSubscribe()
		if len(s.Subscriptions) != 4 {
			t.Fatalf("SUBSCRIBE has %d filters, want 4", len(s.Subscriptions))
		}
		conn.Suback(s.PacketID, 2, 0x87, 0, 0x97)
		var refused *client.RefusedError
		codes := map[string]byte{}
		for _, e := range eventsOf[client.SubscriptionFailed](r) {
			if errors.As(e.Err, &refused) {
				codes[e.Filter] = refused.Code
			}
		}
		if second, fourth := s.Subscriptions[1].Filter, s.Subscriptions[3].Filter; len(codes) != 2 || codes[second] != 0x87 || codes[fourth] != wire.ReasonQuotaExceeded {
			t.Errorf("refused are %v, want %s with 0x87 and %s with 0x97", codes, second, fourth)
		}
	})
}

// requested makes the client send a SUBSCRIBE at this QoS, or an UNSUBSCRIBE, and answers it with
// these reason codes. It checks that the answer is a violation, and that the client repeats the
// request on the next connection of the session.
func (r *rig) requested(kind wire.Type, qos client.QoS, reasons ...byte) {
	r.t.Helper()
	c, conn := r.start(control.Connack{})
	ask := func() error { return errOf(c.Subscribe(context.Background(), "a", qos, client.HandlerFunc(r.keep))) }
	packet := raw(0x90, uint16(1), 0, reasons)
	if kind == wire.UNSUBSCRIBE {
		ask = func() error { return c.Unsubscribe(context.Background(), "a") }
		packet = raw(0xB0, uint16(1), 0, reasons)
	}
	done := asks(ask)
	conn.Expect(kind)
	r.wantEnd(conn, 0x82, packet)
	<-done
	conn, _ = r.Connect(control.Connack{SessionPresent: true})
	conn.Expect(kind) // it counts as not made
	if kind == wire.SUBSCRIBE {
		conn.Suback(2, byte(qos))
	} else {
		conn.Unsuback(2, 0)
	}
	conn.Quiet()
	r.resume(conn).Quiet() // now it counts as made
	var bad *client.ProtocolError
	if got := eventsOf[client.Disconnected](r); len(got) != 2 || !errors.As(got[0].Err, &bad) || bad.Code != 0x82 {
		r.t.Errorf("the events are %+v", got)
	}
}

// This Reason Code MUST either show the maximum QoS that was granted or indicate that the
// subscription failed. A higher QoS than requested is invalid.
func TestMQTT_3_8_4_7(t *testing.T) {
	for asked := client.AtMostOnce; asked <= client.AtLeastOnce; asked++ {
		for granted := asked + 1; granted <= client.ExactlyOnce; granted++ {
			onRig(t, func(t *testing.T, r *rig) { r.requested(wire.SUBSCRIBE, asked, byte(granted)) })
		}
	}
	onRig(t, func(t *testing.T, r *rig) { // a lower QoS is valid
		c, conn := r.start(control.Connack{})
		for i := range byte(3) {
			done := r.subscribe(c, "a")
			conn.Suback(conn.ExpectSubscribe().PacketID, i)
			r.must(<-done)
		}
	})
}

// The Server sending a SUBACK packet MUST use one of the Subscribe Reason Codes for each Topic
// Filter received. Any other code is a violation.
func TestMQTT_3_9_3_2(t *testing.T) {
	known := []byte{0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}
	for code := range 0x100 {
		if !bytes.Contains(known, []byte{byte(code)}) {
			onRig(t, func(t *testing.T, r *rig) { r.requested(wire.SUBSCRIBE, client.ExactlyOnce, byte(code)) })
		}
	}
	for _, code := range known[3:] { // these refuse, and the connection stays up
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			done := r.subscribe(c, "a")
			conn.Suback(conn.ExpectSubscribe().PacketID, code)
			var refused *client.RefusedError
			if err := <-done; !errors.As(err, &refused) || refused.Code != code {
				t.Errorf("the error is %v, want a *RefusedError 0x%02X", err, code)
			}
			r.resume(conn).Quiet()
		})
	}
}

// silent checks that an unanswered request ends the connection with a matching error and is
// repeated.
func silent(t *testing.T, kind wire.Type, ask func(r *rig, c *client.Client) <-chan error) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.AckTimeout = 5 * time.Second
		c, conn := r.start(control.Connack{})
		ask(r, c)
		conn.Expect(kind)
		conn.QuietFor(4 * time.Second)
		conn.ExpectClosed()
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		conn.Expect(kind)
		if got := eventsOf[client.Disconnected](r); len(got) != 1 || !errors.Is(got[0].Err, client.ErrAckTimeout) {
			t.Errorf("the events are %+v", got)
		}
	})
}

// When the Server receives a SUBSCRIBE packet from a Client, the Server MUST respond with a SUBACK
// packet. If it does not, the client gives up the connection.
func TestMQTT_3_8_4_1(t *testing.T) {
	silent(t, wire.SUBSCRIBE, func(r *rig, c *client.Client) <-chan error { return r.subscribe(c, "a") })
}

// A SUBACK and UNSUBACK MUST contain the Packet Identifier of the SUBSCRIBE and UNSUBSCRIBE packet.
// The client does not accept the identifiers of other packets, not even of the other kind.
func TestMQTT_2_2_1_6(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		done := r.subscribe(c, "a")
		first := conn.ExpectSubscribe().PacketID
		conn.Suback(first, 0)
		r.must(<-done)
		done = r.unsubscribe(c, "a")
		conn.ExpectUnsubscribe()
		r.wantEnd(conn, 0x82, control.AppendUnsuback(nil, &control.Suback{PacketID: first, Reasons: []byte{0}}))
		r.violated(<-done, "UNSUBACK")
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		conn.Unsuback(conn.ExpectUnsubscribe().PacketID, 0)
		r.subscribe(c, "b")
		r.wantEnd(conn, 0x82, control.AppendUnsuback(nil, &control.Suback{PacketID: conn.ExpectSubscribe().PacketID, Reasons: []byte{0}}))
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		conn.Suback(conn.ExpectSubscribe().PacketID, 0)
		r.unsubscribe(c, "b")
		r.wantEnd(conn, 0x82, control.AppendSuback(nil, &control.Suback{PacketID: conn.ExpectUnsubscribe().PacketID, Reasons: []byte{0}}))
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		conn.ExpectUnsubscribe()
	})
}
