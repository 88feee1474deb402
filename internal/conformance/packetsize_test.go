package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.2.2.3.6: the server's Maximum Packet Size.

// [MQTT-3.2.2-15]: no packet exceeds the server's Maximum Packet Size.
func TestMQTT_3_2_2_15(t *testing.T) {
	const most = 100
	limited := control.Connack{MaximumPacketSize: most}
	// largest returns the size of the largest packet received so far.
	largest := func(t *testing.T, conn *fakebroker.Conn, answer func(f wire.Frame)) (size int) {
		t.Helper()
		for _, f := range conn.Take() {
			if len(f.Raw) > most {
				t.Errorf("%v of %d bytes was sent", f.Type(), len(f.Raw))
			}
			size = max(size, len(f.Raw))
			answer(f)
		}
		return size
	}
	t.Run("PUBLISH", func(t *testing.T) {
		for n := range 6 {
			onRig(t, func(t *testing.T, r *rig) {
				qos := client.QoS(n % 3)
				limited := limited
				if n >= 3 { // a Topic Alias makes the first packet of a topic larger
					r.cfg.Publishing.TopicAliases, limited.TopicAliasMaximum = 10, 10
				}
				c, conn := r.start(limited)
				refused := 0
				for n := range 2 * most {
					d, err := c.Publish(t.Context(), client.Message{Topic: fmt.Sprint("topic/", n), QoS: qos, Payload: make([]byte, n)})
					if err != nil || r.state(d) == client.Refused {
						refused++
					}
				}
				got := 0
				if size := largest(t, conn, func(wire.Frame) { got++ }); size != most {
					t.Errorf("QoS %d: the largest has %d bytes, and %d are allowed", qos, size, most)
				}
				if got+refused != 2*most {
					t.Errorf("QoS %d: %d came, %d were refused", qos, got, refused)
				}
			})
		}
	})
	t.Run("PUBLISH that was sent before", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{})
			d := r.publish(c, client.ExactlyOnce, strings.Repeat("x", most))
			conn.ExpectPublish()
			conn.Close()
			conn, _ = r.Connect(control.Connack{SessionPresent: true, MaximumPacketSize: most})
			conn.Ack(wire.PUBCOMP, conn.ExpectAck(wire.PUBREL).PacketID, 0) // the server may hold the identifier
			conn.Quiet()
			r.wantState(d, client.Refused)
		})
	})
	t.Run("SUBSCRIBE and UNSUBSCRIBE", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(limited)
			seen := map[wire.Type]int{}
			for n := 80; n < 120; n++ {
				for kind, request := range map[wire.Type]func(context.Context, *client.Client, string) <-chan error{wire.SUBSCRIBE: subscribe, wire.UNSUBSCRIBE: unsubscribe} {
					done := request(t.Context(), c, strings.Repeat("f", n))
					sent := false
					size := largest(t, conn, func(f wire.Frame) {
						sent = true
						conn.Send(raw(byte(kind+1)<<4, f.Body[:2], 0, 0))
					})
					seen[kind] = max(seen[kind], size)
					if err := <-done; (err == nil) != sent {
						t.Errorf("%v for %d bytes: sent %v, error %v", kind, n, sent, err)
					}
				}
			}
			if seen[wire.SUBSCRIBE] != most || seen[wire.UNSUBSCRIBE] != most {
				t.Errorf("the largest were %v", seen)
			}
			conn.Quiet()
		})
	})
	t.Run("subscriptions that are restored", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, err := client.New(r.cfg)
			r.must(err)
			t.Cleanup(func() { _ = c.Close() })
			for n := range 40 {
				r.must(<-subscribe(t.Context(), c, strings.Repeat("f", 1+3*n)))
			}
			r.must(c.Start(t.Context()))
			conn, _ := r.Connect(limited)
			filters := 0
			for more := true; more; {
				more = false
				largest(t, conn, func(f wire.Frame) {
					sub, err := control.ParseSubscribe(f)
					r.must(err)
					filters += len(sub.Subscriptions)
					conn.Suback(sub.PacketID, make([]byte, len(sub.Subscriptions))...)
					more = true
				})
			}
			if filters != 29 { // up to 86 bytes fit with an identifier
				t.Errorf("%d filters were subscribed to, want 29", filters)
			}
		})
	})
	t.Run("PUBACK and PUBREC", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			reason := ""
			_, conn := r.receiver(limited, func(context.Context, *client.Message) error { return client.Refuse(0x83, reason) })
			seen := 0
			for n := range 120 {
				reason = strings.Repeat("r", n)
				conn.Publish(message(byte(1+n%2), uint16(1+n), "x"))
				seen = max(seen, largest(t, conn, func(wire.Frame) {}))
			}
			if seen != most {
				t.Errorf("the largest has %d bytes", seen)
			}
		})
	})
	t.Run("birth, offline status and DISCONNECT", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true, Online: make([]byte, 2*most), Offline: make([]byte, 2*most)}
			c, conn := r.start(limited)
			conn.Quiet()
			r.must(c.Close())
			conn.ExpectDisconnect(wire.ReasonDisconnectWithWill) // the offline status did not fit
		})
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.ClientID = "" // its DISCONNECT has a Session Expiry Interval
			c, conn := r.start(control.Connack{MaximumPacketSize: 8})
			r.must(c.Close())
			for _, f := range conn.Rest() {
				if len(f.Raw) > 8 {
					t.Errorf("% x was sent", f.Raw)
				}
			}
		})
	})
	t.Run("each connection has its own", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(limited)
			conn.Close()
			conn, _ = r.Connect(control.Connack{SessionPresent: true, MaximumPacketSize: 2 * most})
			r.await(c)
			r.publish(c, client.AtLeastOnce, strings.Repeat("x", most))
			conn.ExpectPublish()
		})
	})
	wantNoBirthAgain(t, control.Connack{MaximumPacketSize: 10})
	t.Run("a limit that no answer fits in", func(t *testing.T) {
		refuse := client.HandlerFunc(func(context.Context, *client.Message) error { return client.Refuse(0x83, "") })
		for limit := uint32(1); limit <= 8; limit++ {
			for name, packet := range map[string][]byte{
				"PUBACK": raw(0x32, "t", uint16(7), 0), "PUBREC": raw(0x34, "t", uint16(7), 0), "PUBREL": raw(0x50, uint16(7)),
				"PUBCOMP": raw(0x62, uint16(7)), "DISCONNECT": raw(0xD1), "PINGREQ": {},
			} {
				onRig(t, func(t *testing.T, r *rig) {
					r.cfg.Connection.KeepAlive = time.Second
					c, err := client.New(r.cfg)
					r.must(err)
					t.Cleanup(func() { _ = c.Close() })
					r.must(c.Handle("#", refuse))
					r.must(c.Start(t.Context()))
					conn, _ := r.Connect(control.Connack{MaximumPacketSize: limit})
					conn.Send(packet)
					time.Sleep(2 * time.Second)
					for _, f := range conn.Take() {
						if len(f.Raw) > int(limit) {
							t.Errorf("limit %d, %s: % x was sent", limit, name, f.Raw)
						}
					}
				})
			}
		}
	})
}
