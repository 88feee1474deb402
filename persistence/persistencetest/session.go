package persistencetest

import (
	"errors"
	"maps"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
)

func released(t *testing.T, s persistence.Store) (seqs []uint64) {
	t.Helper()
	var e persistence.Entry
	for {
		ok, err := s.Next(&persistence.Cursor{e.Seq}, &e)
		must(t, err)
		if !ok {
			return seqs
		}
		if e.Released {
			seqs = append(seqs, e.Seq)
		}
	}
}

func testReleased(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 4)
	for _, seq := range []uint64{2, 3, 3} {
		must(t, s.Release(seq))
	}
	expectList(t, "released", released(t, s), []uint64{2, 3})
	must(t, s.Sync())
	acked(t, s, 3)
	must(t, s.Release(3)) // no effect
	s = reopen()
	expectList(t, "released", released(t, s), []uint64{2})
	expectList(t, "Next", drain(t, s), []uint64{1, 2, 4})
}

func testIdentifiers(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	expect(t, "SeenIDs of a new store", len(s.SeenIDs()), 0)
	key := s.FingerprintKey()
	expect(t, "FingerprintKey is random", key != [16]byte{}, true)
	other, _ := open(t, persistence.Options{})
	expect(t, "FingerprintKey is that of another store", key == other.FingerprintKey(), false)
	for i, id := range []uint16{65535, 7, 1, 7, 300} {
		must(t, s.Seen(id, 1<<63+uint64(i)))
	}
	must(t, s.Cleared(7))
	must(t, s.Cleared(8)) // was not seen
	must(t, s.Sync())
	want := map[uint16]uint64{1: 1<<63 + 2, 300: 1<<63 + 4, 65535: 1 << 63}
	expectSeen(t, s, want)
	s = reopen()
	expectSeen(t, s, want)
	must(t, s.Cleared(1))
	must(t, s.Seen(7, 1<<64-1))
	must(t, s.Seen(300, 5)) // replaces the fingerprint
	must(t, s.Sync())
	want = map[uint16]uint64{7: 1<<64 - 1, 300: 5, 65535: 1 << 63}
	for range 2 { // the second time, the log reads it only from the checkpoint
		s = reopen()
		expectSeen(t, s, want)
		expect(t, "FingerprintKey", s.FingerprintKey(), key)
	}
}

func expectSeen(t *testing.T, s persistence.Store, want map[uint16]uint64) {
	t.Helper()
	if got := s.SeenIDs(); !maps.Equal(got, want) {
		t.Fatalf("SeenIDs = %v, want %v", got, want)
	}
}

func testResetSession(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 3)
	must(t, s.Release(1))
	must(t, s.Release(2))
	must(t, s.Seen(9, 1))
	must(t, s.Sync())
	s = reopen()
	expectSession(t, s, "", false)
	err := s.ResetSession(string(make([]byte, 65_536)))
	expect(t, "a ClientID of 65,536 bytes is ErrClientID", errors.Is(err, persistence.ErrClientID), true)
	must(t, s.ResetSession("client"))
	for range 2 {
		expectSession(t, s, "client", true)
		expect(t, "released", len(released(t, s)), 0)
		expect(t, "seen", len(s.SeenIDs()), 0)
		expectList(t, "Next", drain(t, s), []uint64{1, 2, 3})
		s = reopen()
		expectSession(t, s, "client", true)
		s = reopen() // the log reads it only from the checkpoint
	}
	must(t, s.Release(2))
	must(t, s.Seen(10, 2))
	s = reopen()
	expectList(t, "released", released(t, s), []uint64{2})
	expectSeen(t, s, map[uint16]uint64{10: 2})
	key := s.FingerprintKey()
	must(t, s.ResetSession(""))
	s = reopen()
	expect(t, "FingerprintKey", s.FingerprintKey(), key)
	expectSession(t, s, "", true)
	must(t, s.ResetSession(string(make([]byte, 65_535))))
	s = reopen()
	expectSession(t, s, string(make([]byte, 65_535)), true)
}

// testReleaseOrder checks that the order of releases does not depend on priorities and survives
// restarts: PUBREL packets are resent in the order in which the PUBRECs arrived [MQTT-4.6.0-4].
func testReleaseOrder(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	expect(t, "released in a new store", len(s.Released()), 0)
	appendN(t, s, 4)
	for _, p := range []persistence.Priority{persistence.High, persistence.Urgent} {
		m := message(5, 20)
		m.Priority = p
		if _, err := persistence.Append(s, m); err != nil {
			t.Fatal(err)
		}
	}
	order := []persistence.Position{{Seq: 4, Number: 4}, {Seq: 6, Number: 1, Priority: persistence.Urgent}, {Seq: 1, Number: 1},
		{Seq: 5, Number: 1, Priority: persistence.High}, {Seq: 3, Number: 3}, {Seq: 2, Number: 2}}
	for _, p := range order {
		must(t, s.Release(p.Seq))
		must(t, s.Release(4)) // no effect: its place in the order is fixed
	}
	expectList(t, "released", s.Released(), order)
	for len(order) > 0 {
		s = reopen()
		expectList(t, "released", s.Released(), order)
		at := len(order) / 2
		acked(t, s, order[at].Seq)
		order = append(order[:at:at], order[at+1:]...)
		expectList(t, "released", s.Released(), order)
	}
}

// testSetSent checks that each sent watermark can be raised and lowered independently, and that the
// watermarks survive restarts.
func testSetSent(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 9)
	var want [persistence.Priorities]uint64
	for _, step := range []struct {
		p persistence.Priority
		n uint64
	}{{persistence.Normal, 8}, {persistence.Urgent, 5}, {persistence.Normal, 8}, {persistence.Normal, 6}, {persistence.High, 2},
		{persistence.Urgent, 0}, {persistence.Normal, 0}, {persistence.Normal, 7}} {
		must(t, s.SetSent(step.p, step.n))
		want[step.p] = step.n
		for range 3 { // the third time, the log reads it only from the checkpoint
			for p, n := range want {
				expect(t, "Sent", s.Sent(persistence.Priority(p)), n)
			}
			s = reopen()
		}
	}
}

func expectSession(t *testing.T, s persistence.Store, clientID string, known bool) {
	t.Helper()
	id, ok := s.Session()
	expect(t, "ClientID of the session", id, clientID)
	expect(t, "session known", ok, known)
}
