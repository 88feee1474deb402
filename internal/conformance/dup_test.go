package conformance

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// killed is the store of a process that is killed before its end. It does not record what the end
// of a process records.
type killed struct{ persistence.Store }

func (k killed) SetSent(p persistence.Priority, number uint64) error {
	if number < k.Sent(p) {
		return errors.New("killed")
	}
	return k.Store.SetSent(p, number)
}

// dupAfterTheEndOfAProcess is a part of TestMQTT_3_3_1_3. In the next process, DUP is 0 on a
// message that was never sent, however the previous process ended [MQTT-3.3.1-3]. DUP is 1 on a
// message that was sent [MQTT-3.3.1-1]. Only after a kill may DUP be 1 on messages that were about
// to be sent.
func dupAfterTheEndOfAProcess(t *testing.T) {
	const messages, window, acked = 900, 10, 650 // so that the watermark reaches far ahead
	for name, tt := range map[string]struct {
		end    func(t *testing.T, r *rig, c *client.Client, cancel func(error))
		killed bool
	}{
		"Close": {end: func(_ *testing.T, r *rig, c *client.Client, _ func(error)) { r.must(c.Close()) }},
		"Drain": {end: func(t *testing.T, r *rig, c *client.Client, _ func(error)) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var left *client.DrainError
			if err := c.Drain(ctx); !errors.As(err, &left) || left.Pending != messages-acked {
				t.Errorf("Drain returns %v", err)
			}
		}},
		"cancelled": {end: func(_ *testing.T, _ *rig, _ *client.Client, cancel func(error)) { cancel(nil) }},
		"aborted":   {end: func(_ *testing.T, _ *rig, _ *client.Client, cancel func(error)) { cancel(client.ErrAbort) }},
		"killed":    {end: func(_ *testing.T, _ *rig, _ *client.Client, cancel func(error)) { cancel(client.ErrAbort) }, killed: true},
	} {
		t.Run(name, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				restart := r.store()
				memory := r.cfg.Store.Custom
				if tt.killed {
					r.cfg.Store.Custom = killed{memory}
				}
				c, err := client.New(r.cfg)
				r.must(err)
				t.Cleanup(func() { _ = c.Close() })
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				r.must(c.Start(ctx))
				conn, _ := r.Connect(control.Connack{ReceiveMaximum: window})
				for i := range messages {
					p := client.Priority(i % 3)
					r.publishMessage(c, client.Message{Topic: "t", QoS: client.QoS(1 + i/3%2), Priority: p, Payload: []byte("x")})
				}
				sent := map[string]bool{}
				for ended := 0; ended < acked; {
					for _, v := range r.published(conn) {
						id := key(v)
						if v.Dup {
							t.Errorf("%s is a repetition", id)
						}
						sent[id] = true
						switch {
						case ended == acked: // this message stays
							continue
						case v.QoS == 1:
							conn.Ack(wire.PUBACK, v.PacketID, 0)
						default:
							conn.Ack(wire.PUBREC, v.PacketID, wire.ReasonPayloadFormatInvalid)
						}
						ended++
					}
				}
				for _, v := range r.published(conn) {
					sent[key(v)] = true
				}
				marked := memory.Sent(persistence.Normal)
				tt.end(t, r, c, cancel)
				<-c.Done()
				if n := memory.Sent(persistence.Normal); (n < marked) == tt.killed {
					t.Errorf("marked up to %d of %d", n, marked)
				}
				restart()
				r.client()
				conn, _ = r.Connect(control.Connack{SessionPresent: true})
				n, again, first := 0, 0, 0
				for _, v := range r.published(conn) {
					n++
					switch was := sent[key(v)]; {
					case was && !v.Dup:
						t.Errorf("%s was sent, and DUP is 0", key(v))
					case !was && v.Dup && !tt.killed:
						t.Errorf("%s was never sent, and DUP is 1", key(v))
					case was:
						again++
					default:
						first++
					}
				}
				if again == 0 || first == 0 {
					t.Errorf("of %d messages %d were resent, %d for the first time", n, again, first)
				}
			})
		})
	}
}

// published returns the PUBLISH packets received so far.
func (r *rig) published(conn *fakebroker.Conn) (list []wire.Publish) {
	r.t.Helper()
	synctest.Wait()
	for _, f := range conn.Take() {
		if f.Type() != wire.PUBLISH {
			continue
		}
		v, err := wire.ParsePublish(f)
		r.must(err)
		p := v.Decode("t")
		p.Dup, p.PacketID = v.Dup, v.PacketID
		list = append(list, p)
	}
	return list
}

// key returns the message ID, which is the first user property.
func key(p wire.Publish) string { return p.User[0].Value }
