package conformance

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 4.9: flow control.

// sent returns the Packet Identifiers of all QoS 1 and 2 PUBLISH packets received on this
// connection so far.
func (r *rig) sent(conn *fakebroker.Conn) (ids []uint16) {
	r.t.Helper()
	synctest.Wait()
	for reader := wire.NewReader(bytes.NewReader(conn.Heard()), 0); ; {
		f, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return ids
		}
		r.must(err)
		if f.Type() == wire.PUBLISH && f.Header&0x06 != 0 {
			v, err := wire.ParsePublish(f)
			r.must(err)
			ids = append(ids, v.PacketID)
		}
	}
}

// The Client or Server MUST set its initial send quota to a non-zero value not
// exceeding the Receive Maximum.
func TestMQTT_4_9_0_1(t *testing.T) {
	for _, maximum := range []int{0, 1, 2, 3, 10} {
		for _, status := range []*client.Status{nil, {Topic: "s", NoCorrection: true}} {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Presence.Status = status
				c, conn := r.start(control.Connack{ReceiveMaximum: uint16(maximum)})
				allowed := maximum
				if maximum == 0 { // absent: 65,535
					allowed = 301
				}
				for i := range 300 {
					r.publish(c, client.QoS(1+i%2), "p")
				}
				for range 2 { // each connection begins with a new quota
					n := len(r.sent(conn))
					if n == 0 || n > allowed || maximum == 0 && n < 300 {
						t.Errorf("%d messages are sent with a Receive Maximum of %d", n, maximum)
					}
					conn.Close()
					conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: uint16(maximum)})
				}
			})
		}
	}
}

// Each time the Client or Server sends a PUBLISH packet at QoS > 0, it decrements
// the send quota. If the send quota reaches zero, it MUST NOT send any more PUBLISH
// packets with QoS > 0.
func TestMQTT_4_9_0_2(t *testing.T) {
	const total = 40
	for maximum := 1; maximum <= 5; maximum++ {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{ReceiveMaximum: uint16(maximum)})
			for range total {
				r.publish(c, client.ExactlyOnce, "p")
			}
			for ended := 0; ended < total; {
				ids := r.sent(conn)
				open := ids[ended:]
				if len(open) == 0 || len(open) > maximum {
					t.Fatalf("%d messages are open, the Receive Maximum is %d", len(open), maximum)
				}
				r.publish(c, client.AtMostOnce, "takes no quota") // uses and returns no quota
				for _, id := range open {
					conn.Ack(wire.PUBREC, id, 0)
				}
				if n := len(r.sent(conn)); n != len(ids) {
					t.Fatalf("%d messages are sent on the strength of PUBREC", n-len(ids))
				}
				for i, id := range open {
					conn.Ack(wire.PUBCOMP, id, 0)
					ended++
					if n := len(r.sent(conn)); n > len(ids)+i+1 {
						t.Fatalf("%d messages are sent on the strength of %d PUBCOMP", n-len(ids), i+1)
					}
				}
			}
		})
		onRig(t, func(t *testing.T, r *rig) { // exchanges that end at once, and resends
			c, conn := r.start(control.Connack{ReceiveMaximum: uint16(maximum)})
			for i := range total {
				r.publish(c, client.QoS(1+i%2), "p")
			}
			for left := total; left > 0; {
				n := len(r.sent(conn))
				if n == 0 || n > maximum {
					t.Fatalf("%d messages are open, the Receive Maximum is %d", n, maximum)
				}
				p := conn.ExpectPublish()
				kind, reason := wire.PUBACK, byte(0)
				if p.QoS == 2 {
					kind, reason = wire.PUBREC, 0x99
				}
				conn.Ack(kind, p.PacketID, reason)
				left--
				if n = len(r.sent(conn)); n-1 > maximum {
					t.Fatalf("%d messages are open, the Receive Maximum is %d", n-1, maximum)
				}
				conn.Close() // the next connection starts with a new quota
				conn, _ = r.Connect(control.Connack{SessionPresent: true, ReceiveMaximum: uint16(maximum)})
			}
			conn.Quiet()
		})
	}
}

// The Client and Server MUST continue to process and respond to all other MQTT
// Control Packets even if the quota is zero.
func TestMQTT_4_9_0_3(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.KeepAlive = time.Minute
		c, conn := r.receiver(control.Connack{ReceiveMaximum: 1}, r.keep)
		r.publish(c, client.ExactlyOnce, "first")
		first := r.wantPublish(conn, "first", false).PacketID
		waits := r.publish(c, client.AtLeastOnce, "waits")
		conn.Quiet() // the quota is zero

		conn.Publish(message(1, 1, "1"))
		conn.ExpectBytes([]byte{0x40, 2, 0, 1})
		conn.Publish(message(2, 2, "2"))
		conn.ExpectBytes([]byte{0x50, 2, 0, 2})
		conn.Ack(wire.PUBREL, 2, 0)
		conn.ExpectBytes([]byte{0x70, 2, 0, 2})
		conn.Publish(message(0, 0, "0"))
		r.wantKept("120")
		done := r.subscribe(c, "a")
		conn.Suback(conn.ExpectSubscribe().PacketID, 0)
		r.must(<-done)
		done = r.unsubscribe(c, "a")
		conn.Unsuback(conn.ExpectUnsubscribe().PacketID, 0)
		r.must(<-done)
		r.publish(c, client.AtMostOnce, "zero")
		r.wantPublish(conn, "zero", false)
		time.Sleep(55 * time.Second)
		conn.ExpectPingreq()
		conn.Pingresp()
		conn.Ack(wire.PUBREC, 9, 0)
		conn.ExpectBytes([]byte{0x62, 3, 0, 9, 0x92})
		conn.Ack(wire.PUBREC, first, 0)
		conn.ExpectBytes([]byte{0x62, 2, byte(first >> 8), byte(first)})
		conn.Quiet()
		r.wantState(waits, client.Pending)
		conn.Ack(wire.PUBCOMP, first, 0)
		r.wantPublish(conn, "waits", false)

		closed := asks(c.Close)
		conn.ExpectDisconnect(0)
		r.must(<-closed)
	})
}
