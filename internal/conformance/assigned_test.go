package conformance

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Session values in CONNACK: the Assigned Client Identifier and the Session Expiry Interval.

// onNamelessRig is like onRig, for a client without a Client Identifier.
func onNamelessRig(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.ClientID, r.cfg.Session.AssignedClientID = "", true
		test(t, r)
	})
}

// If the Client connects using a zero length Client Identifier, the Server MUST respond with an
// Assigned Client Identifier. The client refuses a CONNACK without one. It keeps the identifier as
// long as it lives.
func TestMQTT_3_2_2_16(t *testing.T) {
	t.Run("kept", func(t *testing.T) {
		onNamelessRig(t, func(t *testing.T, r *rig) {
			c := r.client()
			conn, connect := r.Open()
			if connect.ClientID != "" || !connect.CleanStart || c.ClientID() != "" {
				t.Errorf("CONNECT is %+v, ClientID %q", connect, c.ClientID())
			}
			conn.Close() // the CONNACK is lost, so no identifier is known
			conn, connect = r.Connect(control.Connack{AssignedClientID: "given"})
			if connect.ClientID != "" || !connect.CleanStart {
				t.Errorf("the second CONNECT is %+v", connect)
			}
			r.await(c)
			d := r.publish(c, client.ExactlyOnce, "p")
			id := r.wantPublish(conn, "p", false).PacketID
			for _, say := range []string{"", "another", "given"} { // later values have no effect
				conn.Close()
				conn, connect = r.Connect(control.Connack{SessionPresent: true, AssignedClientID: say})
				if connect.ClientID != "given" || connect.CleanStart {
					t.Errorf("the next CONNECT is %+v", connect)
				}
				if p := r.wantPublish(conn, "p", true); p.PacketID != id {
					t.Errorf("it is resent as %d, and was %d", p.PacketID, id)
				}
				if c.ClientID() != "given" {
					t.Errorf("ClientID is %q", c.ClientID())
				}
			}
			conn.Ack(wire.PUBREC, id, 0)
			conn.ExpectAck(wire.PUBREL)
			conn.Ack(wire.PUBCOMP, id, 0)
			r.wantState(d, client.Acked)
			conn.Close()
			conn, connect = r.Connect(control.Connack{}) // the server has lost the session
			if connect.ClientID != "given" {
				t.Errorf("CONNECT is %+v", connect)
			}
			r.await(c)
			for _, e := range eventsOf[client.Connected](r) {
				if e.ClientID != "given" {
					t.Errorf("the event has the ClientID %q", e.ClientID)
				}
			}
			closed := asks(c.Close)
			conn.ExpectBytes([]byte{0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0}) // no client could resume it
			r.must(<-closed)
		})
	})
	t.Run("none", func(t *testing.T) {
		for _, packet := range [][]byte{{0x20, 3, 0, 0, 0}, raw(0x20, 0, 0, props(wire.PropAssignedClientID, ""))} {
			onNamelessRig(t, func(t *testing.T, r *rig) {
				c := r.client()
				r.publish(c, client.AtLeastOnce, "p")
				conn, _ := r.Open()
				conn.Send(packet)
				conn.ExpectDisconnect(0x82)
				conn, connect := r.Connect(control.Connack{AssignedClientID: "given"})
				if connect.ClientID != "" {
					t.Errorf("CONNECT is %+v", connect)
				}
				r.wantPublish(conn, "p", false)
				r.wantViolations(client.ProtocolError{Code: 0x82, Packet: "CONNACK"})
			})
		}
	})
	t.Run("a session of somebody's", func(t *testing.T) {
		onNamelessRig(t, func(t *testing.T, r *rig) {
			r.client()
			conn, _ := r.Open()
			conn.Connack(control.Connack{SessionPresent: true, AssignedClientID: "given"})
			conn.ExpectClosed()
			_, connect := r.Connect(control.Connack{AssignedClientID: "other"})
			if connect.ClientID != "" || !connect.CleanStart {
				t.Errorf("CONNECT is %+v", connect)
			}
			r.wantViolations(client.ProtocolError{Code: 0x82, Packet: "CONNACK"})
		})
	})
	t.Run("a refusal", func(t *testing.T) { // a refusal need not assign an identifier
		onNamelessRig(t, func(t *testing.T, r *rig) {
			c := r.client()
			conn, _ := r.Open()
			conn.Connack(control.Connack{Reason: 0x85})
			conn.ExpectClosed()
			<-c.Done()
			var refused *client.ConnectionError
			if !errors.As(c.Err(), &refused) || refused.Code != 0x85 {
				t.Errorf("the client stopped with %v", c.Err())
			}
		})
	})
	t.Run("with its own ClientID", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			c, conn := r.start(control.Connack{AssignedClientID: "other"})
			conn.Close()
			if _, connect := r.Open(); connect.ClientID != "c" || c.ClientID() != "c" {
				t.Errorf("CONNECT is %+v, ClientID %q", connect, c.ClientID())
			}
		})
	})
	t.Run("configurations", func(t *testing.T) {
		nameless := func(c *client.Config) { c.ClientID, c.Session.AssignedClientID = "", true }
		wantImpossible(t, map[string]func(*client.Config){
			"a ClientID": func(c *client.Config) { c.Session.AssignedClientID = true },
			"a folder":   func(c *client.Config) { nameless(c); c.Dir = t.TempDir() },
			"sequenced":  func(c *client.Config) { nameless(c); c.Publishing.Sequenced = true },
		})
		onNamelessRig(t, func(t *testing.T, r *rig) {
			r.cfg.Publishing.Sequenced, r.cfg.Publishing.Publisher = true, "p"
			c, conn := r.start(control.Connack{AssignedClientID: "given"})
			r.publish(c, client.AtLeastOnce, "x")
			r.wantPublish(conn, "x", false)
		})
	})
}

// The Session Expiry Interval of CONNACK is the one in force, whether it is shorter or longer than
// requested.
func TestConnack_SessionExpiryIsInForce(t *testing.T) {
	const most = 1<<32 - 1
	for _, test := range []struct {
		asked time.Duration
		given int64 // -1: absent
		want  time.Duration
	}{
		{time.Hour, -1, time.Hour}, {time.Hour, 60, time.Minute}, {time.Minute, 3600, time.Hour}, {time.Hour, 0, 0},
		{client.NoSession, -1, 0}, {client.NoSession, 60, time.Minute}, {time.Hour, most, most * time.Second},
	} {
		for _, id := range []string{"c", ""} {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Session.Expiry, r.cfg.ClientID = test.asked, id
				ack := control.Connack{HasSessionExpiry: test.given >= 0, SessionExpiry: uint32(test.given)}
				c, conn := r.start(ack)
				if got := eventsOf[client.Connected](r); len(got) != 1 || got[0].SessionExpiry != test.want {
					t.Errorf("%+v: the events are %+v", test, got)
				}
				conn.Close() // a session that should have been kept is reported as lost, and no other
				conn, _ = r.Connect(ack)
				synctest.Wait()
				if got := eventsOf[client.SessionLost](r); len(got) == 1 != (test.want > 0) {
					t.Errorf("%+v: %d sessions were reported as lost", test, len(got))
				}
				closed := asks(c.Close) // the session ends with an assigned ClientID
				d := conn.ExpectDisconnect(0)
				if forgets := id == "" && test.want > 0; d.HasSessionExpiry != forgets || d.SessionExpiry != 0 {
					t.Errorf("%+v: DISCONNECT is %+v", test, d)
				}
				r.must(<-closed)
			})
		}
	}
}
