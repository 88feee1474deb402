package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.1: the session state and its identity.

// [MQTT-3.1.2-4]: Clean Start 1 discards the session; Client and Server start a
// new one.
func TestMQTT_3_1_2_4(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		restart := r.store()
		c, conn := r.receiver(control.Connack{}, r.keep)
		// The old session has one half-sent message, one sent and one half-received.
		r.publish(c, client.ExactlyOnce, "half")
		conn.Ack(wire.PUBREC, conn.ExpectPublish().PacketID, 0)
		conn.ExpectAck(wire.PUBREL)
		r.publish(c, client.AtLeastOnce, "sent")
		conn.ExpectPublish()
		conn.Publish(message(2, 7, "old "))
		conn.ExpectAck(wire.PUBREC)
		r.must(c.Close())

		restart()
		r.cfg.Session.CleanStart = true
		c, err := client.New(r.cfg)
		r.must(err)
		t.Cleanup(func() { _ = c.Close() })
		r.must(c.Handle("#", client.HandlerFunc(r.keep)))
		r.must(c.Start(t.Context()))
		conn, connect := r.Connect(control.Connack{})
		if !connect.CleanStart {
			t.Error("Clean Start is 0")
		}
		// No packet of the old session is sent: no PUBREL and no DUP, and 7 is a new message.
		first := r.wantPublish(conn, "half", false)
		second := r.wantPublish(conn, "sent", false)
		conn.Publish(message(2, 7, "new"))
		conn.ExpectAck(wire.PUBREC)
		r.wantKept("old new")
		conn.Ack(wire.PUBREC, first.PacketID, 0)
		conn.ExpectAck(wire.PUBREL)
		conn.Quiet()

		// The new session is resumed.
		conn = r.resume(conn)
		publishes, rels := resent(t, conn)
		if want := []string{fmt.Sprint("sent ", second.PacketID)}; !slices.Equal(publishes, want) {
			t.Errorf("sent again was %v, want %v", publishes, want)
		}
		if want := []uint16{first.PacketID}; !slices.Equal(rels, want) {
			t.Errorf("PUBREL for %v, want %v", rels, want)
		}
	})
	// If a server resumes a session despite Clean Start, the client closes the connection.
	inNoSession := func(t *testing.T, r *rig) {
		t.Helper()
		conn, connect := r.Connect(control.Connack{SessionPresent: true})
		if !connect.CleanStart {
			t.Error("Clean Start is 0")
		}
		for _, f := range conn.Rest() {
			if f.Type() != wire.DISCONNECT {
				t.Errorf("%v % x was sent in the old session", f.Type(), f.Raw)
			}
		}
	}
	half := func(r *rig) (*client.Client, *fakebroker.Conn) {
		c, conn := r.start(control.Connack{})
		r.publish(c, client.ExactlyOnce, "half")
		conn.Ack(wire.PUBREC, conn.ExpectPublish().PacketID, 0)
		conn.ExpectAck(wire.PUBREL)
		return c, conn
	}
	t.Run("resumed by the server, nothing kept here", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.Session.CleanStart = true
			r.publish(r.client(), client.ExactlyOnce, "x")
			inNoSession(t, r)
		})
	})
	t.Run("resumed by the server, a session kept here", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			restart := r.store()
			c, _ := half(r)
			r.must(c.Close())
			restart()
			r.cfg.Session.CleanStart = true
			r.client()
			inNoSession(t, r)
		})
	})
	t.Run("resumed by the server, after a takeover", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			_, conn := half(r)
			conn.Disconnect(control.Disconnect{Reason: wire.ReasonSessionTakenOver})
			inNoSession(t, r)
		})
	})
}

// resent returns the packets that a client has sent so far on a resumed session: PUBLISH packets
// with their identifiers, and PUBRELs. The relative order of the two kinds is not significant.
func resent(t *testing.T, conn *fakebroker.Conn) (publishes []string, rels []uint16) {
	t.Helper()
	for _, f := range conn.Take() {
		switch f.Type() {
		case wire.PUBLISH:
			v, err := wire.ParsePublish(f)
			if err != nil || !v.Dup {
				t.Errorf("PUBLISH % x: %v, DUP %v", f.Raw, err, v.Dup)
			}
			publishes = append(publishes, fmt.Sprint(string(v.Payload), " ", v.PacketID))
		case wire.PUBREL:
			a, err := wire.ParseAck(f)
			if err != nil {
				t.Error(err)
			}
			rels = append(rels, a.PacketID)
		default:
			t.Errorf("%v % x came", f.Type(), f.Raw)
		}
	}
	return publishes, rels
}

// [MQTT-3.1.2-23]: the session state is kept after the connection is closed, if
// the Session Expiry Interval is greater than 0.
func TestMQTT_3_1_2_23(t *testing.T) {
	for name, ends := range map[string]func(r *rig, c *client.Client, conn *fakebroker.Conn, restart func()) *client.Client{
		"the link is cut": func(_ *rig, c *client.Client, conn *fakebroker.Conn, _ func()) *client.Client {
			conn.Close()
			return c
		},
		"the process ends": func(r *rig, c *client.Client, _ *fakebroker.Conn, restart func()) *client.Client {
			r.must(c.Close())
			restart()
			c, err := client.New(r.cfg)
			r.must(err)
			r.t.Cleanup(func() { _ = c.Close() })
			r.must(c.Handle("#", client.HandlerFunc(r.keep)))
			r.must(c.Start(context.Background()))
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				restart := r.store()
				c, conn := r.receiver(control.Connack{}, r.keep)
				r.publish(c, client.AtLeastOnce, "one")
				one := conn.ExpectPublish()
				r.publish(c, client.ExactlyOnce, "two")
				two := conn.ExpectPublish()
				r.publish(c, client.ExactlyOnce, "released")
				released := conn.ExpectPublish()
				conn.Ack(wire.PUBREC, released.PacketID, 0)
				conn.ExpectAck(wire.PUBREL)
				conn.Publish(message(2, 7, "in"))
				conn.ExpectAck(wire.PUBREC)

				c = ends(r, c, conn, restart)
				conn, connect := r.Connect(control.Connack{SessionPresent: true})
				if connect.CleanStart || connect.SessionExpiry == 0 {
					t.Errorf("CONNECT %+v", connect)
				}
				r.await(c)
				publishes, rels := resent(t, conn)
				if want := []string{fmt.Sprint("one ", one.PacketID), fmt.Sprint("two ", two.PacketID)}; !slices.Equal(publishes, want) {
					t.Errorf("sent again was %v, want %v", publishes, want)
				}
				if want := []uint16{released.PacketID}; !slices.Equal(rels, want) {
					t.Errorf("PUBREL for %v, want %v", rels, want)
				}
				conn.Publish(again(message(2, 7, "in"))) // known: not handled again
				conn.ExpectAck(wire.PUBREC)
				r.wantKept("in")
			})
		})
	}
}

// [MQTT-3.1.3-2]: the ClientID identifies the session state.
func TestMQTT_3_1_3_2(t *testing.T) {
	for _, id := range []string{"given", ""} {
		t.Run("each connection, "+id, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.ClientID = id
				c := r.client()
				conn, connect := r.Connect(control.Connack{})
				for range 3 {
					conn.Close()
					var next control.Connect
					if conn, next = r.Connect(control.Connack{SessionPresent: true}); next.ClientID != connect.ClientID || next.ClientID == "" {
						t.Errorf("the ClientID is %q, and was %q", next.ClientID, connect.ClientID)
					}
				}
				if c.ClientID() != connect.ClientID || id != "" && id != connect.ClientID {
					t.Errorf("the ClientID is %q, want %q", connect.ClientID, id)
				}
			})
		})
	}
	t.Run("two clients", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.ClientID = ""
			r.client()
			_, one := r.Open()
			r.client()
			_, two := r.Open()
			if one.ClientID == two.ClientID {
				t.Errorf("both use %q", one.ClientID)
			}
		})
	})
	anotherClientID(t, false)
}
