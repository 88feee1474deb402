package persistencetest

import (
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
	for _, id := range []uint16{65535, 7, 1, 7, 300} {
		must(t, s.Seen(id))
	}
	must(t, s.Cleared(7))
	must(t, s.Cleared(8)) // was not seen
	must(t, s.Sync())
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{1, 300, 65535})
	s = reopen()
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{1, 300, 65535})
	must(t, s.Cleared(1))
	must(t, s.Seen(7))
	must(t, s.Sync())
	s = reopen()
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{7, 300, 65535})
}

func testResetSession(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 3)
	must(t, s.Release(1))
	must(t, s.Release(2))
	must(t, s.Seen(9))
	must(t, s.Sync())
	s = reopen()
	expect(t, "HasSession before one began", s.HasSession(), false)
	must(t, s.ResetSession())
	for range 2 {
		expect(t, "released", len(released(t, s)), 0)
		expect(t, "seen", len(s.SeenIDs()), 0)
		expectList(t, "Next", drain(t, s), []uint64{1, 2, 3})
		s = reopen()
		expect(t, "HasSession after reopening", s.HasSession(), true)
		s = reopen() // from the checkpoint alone
		expect(t, "HasSession after reopening twice", s.HasSession(), true)
	}
	must(t, s.Release(2))
	must(t, s.Seen(10))
	s = reopen()
	expectList(t, "released", released(t, s), []uint64{2})
	expectList(t, "SeenIDs", s.SeenIDs(), []uint16{10})
}
