package outbox_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// complete sends messages first to last at QoS 2 and completes them.
func (r *rig) complete(first, last uint64) {
	r.t.Helper()
	for n := first; n <= last; n++ {
		r.add(on("a", n, 2))
		synctest.Wait()
		id := r.last().PacketID
		r.ack(wire.PUBREC, id, 0)
		r.ack(wire.PUBCOMP, id, 0)
	}
	r.c.take()
}

// purged returns the identifiers of the packets since the last call, which must be PUBRELs.
func (r *rig) purged() (ids []uint16) {
	r.t.Helper()
	synctest.Wait()
	for _, f := range r.c.take() {
		if f.Type() != wire.PUBREL {
			r.t.Fatalf("sent %v", packet(f))
		}
		a, err := wire.ParseAck(f)
		if err != nil {
			r.t.Fatal(err)
		}
		ids = append(ids, a.PacketID)
	}
	return ids
}

// answer answers a purge.
func (r *rig) answer(ids []uint16) {
	r.t.Helper()
	for _, id := range ids {
		if err := r.g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id, Reason: wire.ReasonPacketIDNotFound}); err != nil {
			r.t.Fatal(err)
		}
	}
	synctest.Wait()
}

// identifiers returns the packet identifiers of these numbers, the highest first.
func identifiers(first, last uint64) (ids []uint16) {
	for n := last; n >= first; n-- {
		ids = append(ids, session.PacketID(0, n))
	}
	return ids
}

func (r *rig) wantPurged(first, last uint64) []uint16 {
	r.t.Helper()
	ids := r.purged()
	if want := identifiers(first, last); !slices.Equal(ids, want) {
		r.t.Fatalf("%d purged: %v, want %d", len(ids), ids[:min(len(ids), 10)], len(want))
	}
	return ids
}

// cureRig is a rig whose messages 1 to 5 are completed, in a resumed session.
func cureRig(t *testing.T) *rig {
	r := newRig(t, outbox.Config{Retry: fixed}, persistence.NewMemory(persistence.Options{}))
	r.connect(false, session.Limits{ReceiveMaximum: 20})
	r.complete(1, 5)
	r.cut(0)
	r.connect(true, session.Limits{ReceiveMaximum: 20})
	r.want()
	return r
}

func TestCure_PurgesCompletedIdentifiersAfterARefusal(t *testing.T) {
	for _, code := range []byte{wire.ReasonQuotaExceeded, wire.ReasonPacketIDInUse} {
		bubble(t, func(t *testing.T) {
			r := cureRig(t)
			w := r.add(on("a", 6, 2))
			r.want("6")
			r.ack(wire.PUBREC, r.last().PacketID, code)
			ids := r.wantPurged(1, 6)
			r.answer(ids[1:])
			r.want() // nothing until the last answer
			r.answer(ids[:1])
			r.want("6") // at once, without the delay of the refusal
			if again := r.last().PacketID; again == session.PacketID(0, 6) {
				t.Error("sent again under the same identifier")
			}
			if n := r.o.Window(); n != 0 {
				t.Errorf("the window is %d", n)
			}
			r.ack(wire.PUBREC, r.last().PacketID, 0)
			r.ack(wire.PUBCOMP, r.last().PacketID, 0)
			wantState(t, w, outbox.Acked)
			r.want("PUBREL")
			if st := r.s.Stats(); st.UnknownAcks != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestCure_DoesNothingWithoutAReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{}) // a new session: the server cannot hold anything
		r.complete(1, 5)
		r.add(on("a", 6, 2))
		r.want("6")
		r.ack(wire.PUBREC, r.last().PacketID, wire.ReasonQuotaExceeded)
		r.want()
		r.cut(0)
		r.connect(true, session.Limits{})
		time.Sleep(3 * second)
		r.want("6")
		r.ack(wire.PUBREC, r.last().PacketID, 0x80) // not about exchanges
		r.want()
		r.add(on("b", 7, 1))
		r.want("7")
		r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonPacketIDInUse) // QoS 1 has no exchange to end
		r.want()
	})
}

// A PUBREL for a message that is pending would end its exchange, and the message would be sent twice.
func TestCure_SparesPendingMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.add(on("a", 6, 2))
		r.add(on("b", 7, 2))
		r.add(on("c", 8, 2))
		r.want("6", "7", "8")
		r.ack(wire.PUBREC, session.PacketID(0, 6), 0)
		r.want("PUBREL")
		r.ack(wire.PUBREC, session.PacketID(0, 8), wire.ReasonQuotaExceeded)
		if ids := r.purged(); !slices.Equal(ids, append(identifiers(8, 8), identifiers(1, 5)...)) {
			t.Errorf("purged %v", ids)
		}
	})
}

// The window of the second connection has no room for what the first one left, and a refused message
// that was sent again has an identifier of its own.
func TestCure_SparesMessagesNotYetResent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.add(on("a", 6, 2))
		r.want("6")
		r.ack(wire.PUBREC, r.last().PacketID, 0x80)
		time.Sleep(2 * second)
		r.want("6") // in flight
		again := r.last().PacketID
		r.add(on("b", 7, 2))
		r.add(on("c", 8, 2))
		r.add(on("d", 9, 2))
		r.want("7", "8", "9")
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 1})
		sent := r.last().PacketID
		r.c.take()
		r.ack(wire.PUBREC, sent, wire.ReasonQuotaExceeded)
		synctest.Wait()
		for _, f := range r.c.take() {
			if f.Type() != wire.PUBREL {
				continue
			}
			a, _ := wire.ParseAck(f)
			for _, n := range []uint64{7, 8, 9} {
				if a.PacketID == session.PacketID(0, n) && a.PacketID != sent {
					t.Errorf("purged the identifier of message %d", n)
				}
			}
			if a.PacketID == again && sent != again {
				t.Error("purged the identifier of the deferred message")
			}
		}
	})
}

func TestCure_WorksAfterARestartOfTheProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.cut(0)
		r.stop()
		r.start()
		r.connect(true, session.Limits{ReceiveMaximum: 20})
		r.add(on("a", 6, 2))
		r.want("6")
		r.ack(wire.PUBREC, r.last().PacketID, wire.ReasonQuotaExceeded)
		r.answer(r.wantPurged(1, 6))
		r.want("6")
	})
}

func TestCure_PurgesMoreWhileTheServerRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const last = 4000
		r := newRig(t, outbox.Config{Retry: fixed}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{ReceiveMaximum: 20})
		r.complete(1, last)
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 20})
		r.add(on("a", last+1, 2))
		refuse := func() {
			t.Helper()
			r.want(fmt.Sprint(last + 1))
			r.ack(wire.PUBREC, r.last().PacketID, wire.ReasonQuotaExceeded)
		}
		refuse()
		r.answer(r.wantPurged(last+1-session.Recent+1, last+1))
		refuse()
		wantBoth := func(first, to uint64) {
			t.Helper()
			ids, want := r.purged(), identifiers(last+1-session.Recent+1, last+1)
			if want = append(want, identifiers(first, to)...); !slices.Equal(ids, want) {
				t.Fatalf("%d purged, want %d", len(ids), len(want))
			}
			r.answer(ids)
		}
		wantBoth(last+1-3*session.Recent+1, last+1-session.Recent)
		refuse()
		wantBoth(1, last+1-3*session.Recent)
		refuse()
		wantBoth(1, 0)
		refuse()
		r.want()               // all were purged
		time.Sleep(4 * second) // the delay has not grown with each purge
		refuse()
		r.want()
		// On the next connection only the last ones are purged, because purging the rest did not
		// help.
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 20})
		r.answer(r.wantPurged(last+1-session.Recent+1, last+1))
		refuse()
		r.want()
	})
}

// If a purge of all identifiers has not helped, a new session is the last resort.
func TestCure_RequestsANewSession(t *testing.T) {
	for name, closes := range map[string]bool{"": false, "closes connections": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				stuck := 0
				r := newRig(t, outbox.Config{Retry: fixed, Stuck: func() { stuck++ }}, persistence.NewMemory(persistence.Options{}))
				r.connect(false, session.Limits{ReceiveMaximum: 20})
				r.complete(1, 5)
				r.cut(0)
				r.connect(true, session.Limits{ReceiveMaximum: 20})
				w := r.add(on("a", 6, 2))
				refuse := func() {
					synctest.Wait()
					for _, f := range r.c.take() {
						switch f.Type() {
						case wire.PUBLISH:
							r.ack(wire.PUBREC, publishOf(f).PacketID, wire.ReasonQuotaExceeded)
							if closes {
								r.cut(wire.ReasonQuotaExceeded)
								r.connect(true, session.Limits{ReceiveMaximum: 20})
								return
							}
						case wire.PUBREL:
							a, _ := wire.ParseAck(f)
							r.ack(wire.PUBCOMP, a.PacketID, wire.ReasonPacketIDNotFound)
						}
					}
				}
				began := time.Now()
				for stuck == 0 && time.Since(began) < time.Hour {
					refuse()
					time.Sleep(second / 10)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("asked after %v", took)
				}
				for time.Since(began) < 50*time.Minute { // the application does not grant a new session
					refuse()
					time.Sleep(second)
				}
				if stuck != 1 {
					t.Errorf("asked %d times", stuck)
				}
				for time.Since(began) < 3*time.Hour {
					refuse()
					time.Sleep(second)
				}
				if stuck < 2 || stuck > 3 {
					t.Errorf("asked %d times in three hours", stuck)
				}
				r.cut(0)
				r.connect(false, session.Limits{ReceiveMaximum: 20})
				time.Sleep(20 * second)
				r.want("6")
				r.ack(wire.PUBREC, r.last().PacketID, 0)
				r.ack(wire.PUBCOMP, r.last().PacketID, 0)
				wantState(t, w, outbox.Acked)
			})
		})
	}
}

// A quota that has recovered meanwhile, or that other messages do not exceed, is no reason for a
// new session.
func TestCure_NoNewSessionWhileTheServerAccepts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stuck := 0
		r := newRig(t, outbox.Config{Retry: fixed, Stuck: func() { stuck++ }}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{ReceiveMaximum: 2})
		r.complete(1, 5)
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 2})
		n := uint64(5)
		for range 600 {
			n++
			r.add(on(fmt.Sprint("t", n%5), n, 2))
			synctest.Wait()
			for _, f := range r.c.take() {
				switch f.Type() {
				case wire.PUBLISH:
					id := publishOf(f).PacketID
					if indexOf(publishOf(f))%5 == 0 { // one topic
						r.ack(wire.PUBREC, id, wire.ReasonQuotaExceeded)
						continue
					}
					r.ack(wire.PUBREC, id, 0)
					r.ack(wire.PUBCOMP, id, 0)
				case wire.PUBREL:
					if a, _ := wire.ParseAck(f); r.g.IsPurging(a.PacketID) {
						r.ack(wire.PUBCOMP, a.PacketID, 0)
					}
				}
			}
			time.Sleep(second)
		}
		if stuck != 0 {
			t.Errorf("asked for a new session %d times", stuck)
		}
	})
}
