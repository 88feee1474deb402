package conformance

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.8.2.1.2: Subscription Identifiers.

// If the Client specified a Subscription Identifier for any of the overlapping subscriptions the
// Server MUST send those Subscription Identifiers. The client specifies them on each connection
// that makes the subscription again.
func TestMQTT_3_3_4_3(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, err := client.New(r.cfg)
		r.must(err)
		defer c.Close()
		ids := []uint32{7, 7, 0, 134_217_727, 7, 128}
		for i, id := range ids {
			filter := string(rune('a' + i))
			if id == 0 {
				r.must(<-r.subscribe(c, filter))
			} else {
				r.must(<-r.subscribe(c, filter, client.SubscriptionID(id)))
			}
		}
		r.must(c.Start(context.Background()))
		conn, _ := r.Connect(control.Connack{})
		for n, restored := range []bool{false, true} {
			if restored { // in the same way
				conn.Close()
				conn, _ = r.Connect(control.Connack{})
			}
			// All filters of a SUBSCRIBE share one identifier.
			for i, want := range [][]any{
				{wire.PropSubscriptionID, 7}, nil, {wire.PropSubscriptionID, 0xFF, 0xFF, 0xFF, 0x3F}, {wire.PropSubscriptionID, 7}, {wire.PropSubscriptionID, 0x80, 1},
			} {
				id := uint16(5*n + i + 1)
				if want == nil { // the client chooses one
					if s := conn.ExpectSubscribe(); s.PacketID != id || s.SubscriptionID < 134_217_728 || len(s.Subscriptions) != 1 || s.Subscriptions[0].Filter != "c" {
						t.Errorf("SUBSCRIBE is %+v", s)
					}
					conn.Suback(id, 2)
					continue
				}
				filters := map[int][]any{0: {"a", 2, "b", 2}, 2: {"d", 2}, 3: {"e", 2}, 4: {"f", 2}}[i]
				conn.ExpectBytes(raw(0x82, id, props(want...), bytesOf(filters...)))
				conn.Suback(id, slices.Repeat([]byte{2}, len(filters)/2)...)
			}
			conn.Quiet()
		}
		r.resume(conn).Quiet()
	})
	t.Run("alone", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			for n, id := range []uint32{1, 134_217_727} { // the second one replaces the first
				done := r.subscribe(c, "a", client.SubscriptionID(id))
				if s := conn.ExpectSubscribe(); s.SubscriptionID != id {
					t.Errorf("SUBSCRIBE is %+v", s)
				}
				conn.Suback(uint16(n+1), 0)
				r.must(<-done)
			}
			for _, id := range []uint32{0, 134_217_728, 1<<32 - 1} {
				var field *client.FieldError
				if err := <-r.subscribe(c, "b", client.SubscriptionID(id)); !errors.As(err, &field) || field.Field != "Subscription Identifier" {
					t.Errorf("%d: the error is %v, want a *FieldError", id, err)
				}
			}
			conn.Quiet()
			conn.Close()
			conn, _ = r.Connect(control.Connack{})
			if s := conn.ExpectSubscribe(); s.SubscriptionID != 134_217_727 || len(s.Subscriptions) != 1 {
				t.Errorf("SUBSCRIBE is %+v", s)
			}
		})
	})
	t.Run("a server without", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			without := control.Connack{SubIDUnavailable: true}
			c, conn := r.start(without)
			var refused *client.RefusedError
			if err := <-r.subscribe(c, "a", client.SubscriptionID(1)); !errors.As(err, &refused) || refused.Code != 0xA1 {
				t.Errorf("the error is %v, want a *RefusedError 0xA1", err)
			}
			done := r.subscribe(c, "b")
			conn.Suback(conn.ExpectSubscribe().PacketID, 0)
			r.must(<-done)
			conn.Close()
			conn, _ = r.Connect(control.Connack{})
			conn.Suback(conn.ExpectSubscribe().PacketID, 0)
			done = r.subscribe(c, "c", client.SubscriptionID(2))
			conn.Suback(conn.ExpectSubscribe().PacketID, 0)
			r.must(<-done)
			conn.Close()
			conn, _ = r.Connect(without) // a server that supported them before
			s := conn.ExpectSubscribe()
			if s.SubscriptionID != 0 || len(s.Subscriptions) != 1 || s.Subscriptions[0].Filter != "b" {
				t.Errorf("SUBSCRIBE is %+v", s)
			}
			conn.Suback(s.PacketID, 0)
			conn.Quiet()
			if got := eventsOf[client.SubscriptionFailed](r); len(got) != 2 || got[0].Filter != "a" || got[1].Filter != "c" || !errors.As(got[1].Err, &refused) || refused.Code != 0xA1 {
				t.Errorf("the events are %+v", got)
			}
			conn.Close()
			conn, _ = r.Connect(control.Connack{SessionPresent: true}) // a server that supports them again
			conn.Expect(wire.SUBSCRIBE)
		})
	})
	t.Run("its size counts", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{MaximumPacketSize: 22})
			done := r.subscribe(c, "nine byte", client.SubscriptionID(134_217_727))
			if f := conn.Expect(wire.SUBSCRIBE); len(f.Raw) != 22 {
				t.Errorf("SUBSCRIBE has %d bytes", len(f.Raw))
			}
			conn.Suback(1, 0)
			r.must(<-done)
			var refused *client.RefusedError
			if err := <-r.subscribe(c, "ten  bytes", client.SubscriptionID(134_217_727)); !errors.As(err, &refused) || refused.Code != 0x95 {
				t.Errorf("the error is %v, want a *RefusedError 0x95", err)
			}
			conn.Quiet()
		})
	})
}

// A single copy of a message MUST have the Subscription Identifiers of all matching subscriptions.
// All of them reach the handler, in any order and number.
func TestMQTT_3_3_4_4(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Receiving.UnhandledGrace = client.NoGrace // the handlers of these subscriptions are declared at once
		_, conn := r.receiver(control.Connack{}, r.keep)
		for i, ids := range [][]uint32{nil, {5}, {5, 1, 134_217_727, 5, 128}} {
			p := message(byte(i), uint16(i), "p")
			p.SubscriptionIDs = ids
			conn.Publish(p)
			r.kept()
			if got := r.got[i].SubscriptionIDs; !slices.Equal(got, ids) {
				t.Errorf("the Subscription Identifiers are %v, want %v", got, ids)
			}
		}
	})
}
