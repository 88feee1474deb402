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

// A server may not answer the PUBREL for a message that is given up. The next message under that
// packet identifier is still sent, on the same connection.
func TestGiveUp_FreesAnUnansweredPacketIdentifier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, w, id := givenUp(t, false)
		r.connect(true, session.Limits{})
		r.purged()
		time.Sleep(6 * second)
		r.wantGivenUp(w, false)
		used := false
		for n := uint64(2); n <= session.Lap(uint8(persistence.High))+2; n++ {
			d := on("b", n, 1)
			d.Priority = persistence.High
			w := r.add(d)
			r.want(fmt.Sprint(n))
			now := r.last().PacketID
			used = used || now == id
			r.ack(wire.PUBACK, now, 0)
			wantState(t, w, outbox.Acked)
		}
		if !used {
			t.Error("the identifier is not used again")
		}
	})
}

// The server's time to answer ends on schedule, even if the send loop waits for other things.
func TestGiveUp_TimeoutDespiteOtherWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, w, _ := givenUp(t, false)
		r.connect(true, session.Limits{})
		r.purged()
		r.add(on("c", 2, 1))
		r.o.Acknowledged(r.store.LastSeq(), 0x80, "") // it is sent again after two seconds, at the earliest
		time.Sleep(3 * second)
		r.want()
		time.Sleep(3 * second)
		r.want("2")
		wantState(t, w, outbox.Refused)
	})
}

// Nothing is purged on a connection that has ended, even if the outbox does not know that yet.
func TestSentLost_ConnectionEndsBeforeThePurge(t *testing.T) {
	for parts := range 3 {
		bubble(t, func(t *testing.T) {
			store := persistence.NewMemory(persistence.Options{})
			must(t, store.ResetSession("owner"))
			r := newRig(t, outbox.Config{Retry: fixed, SentLost: true}, store)
			r.add(on("a", 1, 2))
			purged := map[uint16]bool{}
			answer := func(ids []uint16) {
				for _, id := range ids {
					purged[id] = true
				}
				r.answer(ids)
			}
			r.attach(true, session.Limits{})
			if parts == 0 {
				r.s.Detach(r.g)
			}
			r.o.Connected(r.g)
			for n := range parts {
				ids := r.purged()
				if n < parts-1 {
					answer(ids)
					continue
				}
				for _, id := range ids {
					must(t, r.g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id}))
					purged[id] = true
				}
				r.s.Detach(r.g)
				r.o.Wake()
			}
			synctest.Wait()
			r.cut(0)
			r.connect(true, session.Limits{})
			for ids := r.purgedBefore("1"); len(ids) > 0; ids = r.purgedBefore("1") {
				answer(ids)
			}
			if len(purged) != 65_536-257 {
				t.Errorf("%d identifiers are purged after %d parts", len(purged), parts)
			}
		})
	}
}

// purgedBefore returns the purged identifiers up to a message, which is the last packet.
func (r *rig) purgedBefore(message string) (ids []uint16) {
	r.t.Helper()
	synctest.Wait()
	for _, f := range r.c.take() {
		if f.Type() != wire.PUBREL {
			if packet(f) != message {
				r.t.Fatalf("sent %v", packet(f))
			}
			return nil
		}
		a, err := wire.ParseAck(f)
		must(r.t, err)
		ids = append(ids, a.PacketID)
	}
	return ids
}

// mosquitto closes the connection at once when it refuses a message.
func TestCure_ConnectionEndsBeforeThePurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.add(on("a", 6, 2))
		r.want("6")
		must(t, r.g.HandleAck(wire.Ack{Type: wire.PUBREC, PacketID: r.last().PacketID, Reason: wire.ReasonPacketIDInUse}))
		r.s.Detach(r.g)
		synctest.Wait() // the send loop has seen the refusal, but not the end
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 20})
		r.answer(r.wantPurged(1, 6))
		r.want("6")
	})
}

// A message was sent alone and refused, and the server ends the connection afterwards. The message
// is not sent again under the refused packet identifier.
func TestIsolated_RefusedBeforeTheConnectionEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: 1}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		w := r.add(on("a", 1, 2))
		r.want("1")
		id := r.last().PacketID
		r.cut(wire.ReasonNotAuthorized) // isolated
		time.Sleep(5 * second)
		hold := make(chan struct{})
		r.attach(true, session.Limits{})
		r.c.onSend = func(wire.PublishView) { <-hold } // the send loop
		r.o.Connected(r.g)
		synctest.Wait()
		must(t, r.g.HandleAck(wire.Ack{Type: wire.PUBREC, PacketID: id, Reason: wire.ReasonPacketIDInUse}))
		g := r.g
		r.s.Detach(g)
		r.o.Disconnected(g, 0)
		close(hold)
		synctest.Wait()
		for range 3 {
			r.connect(true, session.Limits{})
			for range 20 {
				time.Sleep(second)
				synctest.Wait()
				for _, f := range r.c.take() {
					switch f.Type() {
					case wire.PUBREL:
						a, _ := wire.ParseAck(f)
						r.ack(wire.PUBCOMP, a.PacketID, 0)
					case wire.PUBLISH:
						if v := publishOf(f); v.PacketID == id {
							t.Fatalf("sent again under the identifier that was refused, DUP %v", v.Dup)
						} else {
							r.ack(wire.PUBREC, v.PacketID, 0)
						}
					}
				}
			}
		}
		wantState(t, w, outbox.Acked)
	})
}

// A message that was refused because of a quota does not wait in a new session.
func TestCure_NewSessionEndsTheWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := cureRig(t)
		r.add(on("a", 6, 2))
		for n := 0; n < 20; n++ {
			synctest.Wait()
			for _, f := range r.c.take() {
				switch f.Type() {
				case wire.PUBLISH:
					r.ack(wire.PUBREC, publishOf(f).PacketID, wire.ReasonQuotaExceeded)
				case wire.PUBREL:
					a, _ := wire.ParseAck(f)
					r.ack(wire.PUBCOMP, a.PacketID, wire.ReasonPacketIDNotFound)
				}
			}
			time.Sleep(second / 10)
		}
		r.cut(0)
		r.connect(false, session.Limits{ReceiveMaximum: 20})
		r.want("6")
	})
}

// A quota that is exceeded for two seconds is no reason for a new session.
func TestCure_NoNewSessionForAShortRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stuck := 0
		r := newRig(t, outbox.Config{Retry: fixed, Stuck: func() { stuck++ }}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{ReceiveMaximum: 20})
		r.complete(1, 5)
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 20})
		var all []*outbox.Waiter
		for n := uint64(6); n < 106; n++ {
			all = append(all, r.add(on(fmt.Sprint("t", n%10), n, 2)))
		}
		began := time.Now()
		for time.Since(began) < time.Minute {
			synctest.Wait()
			for _, f := range r.c.take() {
				switch f.Type() {
				case wire.PUBLISH:
					if id := publishOf(f).PacketID; time.Since(began) < 2*second {
						r.ack(wire.PUBREC, id, wire.ReasonQuotaExceeded)
					} else {
						r.ack(wire.PUBREC, id, 0)
					}
				case wire.PUBREL:
					a, _ := wire.ParseAck(f)
					r.ack(wire.PUBCOMP, a.PacketID, 0)
				}
			}
			time.Sleep(second / 50)
		}
		for _, w := range all {
			wantState(t, w, outbox.Acked)
		}
		if stuck != 0 {
			t.Errorf("asked for a new session %d times", stuck)
		}
	})
}

// If the server refuses a window of messages, the earlier purge has not helped.
func TestCure_RequestsANewSessionForManyTopics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stuck := 0
		r := newRig(t, outbox.Config{Retry: fixed, Stuck: func() { stuck++ }}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{ReceiveMaximum: 4})
		r.complete(1, 5)
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 4})
		for n := uint64(6); n < 36; n++ {
			r.add(on(fmt.Sprint("t", n), n, 2))
		}
		for range 600 {
			synctest.Wait()
			for _, f := range r.c.take() {
				switch f.Type() {
				case wire.PUBLISH:
					r.ack(wire.PUBREC, publishOf(f).PacketID, wire.ReasonQuotaExceeded)
				case wire.PUBREL:
					a, _ := wire.ParseAck(f)
					r.ack(wire.PUBCOMP, a.PacketID, wire.ReasonPacketIDNotFound)
				}
			}
			time.Sleep(second / 10)
		}
		if stuck != 1 {
			t.Errorf("asked for a new session %d times", stuck)
		}
	})
}

// Temporary refusals are no reason for a new session, even after a longer one.
func TestCure_NoNewSessionForRefusalsThatPassed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stuck := 0
		r := newRig(t, outbox.Config{Retry: fixed, Stuck: func() { stuck++ }}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{ReceiveMaximum: 2})
		r.complete(1, 5)
		r.cut(0)
		r.connect(true, session.Limits{ReceiveMaximum: 2})
		n := uint64(5)
		serve := func(refuse bool) {
			synctest.Wait()
			for _, f := range r.c.take() {
				switch f.Type() {
				case wire.PUBLISH:
					if id := publishOf(f).PacketID; refuse {
						r.ack(wire.PUBREC, id, wire.ReasonQuotaExceeded)
					} else {
						r.ack(wire.PUBREC, id, 0)
					}
				case wire.PUBREL:
					a, _ := wire.ParseAck(f)
					r.ack(wire.PUBCOMP, a.PacketID, 0)
				}
			}
		}
		for range 10 { // consecutive refusals until all identifiers are purged, and then another one every five minutes
			n++
			r.add(on("a", n, 2))
			for range 3 {
				serve(n == 6)
			}
			r.add(on("a", n+1, 2))
			n++
			serve(true)
			for range 20 {
				time.Sleep(second)
				serve(false)
				n++
				r.add(on("a", n, 2))
				serve(false)
			}
			time.Sleep(5 * time.Minute)
		}
		if stuck != 0 {
			t.Errorf("asked for a new session %d times", stuck)
		}
	})
}

// A purge takes time on a slow link. It continues while the server answers.
func TestSentLost_SlowLink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := persistence.NewMemory(persistence.Options{})
		must(t, store.ResetSession("owner"))
		r := newRig(t, outbox.Config{Retry: fixed, SentLost: true}, store)
		r.add(on("a", 1, 2))
		r.connect(true, session.Limits{})
		purged := 0
		for ids := r.purgedBefore("1"); len(ids) > 0; ids = r.purgedBefore("1") {
			for part := range slices.Chunk(ids, 600) { // 600 a second: about 40 kbit/s
				time.Sleep(second)
				r.want()
				purged += len(part)
				for _, id := range part {
					must(t, r.g.HandleAck(wire.Ack{Type: wire.PUBCOMP, PacketID: id}))
				}
			}
		}
		if purged != 65_536-257 {
			t.Errorf("%d identifiers are purged", purged)
		}
	})
}

// failingDefer is a store that cannot record deferrals while it fails.
type failingDefer struct {
	*persistence.Memory
	fails bool
}

func (s *failingDefer) Defer(seq uint64, d persistence.Deferral) error {
	if s.fails {
		return errOver
	}
	return s.Memory.Defer(seq, d)
}

// If the store fails to record a deferral, the message still counts only once.
func TestGiveUp_CountsOnceIfTheStoreFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := persistence.NewMemory(persistence.Options{})
		r := newRig(t, outbox.Config{Retry: fixed, Store: &failingDefer{store, true}}, store)
		r.connect(false, session.Limits{})
		w := r.add(on("a", 1, 2))
		r.want("1")
		r.cut(0)
		small := session.Limits{MaximumPacketSize: 10, MaximumQoS: 2, RetainAvailable: true}
		for range 2 {
			r.connect(true, small)
			r.want("PUBREL")
			r.cut(0)
		}
		r.connect(true, small)
		ids := r.purged()
		if n := r.o.Deferred().Messages; n != 1 {
			t.Errorf("%d messages are deferred", n)
		}
		r.answer(ids)
		wantState(t, w, outbox.Refused)
		if d := r.o.Deferred(); d.Messages != 0 || d.Bytes != 0 {
			t.Errorf("deferred: %+v", d)
		}
	})
}

// If a server ends connections because of PUBREL, messages in flight at that time are not blamed.
func TestGiveUp_PurgeBlamesNoOtherMessages(t *testing.T) {
	for _, topic := range []string{"a", "b"} {
		for _, code := range []byte{0, wire.ReasonProtocolError} {
			for _, attempts := range []int{1, 2, 5} {
				bubble(t, func(t *testing.T) {
					r := newRig(t, outbox.Config{Retry: fixed, PoisonAttempts: attempts}, persistence.NewMemory(persistence.Options{}))
					r.connect(false, session.Limits{})
					w := r.add(on("a", 1, 2))
					others := []*outbox.Waiter{r.add(on(topic, 2, 2)), r.add(on(topic, 3, 1)), r.add(on("c", 4, 1))}
					for range 60 {
						synctest.Wait()
						reason, cut := code, false
						frames := r.c.take()
						for _, f := range frames { // before the server answers
							switch {
							case f.Type() == wire.PUBREL:
								if a, _ := wire.ParseAck(f); r.g.IsPurging(a.PacketID) {
									cut = true
								}
							case f.Type() == wire.PUBLISH && indexOf(publishOf(f)) == 1:
								reason, cut = wire.ReasonPacketTooLarge, true
							}
						}
						if cut {
							r.cut(reason)
							time.Sleep(5 * second)
							r.connect(true, session.Limits{})
							continue
						}
						for _, f := range frames {
							switch {
							case f.Type() == wire.PUBREL:
								a, _ := wire.ParseAck(f)
								r.ack(wire.PUBCOMP, a.PacketID, 0)
							case publishOf(f).QoS == 2:
								r.ack(wire.PUBREC, publishOf(f).PacketID, 0)
							default:
								r.ack(wire.PUBACK, publishOf(f).PacketID, 0)
							}
						}
						time.Sleep(second)
					}
					wantState(t, w, outbox.Refused)
					for i, w := range others {
						if w.Result().State != outbox.Acked {
							t.Errorf("topic %s, code 0x%02X, %d attempts: message %d: %+v", topic, code, attempts, i+2, w.Result())
						}
					}
				})
			}
		}
	}
}

// A server with Maximum QoS 1 holds no exchanges, and may end the connection if it receives PUBREL.
func TestCure_PurgesNothingAtMaximumQoS1(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, Stuck: func() { t.Error("asked for a new session") }}, persistence.NewMemory(persistence.Options{}))
		limits := session.Limits{ReceiveMaximum: 20, MaximumQoS: 1, RetainAvailable: true}
		r.connect(false, limits)
		r.add(on("a", 1, 1))
		r.want("1")
		r.ack(wire.PUBACK, session.PacketID(0, 1), 0)
		r.cut(0)
		r.connect(true, limits)
		w := r.add(on("a", 2, 1))
		for n := range 20 {
			r.want("2")
			r.ack(wire.PUBACK, r.last().PacketID, wire.ReasonQuotaExceeded)
			r.want()
			if n%2 == 1 {
				r.cut(wire.ReasonQuotaExceeded)
				r.connect(true, limits)
			}
			time.Sleep(9 * second)
		}
		r.want("2")
		r.ack(wire.PUBACK, r.last().PacketID, 0)
		wantState(t, w, outbox.Acked)
	})
}
