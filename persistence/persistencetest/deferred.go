package persistencetest

import (
	"errors"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// refusal returns a deferral whose fields are computed from n.
func refusal(n int) persistence.Deferral {
	since := time.UnixMilli(1_700_000_000_000 + int64(n))
	return persistence.Deferral{Since: since, Until: since.Add(time.Duration(n) * time.Second), Attempts: n, Code: 0x87, Alone: n%3 == 0, GivenUp: n%5 == 1, PacketID: uint16(1000 * (n % 2)), RefusedID: uint16(2000 * (n % 4))}
}

// sameDeferral compares deferrals and ignores time zones.
func sameDeferral(a, b persistence.Deferral) bool {
	return a.Since.Equal(b.Since) && a.Until.Equal(b.Until) && a.Attempts == b.Attempts && a.Code == b.Code && a.Alone == b.Alone && a.GivenUp == b.GivenUp && a.PacketID == b.PacketID && a.RefusedID == b.RefusedID
}

func expectDeferred(t *testing.T, s persistence.Store, want map[uint64]persistence.Deferral) {
	t.Helper()
	list := s.Deferred()
	expect(t, "number of deferred messages", len(list), len(want))
	if n := s.Stats().Deferred; n != 0 { // a custom store need not set this counter
		expect(t, "Stats.Deferred", n, uint64(len(want)))
	}
	var e persistence.Entry
	last := uint64(0)
	for _, d := range list {
		if x, known := want[d.Seq]; !known || d.Seq <= last || !sameDeferral(x, d.Deferral) {
			t.Fatalf("deferred: %+v, want %+v", d, x)
		}
		last = d.Seq
		ok, err := s.Get(d.Seq, &e)
		must(t, err)
		if !ok || !sameDeferral(e.Deferral, d.Deferral) {
			t.Fatalf("Get(%d) = %v, %+v; want %+v", d.Seq, ok, e.Deferral, d.Deferral)
		}
		checkContent(t, &e)
	}
}

// releases returns the result of s.Released, but sets Number to 0 if PacketID is not 0. Number has
// no meaning in this case.
func releases(s persistence.Store) []persistence.Position {
	list := s.Released()
	for i := range list {
		if list[i].PacketID != 0 {
			list[i].Number = 0
		}
	}
	return list
}

// testDeferred checks that a deferred message stays pending and that Next does not return it. The
// message must keep its deferral across restarts and a lost session, until it ends.
func testDeferred(t *testing.T, open Open) {
	s, reopen := open(t, persistence.Options{})
	appendN(t, s, 6)
	for _, d := range []persistence.Deferral{{}, {Since: time.Now(), Attempts: -1}, {Since: time.Now(), Attempts: 1 << 32}} {
		expect(t, "an invalid deferral is ErrDeferral", errors.Is(s.Defer(1, d), persistence.ErrDeferral), true)
	}
	expect(t, "Defer of an unknown sequence", errors.Is(s.Defer(7, refusal(1)), persistence.ErrUnknownSequence), true)
	expectDeferred(t, s, nil)
	want := map[uint64]persistence.Deferral{}
	for _, seq := range []uint64{1, 4, 5, 6} {
		want[seq] = refusal(int(seq))
		must(t, s.Defer(seq, want[seq]))
	}
	want[4] = refusal(9)
	must(t, s.Defer(4, want[4])) // again
	must(t, s.Release(5))
	must(t, s.Defer(5, refusal(8))) // no effect: the message is released
	must(t, s.Release(2))
	must(t, s.Defer(2, refusal(8)))
	for range 3 {
		expectDeferred(t, s, want)
		expectList(t, "Next", drain(t, s), []uint64{2, 3})
		expect(t, "First", s.First(persistence.Normal), 2)
		expect(t, "Pending", sum(t, s).Pending, 6)
		if st := s.Stats(); st.Deferred != 0 {
			expect(t, "DeferredOf", st.DeferredOf, [persistence.Priorities]uint64{4})
			expect(t, "DeferredBytes", st.DeferredBytes, 80)
		}
		expectList(t, "Released", releases(s), []persistence.Position{{Seq: 5, PacketID: want[5].PacketID}, {Seq: 2, Number: 2}})
		must(t, s.Sync())
		s = reopen()
	}
	acked(t, s, 1)
	acked(t, s, 5)
	delete(want, 1)
	delete(want, 5)
	expectDeferred(t, s, want)
	must(t, s.ResetSession("client"))
	for seq, d := range want {
		d.PacketID = 0
		want[seq] = d
	}
	for range 2 {
		expectDeferred(t, s, want)
		expectList(t, "Next", drain(t, s), []uint64{2, 3})
		s = reopen()
	}
	acked(t, s, 6)
	acked(t, s, 4)
	acked(t, s, 2)
	acked(t, s, 3)
	expectDeferred(t, s, nil)
	expect(t, "Pending", sum(t, s).Pending, 0)
	expect(t, "DeferredBytes", s.Stats().DeferredBytes, 0)
	s = reopen()
	expectDeferred(t, s, nil)
}
