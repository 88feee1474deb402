package outbox_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// givenUp returns a rig without a connection, whose message 1 (high priority, QoS 2) was sent and
// then given up. The reason is either that connections ended because of it, or that the server no
// longer accepts such a packet.
func givenUp(t *testing.T, limit bool, policy ...persistence.SessionLostPolicy) (r *rig, w *outbox.Waiter, id uint16) {
	r = newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2}, persistence.NewMemory(persistence.Options{}))
	r.connect(false, session.Limits{})
	d := on("a", 1, 2)
	d.Priority = persistence.High
	for _, p := range policy {
		d.OnSessionLost = p
	}
	w = r.add(d)
	r.want("1")
	id = r.last().PacketID
	if limit {
		r.cut(0)
		r.connect(true, session.Limits{MaximumPacketSize: 10, MaximumQoS: 2, RetainAvailable: true})
		r.want("PUBREL")
		r.cut(0)
		return r, w, id
	}
	r.cut(wire.ReasonPacketTooLarge)
	r.connect(true, session.Limits{})
	r.want("+1")
	r.cut(wire.ReasonPacketTooLarge)
	return r, w, id
}

// wantGivenUp checks that message 1 has ended.
func (r *rig) wantGivenUp(w *outbox.Waiter, limit bool) {
	r.t.Helper()
	wantState(r.t, w, outbox.Refused)
	if len(r.ended) != 1 || r.ended[0].Reason != wire.ReasonPacketTooLarge || r.ended[0].Topic != "a" ||
		r.ended[0].Cause != map[bool]outbox.Cause{false: outbox.Poison, true: outbox.ByLimit}[limit] || !limit && r.ended[0].Attempts != 2 {
		r.t.Errorf("ended: %+v", r.ended)
	}
	if d := r.o.Deferred(); d != (deferral.State{}) || r.store.Stats().Pending != 0 {
		r.t.Errorf("deferred: %+v, %+v", d, r.store.Stats())
	}
}

// A server that holds the packet identifier of a message would treat the next message under it as a
// duplicate.
func TestGiveUp_EndsWhenThePacketIdentifierIsPurged(t *testing.T) {
	for _, limit := range []bool{false, true} {
		for _, reason := range []byte{0, wire.ReasonPacketIDNotFound} {
			bubble(t, func(t *testing.T) {
				r, w, id := givenUp(t, limit)
				wantState(t, w, outbox.Pending)
				if d := r.o.Deferred(); d.Messages != 1 || d.Code != wire.ReasonPacketTooLarge || d.Oldest.IsZero() {
					t.Errorf("deferred: %+v", d)
				}
				r.connect(true, session.Limits{})
				if ids := r.purged(); len(ids) != 1 || ids[0] != id {
					t.Fatalf("purged %v, want %d", ids, id)
				}
				wantState(t, w, outbox.Pending)
				r.ack(wire.PUBCOMP, id, reason)
				r.wantGivenUp(w, limit)
			})
		}
	}
}

// If the server ends the connection because of the PUBREL, no other message is blamed.
func TestGiveUp_OtherMessagesWaitForTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, w, id := givenUp(t, false)
		r.add(on("b", 2, 2))
		r.connect(true, session.Limits{})
		r.purged()
		r.add(on("b", 3, 1))
		r.want()
		wantState(t, w, outbox.Pending)
		r.ack(wire.PUBCOMP, id, 0)
		wantState(t, w, outbox.Refused)
		r.want("2", "3")
	})
}

func TestGiveUp_SurvivesARestart(t *testing.T) {
	for _, limit := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			r, w, id := givenUp(t, limit)
			r.stop()
			r.store = r.store.Reopen()
			r.start()
			r.connect(true, session.Limits{})
			if ids := r.purged(); len(ids) != 1 || ids[0] != id {
				t.Fatalf("purged %v, want %d", ids, id)
			}
			r.ack(wire.PUBCOMP, id, wire.ReasonPacketIDNotFound)
			w.Resolve(outbox.Result{State: outbox.Refused}) // it belonged to the first process
			r.wantGivenUp(w, limit)
		})
	}
}

func TestGiveUp_EndsWithTheSession(t *testing.T) {
	for _, policy := range []persistence.SessionLostPolicy{persistence.Republish, persistence.FailInFlight} {
		bubble(t, func(t *testing.T) {
			r, w, _ := givenUp(t, false, policy)
			r.connect(false, session.Limits{})
			r.want()
			r.wantGivenUp(w, false)
		})
	}
}

func TestGiveUp_ServerDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, w, id := givenUp(t, false)
		r.connect(true, session.Limits{})
		r.purged()
		time.Sleep(4 * time.Second)
		wantState(t, w, outbox.Pending)
		time.Sleep(2 * time.Second)
		r.wantGivenUp(w, false)
		if !slices.Equal(r.purges, []int{1}) {
			t.Errorf("reported: %v", r.purges)
		}
		r.ack(wire.PUBCOMP, id, 0) // late
		if st := r.s.Stats(); st.UnknownAcks != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Some servers end the connection if they do not know the packet identifier.
func TestGiveUp_ServerEndsConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, w, _ := givenUp(t, false)
		for range 3 {
			wantState(t, w, outbox.Pending)
			r.connect(true, session.Limits{})
			r.want("PUBREL")
			r.cut(wire.ReasonProtocolError)
		}
		r.connect(true, session.Limits{})
		r.want()
		r.wantGivenUp(w, false)
		if !slices.Equal(r.purges, []int{1}) {
			t.Errorf("reported: %v", r.purges)
		}
	})
}

// At QoS 1 the server holds no packet identifier.
func TestGiveUp_QoS1(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		w := r.add(on("a", 1, 1))
		r.want("1")
		r.cut(wire.ReasonPacketTooLarge)
		wantState(t, w, outbox.Refused)
		r.connect(true, session.Limits{})
		r.want()
	})
}

// Rules also apply to messages that end connections.
func TestDisconnected_Rules(t *testing.T) {
	for name, c := range map[string]struct {
		rule   deferral.Rule
		reason byte
		ends   int // number of connections after which it ends; 0: it does not end
	}{
		"give up":                 {deferral.Rule{Codes: []byte{wire.ReasonNotAuthorized}, Action: deferral.GiveUp}, wire.ReasonNotAuthorized, 2},
		"another code":            {deferral.Rule{Codes: []byte{wire.ReasonQuotaExceeded}, Action: deferral.GiveUp}, wire.ReasonNotAuthorized, 0},
		"silent":                  {deferral.Rule{Codes: []byte{0}, Action: deferral.GiveUp}, 0, 2},
		"silent, another code":    {deferral.Rule{Codes: []byte{wire.ReasonNotAuthorized}, Action: deferral.GiveUp}, 0, 0},
		"no code is named":        {deferral.Rule{Action: deferral.GiveUp}, wire.ReasonNotAuthorized, 0},
		"retry a final code":      {deferral.Rule{Codes: []byte{wire.ReasonPacketTooLarge}}, wire.ReasonPacketTooLarge, 0},
		"retry, at most 3 times":  {deferral.Rule{Codes: []byte{wire.ReasonNotAuthorized}, Attempts: 3}, wire.ReasonNotAuthorized, 4},
		"retry, for 30 s at most": {deferral.Rule{Codes: []byte{wire.ReasonNotAuthorized}, For: 30 * second}, wire.ReasonNotAuthorized, 4},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 2, Rules: []deferral.Rule{c.rule}}, persistence.NewMemory(persistence.Options{}))
				r.connect(false, session.Limits{})
				w := r.add(on("a", 1, 1))
				for n := 1; n <= 5; n++ {
					synctest.Wait()
					r.cut(c.reason)
					if ended := w.Result().State == outbox.Refused; ended != (c.ends > 0 && n >= c.ends) {
						t.Fatalf("after %d connections it has ended: %t", n, ended)
					}
					time.Sleep(20 * second)
					r.connect(true, session.Limits{})
				}
			})
		})
	}
}
