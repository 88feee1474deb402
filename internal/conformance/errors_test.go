package conformance

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 4.13: errors.

// malformed are packets that a server must not send.
var malformed = []struct {
	name   string
	bytes  []byte
	reason byte
}{
	{"type 0", []byte{0x00, 0}, 0x81},
	{"a length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, 0x81},
	{"a length that is not minimal", []byte{0x30, 0x84, 0x00, 0, 1, 't', 0}, 0x81},
	{"both QoS bits", []byte{0x36, 6, 0, 1, 't', 0, 1, 0}, 0x81},
	{"DUP at QoS 0", []byte{0x38, 4, 0, 1, 't', 0}, 0x81},
	{"a topic that runs out", []byte{0x30, 4, 0, 9, 't', 0}, 0x81},
	{"a topic that is no UTF-8", []byte{0x30, 4, 0, 1, 0xFF, 0}, 0x81},
	{"no topic", []byte{0x30, 3, 0, 0, 0}, 0x82},
	{"no Packet Identifier", []byte{0x32, 3, 0, 1, 't'}, 0x81},
	{"Packet Identifier 0", []byte{0x32, 6, 0, 1, 't', 0, 0, 0}, 0x82},
	{"an unknown property", []byte{0x30, 6, 0, 1, 't', 2, 0x7E, 0}, 0x81},
	{"a property of CONNECT in PUBLISH", []byte{0x30, 7, 0, 1, 't', 3, 0x21, 0, 1}, 0x81},
	{"a property twice", []byte{0x30, 8, 0, 1, 't', 4, 1, 0, 1, 0}, 0x82},
	{"a flag of 2", []byte{0x30, 6, 0, 1, 't', 2, 1, 2}, 0x82},
	{"properties that run out", []byte{0x30, 5, 0, 1, 't', 9, 1}, 0x81},
	{"PUBACK with half an identifier", []byte{0x40, 1, 0}, 0x81},
	{"PUBACK with a reason of CONNACK", []byte{0x40, 3, 0, 1, 0x86}, 0x82},
	{"PUBREL with flags 0", []byte{0x60, 2, 0, 1}, 0x81},
	{"SUBACK without reasons", []byte{0x90, 3, 0, 1, 0}, 0x81},
	{"UNSUBACK with flags", []byte{0xB1, 4, 0, 1, 0, 0}, 0x81},
	{"PINGRESP with a body", []byte{0xD0, 1, 0}, 0x81},
	{"DISCONNECT with half a property", []byte{0xE0, 3, 0, 1, 0x1F}, 0x81},
	{"a second CONNACK", []byte{0x20, 3, 0, 0, 0}, 0x82},
	{"CONNECT", control.AppendConnect(nil, &control.Connect{ClientID: "x"}), 0x82},
	{"SUBSCRIBE", []byte{0x82, 7, 0, 1, 0, 0, 1, 't', 0}, 0x82},
	{"UNSUBSCRIBE", []byte{0xA2, 6, 0, 1, 0, 0, 1, 't'}, 0x82},
	{"PINGREQ", []byte{0xC0, 0}, 0x82},
	{"a packet above the maximum", []byte{0x30, 0x81, 0x80, 0x80, 0x08}, 0x95},
}

// When a Malformed Packet or Protocol Error is detected, and a Reason Code is
// given in the specification, the Network Connection MUST be closed.
func TestMQTT_4_13_1_1(t *testing.T) {
	for _, m := range malformed {
		for how, send := range map[string]func(*fakebroker.Conn, []byte){
			"whole":         func(c *fakebroker.Conn, b []byte) { c.Send(b) },
			"byte for byte": func(c *fakebroker.Conn, b []byte) { c.Trickle(b) },
			"after a valid one": func(c *fakebroker.Conn, b []byte) {
				c.Send(control.AppendPingresp(nil), b, control.AppendPingresp(nil))
			},
		} {
			t.Run(m.name+", "+how, func(t *testing.T) {
				onRig(t, func(t *testing.T, r *rig) {
					_, conn := r.receiver(control.Connack{}, r.keep)
					conn.Quiet()
					send(conn, m.bytes)
					conn.ExpectDisconnect(m.reason)
					var bad *client.ProtocolError
					if got := eventsOf[client.Disconnected](r); len(got) != 1 || !errors.As(got[0].Err, &bad) || bad.Code != m.reason {
						t.Errorf("Disconnected events are %v", got)
					}
					conn, _ = r.Connect(control.Connack{SessionPresent: true})
					conn.Publish(message(1, 1, "good"))
					conn.ExpectBytes([]byte{0x40, 2, 0, 1})
					r.wantKept("good")
				})
			})
		}
	}
	t.Run("garbage", func(t *testing.T) {
		for seed := range uint64(40) {
			onRig(t, func(t *testing.T, r *rig) {
				c, conn := r.receiver(control.Connack{}, r.keep)
				conn.Send(fakebroker.Garbage(seed, 5000))
				conn.Close()
				conn, _ = r.Connect(control.Connack{SessionPresent: true})
				r.publish(c, client.AtLeastOnce, "goes on")
				r.wantPublish(conn, "goes on", false)
			})
		}
	})
}

// The CONNACK and DISCONNECT packets allow a Reason Code of 0x80 or greater to indicate that the
// Network Connection will be closed. The connection MUST then be closed, whether or not they are
// sent.
func TestMQTT_4_13_2_1(t *testing.T) {
	t.Run("CONNACK", func(t *testing.T) {
		for reason := 0x80; reason < 0x100; reason++ {
			onRig(t, func(t *testing.T, r *rig) {
				c := r.client()
				conn, _ := r.Open()
				conn.Connack(control.Connack{Reason: byte(reason)})
				conn.ExpectClosed()
				if c.Stats().Connections != 0 {
					t.Errorf("CONNACK 0x%02X is treated as a connection", reason)
				}
			})
		}
	})
	t.Run("DISCONNECT", func(t *testing.T) {
		for reason := 0x80; reason < 0x100; reason++ {
			onRig(t, func(t *testing.T, r *rig) {
				c, conn := r.start(control.Connack{})
				conn.Quiet()
				conn.Disconnect(control.Disconnect{Reason: byte(reason)})
				if wire.CheckServerReason(wire.DISCONNECT, byte(reason)) != nil {
					conn.ExpectDisconnect(0x82) // such a code does not exist
				}
				conn.ExpectClosed() // although the server keeps it open
				r.publish(c, client.AtLeastOnce, "later")
				conn, _ = r.Connect(control.Connack{})
				r.wantPublish(conn, "later", false)
			})
		}
	})
	t.Run("not sent", func(t *testing.T) {
		for _, writing := range []bool{false, true} {
			onRig(t, func(t *testing.T, r *rig) {
				hole, _ := net.Pipe()
				var out *mute
				r.cfg.Connection.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
					nc, err := r.Dial(ctx, u)
					out = &mute{Conn: nc, hole: hole}
					return out, err
				}
				c, conn := r.start(control.Connack{})
				conn.Quiet()
				out.on.Store(true)
				if writing {
					r.publish(c, client.AtLeastOnce, "stuck")
					conn.Quiet()
				}
				began := time.Now()
				conn.Send([]byte{0x00, 0x00})
				conn.ExpectClosed()
				if took := time.Since(began); took > time.Second {
					t.Errorf("closing took %v", took)
				}
			})
		}
	})
}

// mute is a connection whose peer stops reading while on is set.
type mute struct {
	net.Conn
	hole net.Conn // a pipe without a reader
	on   atomic.Bool
}

func (m *mute) Write(p []byte) (int, error) {
	if m.on.Load() {
		return m.hole.Write(p)
	}
	return m.Conn.Write(p)
}

func (m *mute) SetWriteDeadline(t time.Time) error {
	_ = m.hole.SetWriteDeadline(t)
	return m.Conn.SetWriteDeadline(t)
}

func (m *mute) Close() error {
	_ = m.hole.Close()
	return m.Conn.Close()
}
