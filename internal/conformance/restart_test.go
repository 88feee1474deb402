package conformance

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// pubrelsOfEarlierProcesses is a part of TestMQTT_4_6_0_4. PUBRELs are resent in the order of the
// PUBRECs [MQTT-4.6.0-4]. The process and the connection that received the PUBRECs, and the order
// and priority of the messages, do not matter. A full window does not delay them [MQTT-3.3.4-8].
func pubrelsOfEarlierProcesses(t *testing.T) {
	for _, where := range []string{"memory", "folder"} {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			onRig(t, func(t *testing.T, r *rig) {
				restart := func() {}
				if where == "memory" {
					restart = r.store()
				} else {
					r.cfg.Dir = dir
				}
				c, conn := r.start(control.Connack{})
				var ids []uint16
				send := func() {
					t.Helper()
					for i := range 3 { // one of each priority
						p := client.Priority(len(ids) % 3)
						r.publishMessage(c, client.Message{Topic: "t", QoS: client.ExactlyOnce, Priority: p, Payload: fmt.Append(nil, i)})
						ids = append(ids, conn.ExpectPublish().PacketID)
					}
				}
				var owed []uint16
				release := func(order ...int) {
					t.Helper()
					for _, i := range order {
						conn.Ack(wire.PUBREC, ids[i], 0)
						r.wantAck(conn, wire.PUBREL, ids[i])
						owed = append(owed, ids[i])
					}
				}
				settle := func(at int) {
					conn.Ack(wire.PUBCOMP, owed[at], 0)
					synctest.Wait() // a client that closes may leave messages unhandled
					owed = append(owed[:at:at], owed[at+1:]...)
				}
				want := func(publishes int) {
					t.Helper()
					synctest.Wait()
					var came []uint16
					for _, f := range conn.Take() {
						if f.Type() == wire.PUBLISH {
							if v, err := wire.ParsePublish(f); err != nil || !v.Dup {
								t.Errorf("packet %d came without DUP, %v", v.PacketID, err)
							}
							publishes--
							continue
						}
						a, err := wire.ParseAck(f)
						if err != nil || a.Type != wire.PUBREL {
							t.Errorf("%+v came, %v", a, err)
						}
						came = append(came, a.PacketID)
					}
					if !slices.Equal(came, owed) || publishes != 0 {
						t.Errorf("PUBRELs came for %v, want %v; %d more PUBLISHes were expected", came, owed, publishes)
					}
				}
				next := func(ack control.Connack) {
					t.Helper()
					r.must(c.Close())
					restart()
					ack.SessionPresent = true
					c = r.client()
					conn, _ = r.Connect(ack)
				}
				send()
				send()
				release(4, 1, 3, 0)
				conn = r.resume(conn)
				want(2)
				settle(1)

				next(control.Connack{ReceiveMaximum: 2})
				want(0) // no room for messages
				conn = r.resume(conn)
				want(2)
				release(5)
				settle(0)

				next(control.Connack{})
				want(1)
				release(2)
				next(control.Connack{})
				want(0)
			})
		})
	}
}

// wantAck checks that the next packet is this acknowledgement.
func (r *rig) wantAck(conn *fakebroker.Conn, typ wire.Type, id uint16) {
	r.t.Helper()
	f := conn.Expect(typ)
	if a, err := wire.ParseAck(f); err != nil || a.PacketID != id {
		r.t.Errorf("%v of %d came (%v), want %d", typ, a.PacketID, err, id)
	}
}
