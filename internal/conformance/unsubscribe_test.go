package conformance

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

func (r *rig) unsubscribe(c *client.Client, filter string) <-chan error {
	return asks(func() error { return c.Unsubscribe(context.Background(), filter) })
}

// The flags of UNSUBSCRIBE are reserved and MUST be 0,0,1,0.
func TestMQTT_3_10_1_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		done := r.unsubscribe(c, "a/b")
		conn.ExpectBytes([]byte{0xA2, 8, 0, 1, 0, 0, 3, 'a', '/', 'b'})
		conn.Unsuback(1, 0)
		r.must(<-done)
		lost := r.unsubscribe(c, "c")
		conn.ExpectBytes([]byte{0xA2, 6, 0, 2, 0, 0, 1, 'c'})
		conn = r.resume(conn) // again when it is repeated
		r.must(<-lost)
		conn.ExpectBytes([]byte{0xA2, 6, 0, 3, 0, 0, 1, 'c'})
		conn.Unsuback(3, 0x11)
		conn.Quiet()
	})
}

// The Topic Filters in an UNSUBSCRIBE packet MUST be UTF-8 Encoded Strings.
func TestMQTT_3_10_3_1(t *testing.T) {
	refusesFields(t, notUTF8, tryUnsubscribe)
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		done := r.unsubscribe(c, "\uFEFF/ä")
		u := conn.ExpectUnsubscribe()
		if u.Filters[0] != "\uFEFF/ä" {
			t.Errorf("the filter is %q", u.Filters[0])
		}
		conn.Unsuback(u.PacketID, 0)
		r.must(<-done)
	})
}

// The Payload of an UNSUBSCRIBE packet MUST contain at least one Topic Filter.
func TestMQTT_3_10_3_2(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		conn.Close()
		for range 3 { // a subscription that is made, ended and made again is not ended
			r.must(<-r.subscribe(c, "a"))
			r.must(<-r.unsubscribe(c, "a"))
		}
		r.must(<-r.subscribe(c, "a"))
		r.must(<-r.unsubscribe(c, "b"))
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		u := conn.ExpectUnsubscribe() // ParseUnsubscribe requires at least one
		if len(u.Filters) != 1 || u.Filters[0] != "b" {
			t.Errorf("UNSUBSCRIBE is %+v", u)
		}
		conn.Unsuback(u.PacketID, 0)
		conn.Suback(conn.ExpectSubscribe().PacketID, 2)
		conn.Quiet()
		conn = r.resume(conn) // nothing is left to send
		conn.Quiet()
	})
}

// The UNSUBACK packet MUST have the same Packet Identifier as the UNSUBSCRIBE. Another identifier
// is a violation and not an answer.
func TestMQTT_3_10_4_5(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		done := r.unsubscribe(c, "a")
		conn.Unsuback(conn.ExpectUnsubscribe().PacketID, 0x11)
		r.must(<-done)
		done = r.unsubscribe(c, "a")
		conn.ExpectUnsubscribe()
		r.wantEnd(conn, 0x82, control.AppendUnsuback(nil, &control.Suback{PacketID: 0xFFFF, Reasons: []byte{0x11}}))
		r.violated(<-done, "UNSUBACK")
	})
}

// The order of Reason Codes in the UNSUBACK packet MUST match the order of Topic Filters. The
// client ends one subscription at a time and expects exactly one code.
func TestMQTT_3_11_3_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		c, conn := r.start(control.Connack{})
		first := r.unsubscribe(c, "a")
		u := conn.ExpectUnsubscribe()
		if len(u.Filters) != 1 {
			t.Fatalf("UNSUBSCRIBE is %+v", u)
		}
		second := r.unsubscribe(c, "b")
		conn.Unsuback(u.PacketID, 0x87)
		var refused *client.RefusedError
		if err := <-first; !errors.As(err, &refused) || refused.Code != 0x87 || !strings.HasSuffix(refused.Error(), ": a") {
			t.Errorf("the error is %v, want a *RefusedError 0x87", err)
		}
		conn.Unsuback(conn.ExpectUnsubscribe().PacketID, 0)
		r.must(<-second)
	})
	onRig(t, func(t *testing.T, r *rig) { r.requested(wire.UNSUBSCRIBE, 0, 0, 0) })
	onRig(t, func(t *testing.T, r *rig) { r.requested(wire.UNSUBSCRIBE, 0, 0x11, 0x80, 0) })
}

// The Server sending an UNSUBACK packet MUST use one of the Unsubscribe Reason Codes for each Topic
// Filter received. Any other code is a violation.
func TestMQTT_3_11_3_2(t *testing.T) {
	known := []byte{0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}
	for code := range 0x100 {
		if !bytes.Contains(known, []byte{byte(code)}) {
			onRig(t, func(t *testing.T, r *rig) { r.requested(wire.UNSUBSCRIBE, 0, byte(code)) })
		}
	}
	onRig(t, func(t *testing.T, r *rig) { // no codes at all
		c, conn := r.start(control.Connack{})
		r.unsubscribe(c, "a")
		conn.ExpectUnsubscribe()
		r.wantEnd(conn, 0x81, raw(0xB0, uint16(1), 0))
	})
}

// The Server MUST respond to an UNSUBSCRIBE request by sending an UNSUBACK packet. If it does not,
// the client gives up the connection.
func TestMQTT_3_10_4_4(t *testing.T) {
	silent(t, wire.UNSUBSCRIBE, func(r *rig, c *client.Client) <-chan error { return r.unsubscribe(c, "a") })
}
