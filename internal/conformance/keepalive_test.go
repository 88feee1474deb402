package conformance

import (
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.1.2.10: Keep Alive, and 3.2.2.3.14: Server Keep Alive.

// pace watches a connection for the time d. Each packet of the client must arrive within keepAlive
// after the previous one. pace answers PINGREQs and returns their number.
func pace(t *testing.T, conn *fakebroker.Conn, keepAlive, d time.Duration, meanwhile func(second int)) (pings int) {
	t.Helper()
	last := time.Now()
	for second := range int(d / time.Second) {
		time.Sleep(time.Second)
		for _, f := range conn.Take() {
			last = time.Now()
			if f.Type() == wire.PINGREQ {
				pings++
				conn.Pingresp()
			}
		}
		if silent := time.Since(last); silent > keepAlive {
			t.Fatalf("nothing was sent for %v, the Keep Alive is %v", silent, keepAlive)
		}
		meanwhile(second)
	}
	return pings
}

// [MQTT-3.1.2-20]: with a Keep Alive and nothing else to send, PINGREQ is sent.
func TestMQTT_3_1_2_20(t *testing.T) {
	const keepAlive, long = 10 * time.Second, 10 * time.Minute
	tests := map[string]func(r *rig, c *client.Client, conn *fakebroker.Conn, second int){
		"idle": func(*rig, *client.Client, *fakebroker.Conn, int) {},
		// Only packets of the client count, not those of the server.
		"the server talks": func(_ *rig, _ *client.Client, conn *fakebroker.Conn, _ int) {
			conn.Publish(message(0, 0, "x"))
		},
		// A message shortly before a PINGREQ is due, and then nothing.
		"now and then": func(r *rig, c *client.Client, _ *fakebroker.Conn, second int) {
			if second%27 == 8 {
				r.publish(c, client.AtMostOnce, "x")
			}
		},
		"a message that is not acknowledged": func(r *rig, c *client.Client, conn *fakebroker.Conn, second int) {
			if second == 3 {
				r.publish(c, client.AtLeastOnce, "x")
			}
			if second%5 == 0 {
				conn.Publish(message(0, 0, "x"))
			}
		},
	}
	for name, meanwhile := range tests {
		t.Run(name, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Connection.KeepAlive = keepAlive
				c := r.client()
				conn, connect := r.Connect(control.Connack{})
				if connect.KeepAlive != 10 {
					t.Errorf("Keep Alive is %d s", connect.KeepAlive)
				}
				r.await(c)
				if pings := pace(t, conn, keepAlive, long, func(second int) { meanwhile(r, c, conn, second) }); pings < 20 {
					t.Errorf("%d PINGREQ in %v", pings, long)
				}
			})
		})
	}
}

// wantServerKeepAlive checks that the server's Keep Alive is used instead of one that is longer,
// shorter or 0.
func wantServerKeepAlive(t *testing.T) {
	t.Helper()
	for _, own := range []time.Duration{5 * time.Second, time.Minute, 65_535 * time.Second} {
		for _, servers := range []uint16{1, 20, 30, 600} {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Connection.KeepAlive = own
				c := r.client()
				conn, connect := r.Connect(control.Connack{HasServerKeepAlive: true, ServerKeepAlive: servers})
				if connect.KeepAlive != uint16(own/time.Second) {
					t.Errorf("CONNECT says %d s, want %v", connect.KeepAlive, own)
				}
				r.await(c)
				want := time.Duration(servers) * time.Second
				if own == 5*time.Second && want > own { // not earlier, because the server's value replaces the client's
					conn.QuietFor(want / 2)
					r.publish(c, client.AtMostOnce, "x")
					conn.ExpectPublish()
				}
				if pings := pace(t, conn, want, 8*want, func(int) {}); pings < 7 || pings > 16 {
					t.Errorf("%d PINGREQ in %v, where the server wants one in %v", pings, 8*want, want)
				}
				// The time to wait for PINGRESP also follows the server's Keep Alive.
				begin := time.Now()
				r.Timeout = 24 * time.Hour
				conn.ExpectPingreq()
				conn.ExpectClosed()
				if took := time.Since(begin); took > 5*want/2+time.Second {
					t.Errorf("a dead link was noticed after %v, with a Keep Alive of %v", took, want)
				}
			})
		}
	}
	onRig(t, func(t *testing.T, r *rig) { // 0 disables it
		r.cfg.Connection.KeepAlive = 5 * time.Second
		_, conn := r.start(control.Connack{HasServerKeepAlive: true})
		conn.QuietFor(24 * time.Hour)
	})
	onRig(t, func(t *testing.T, r *rig) { // it applies only to its connection
		r.cfg.Connection.KeepAlive = 5 * time.Second
		c, conn := r.start(control.Connack{HasServerKeepAlive: true, ServerKeepAlive: 600})
		conn.Close()
		conn, connect := r.Connect(control.Connack{SessionPresent: true})
		r.await(c)
		if connect.KeepAlive != 5 {
			t.Errorf("the next CONNECT says %d s", connect.KeepAlive)
		}
		pace(t, conn, 5*time.Second, time.Minute, func(int) {})
	})
}

// [MQTT-3.1.2-21]: a Server Keep Alive is used instead of the one that was sent.
func TestMQTT_3_1_2_21(t *testing.T) { wantServerKeepAlive(t) }
