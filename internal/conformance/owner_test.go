package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// used fills a store under ClientID a: a message with PUBREC, a message that was only sent, and an
// identifier of the server that waits for PUBREL.
func (r *rig) used() (restart func()) {
	r.t.Helper()
	restart = r.store()
	r.cfg.ClientID = "a"
	c, conn := r.receiver(control.Connack{}, r.keep)
	r.publish(c, client.ExactlyOnce, "released")
	conn.Ack(wire.PUBREC, conn.ExpectPublish().PacketID, 0)
	conn.ExpectAck(wire.PUBREL)
	r.publish(c, client.ExactlyOnce, "sent")
	conn.ExpectPublish()
	conn.Publish(message(2, 7, "old"))
	conn.ExpectAck(wire.PUBREC)
	r.must(c.Close())
	r.wantKept("old")
	return restart
}

// wantNew checks that everything in the store of another ClientID is sent like new messages, and
// that nothing else of that session is sent.
func (r *rig) wantNew(conn *fakebroker.Conn) {
	r.t.Helper()
	r.wantPublish(conn, "released", false)
	r.wantPublish(conn, "sent", false)
	conn.Quiet()
	conn.Publish(message(2, 7, "new"))
	conn.ExpectAck(wire.PUBREC)
	r.wantKept("oldnew")
}

// anotherClientID is a part of TestMQTT_3_1_3_2 and of TestMQTT_3_2_2_4. The ClientID identifies
// the session at the server. So the session in the store of another ClientID is not this client's.
// If the server has a session, the client has none, and it closes the connection. It sends nothing
// of the old session: no PUBREL and no DUP, and the identifiers of the old session suppress no
// messages.
func anotherClientID(t *testing.T, present bool) {
	t.Run(fmt.Sprint("the store of another, Session Present ", present), func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			restart := r.used()
			restart()
			r.cfg.ClientID = "b"
			ack := control.Connack{SessionPresent: present}
			c, err := client.New(r.cfg)
			r.must(err)
			t.Cleanup(func() { _ = c.Close() })
			r.must(c.Handle("#", client.HandlerFunc(r.keep)))
			r.must(c.Start(context.Background()))
			conn, connect := r.Connect(ack)
			if connect.ClientID != "b" || connect.CleanStart {
				t.Errorf("got %+v", connect)
			}
			if present { // it belongs to an earlier user of b
				if rest := conn.Rest(); len(rest) > 0 {
					t.Errorf("%v was sent in a session that the store does not know", rest[0].Type())
				}
				if failed := eventsOf[client.ConnectFailed](r); len(failed) != 1 || !errors.Is(failed[0].Err, client.ErrUnknownSession) {
					t.Errorf("events: %+v", failed)
				}
				if conn, connect = r.Connect(control.Connack{}); connect.CleanStart {
					t.Error("the session is given up")
				}
			}
			r.wantNew(conn)
			r.must(c.Close())

			// From here on the session belongs to b.
			restart()
			c = r.client()
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			r.wantPublish(conn, "released", true)
			r.wantPublish(conn, "sent", true)
			r.must(c.Close())

			// It no longer belongs to a.
			restart()
			r.cfg.ClientID = "a"
			r.client()
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
			if rest := conn.Rest(); len(rest) > 0 {
				t.Errorf("%v was sent in the session of a", rest[0].Type())
			}
		})
	})
}

// A strict client does not connect with the store of another ClientID, unless a new session was
// requested.
func TestStrict_StoreOfAnotherClientID(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		restart := r.used()
		restart()
		r.cfg.ClientID, r.cfg.Session.Mode = "b", client.StrictSession
		c := r.client()
		select {
		case <-c.Done():
		case <-time.After(r.Timeout):
			t.Fatal("the client goes on")
		}
		var differs *client.SessionError
		if err := c.Err(); !errors.As(err, &differs) || differs.ClientID != "a" || !errors.Is(err, client.ErrUnknownSession) || errors.Is(err, client.ErrSessionLost) {
			t.Errorf("the client stopped with %v", err)
		}
		synctest.Wait()
		if n := len(eventsOf[client.Connecting](r)); n != 1 { // of a
			t.Errorf("there were %d attempts to connect", n)
		}
		s := r.cfg.Store.Custom
		if owner, _ := s.Session(); owner != "a" || len(s.Released()) != 1 || s.Stats().Pending != 2 {
			t.Error("the store was changed")
		}
		r.cfg.Session.CleanStart = true
		_, conn := r.receiver(control.Connack{}, r.keep)
		r.wantNew(conn)
	})
}

// A store of a release that did not record the ClientID is treated as this client's.
func TestStore_WithoutAClientIDIsResumed(t *testing.T) {
	for _, mode := range []client.SessionMode{client.ResumeSession, client.StrictSession} {
		onRig(t, func(t *testing.T, r *rig) {
			store := persistence.NewMemory(persistence.Options{})
			r.must(store.ResetSession(""))
			r.cfg.Store.Custom, r.cfg.Session.Mode = store, mode
			c, conn := r.start(control.Connack{SessionPresent: true})
			r.publish(c, client.AtLeastOnce, "x")
			r.wantPublish(conn, "x", false)
		})
	}
}
