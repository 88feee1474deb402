package outbox_test

import (
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A store that has lost its last records assigns packet identifiers again that the server may still
// hold.
func TestSentLost_PurgesAllIdentifiersFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 2))
		r.add(on("b", 2, 2))
		r.want("1", "2")
		r.ack(wire.PUBREC, session.PacketID(0, 2), 0x80) // deferred
		time.Sleep(3 * second)
		r.want("2")
		second := r.last().PacketID
		r.cut(0)
		r.stop()
		r.store = r.store.Reopen()
		r.cfg.SentLost = true
		r.start()
		r.add(on("a", 3, 2)) // its number belonged to another message
		purged := map[uint16]int{}
		answer := func(ids []uint16) {
			for _, id := range ids {
				purged[id]++
			}
			r.answer(ids)
		}
		r.connect(true, session.Limits{})
		answer(r.purged())
		ids := r.purged()
		answer(ids[:100])
		r.want()
		r.cut(0) // the unanswered part is sent again
		r.connect(true, session.Limits{})
		for again := r.purged(); len(again) > 0; again = r.purged() {
			if len(again) > session.MaxPurge {
				t.Fatalf("%d PUBRELs at a time", len(again))
			}
			answer(again)
			if len(purged) == 65_536-257-2 {
				break
			}
		}
		for _, id := range []uint16{0, 1, 256, session.PacketID(0, 1), second} {
			if purged[id] != 0 {
				t.Errorf("identifier %d is purged", id)
			}
		}
		if len(purged) != 65_536-257-2 || purged[session.PacketID(0, 3)] == 0 {
			t.Errorf("%d identifiers are purged; that of message 3: %d", len(purged), purged[session.PacketID(0, 3)])
		}
		r.want("+2", "+1", "3")
		r.cut(0)
		r.connect(true, session.Limits{})
		r.want("+2", "+1", "+3") // once is enough
	})
}

func TestSentLost_NothingToPurge(t *testing.T) {
	for name, c := range map[string]struct {
		present bool
		limits  session.Limits
	}{
		"a new session":             {false, session.Limits{}},
		"a server that takes QoS 1": {true, session.Limits{MaximumQoS: 1, RetainAvailable: true}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store := persistence.NewMemory(persistence.Options{})
				must(t, store.ResetSession("owner"))
				r := newRig(t, outbox.Config{Retry: fixed, SentLost: true}, store)
				r.add(on("a", 1, 1))
				r.connect(c.present, c.limits)
				r.want("1")
			})
		})
	}
}

// A server that does not answer, or that ends connections on PUBREL, does not block messages
// indefinitely.
func TestSentLost_ServerDoesNotSupportPurges(t *testing.T) {
	for name, closes := range map[string]bool{"silent": false, "closes connections": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store := persistence.NewMemory(persistence.Options{})
				must(t, store.ResetSession("owner"))
				r := newRig(t, outbox.Config{Retry: fixed, SentLost: true}, store)
				r.add(on("a", 1, 2))
				r.connect(true, session.Limits{})
				for n := range 3 {
					if len(r.purged()) == 0 {
						t.Fatalf("connection %d: nothing is purged", n)
					}
					if !closes {
						time.Sleep(6 * second)
						break
					}
					r.cut(wire.ReasonProtocolError)
					r.connect(true, session.Limits{})
				}
				r.want("1")
				if !slices.Equal(r.purges, []int{session.MaxPurge}) {
					t.Errorf("reported: %v", r.purges)
				}
			})
		})
	}
}

// In an adopted session all packet identifiers are purged before a message is sent. The next
// process does so too, unless the adopting process has sent a message. If the session is gone,
// nothing is purged.
func TestAdoptSession_PurgesEverythingFirst(t *testing.T) {
	const everything = 65_535
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed, Adopted: true}, persistence.NewMemory(persistence.Options{}))
		r.add(on("a", 1, 2))
		r.connect(true, session.Limits{})
		purged := map[uint16]bool{}
		all := func() {
			t.Helper()
			for len(purged) < everything {
				ids := r.purged()
				if len(ids) == 0 {
					t.Fatalf("%d are purged", len(purged))
				}
				for _, id := range ids {
					purged[id] = true
				}
				r.answer(ids)
			}
			clear(purged)
		}
		all()
		r.want("1")
		r.cut(0)
		r.stop()
		r.store = r.store.Reopen()
		r.start()
		r.connect(true, session.Limits{})
		r.want("+1") // it was sent, so everything was purged

		r.cut(0)
		must(t, r.o.AdoptSession("owner", nil)) // another session, in the same process
		r.connect(true, session.Limits{})
		all()
		r.want("1")
		r.cut(0)
		must(t, r.o.AdoptSession("owner", nil))
		must(t, r.o.ResetSession("owner", nil)) // the session was gone
		r.connect(false, session.Limits{})
		r.want("1")
	})
}

func TestDamaged_PurgesAllIdentifiersIfItMayHaveBeenSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{Retry: fixed}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(on("a", 1, 2))
		r.want("1")
		r.cut(0)
		must(t, r.store.Done(1, persistence.Result{Kind: persistence.Dropped}))
		r.o.Damaged(1, errOver)
		r.connect(true, session.Limits{})
		if ids := r.purged(); len(ids) < session.MaxPurge-257 {
			t.Errorf("%d are purged", len(ids))
		}
	})
}
