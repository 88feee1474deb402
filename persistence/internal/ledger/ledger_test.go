package ledger_test

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// full returns a ledger with a value in each field of a checkpoint.
func full() *ledger.Ledger {
	g := &ledger.Ledger{Epoch: 5, Boot: 6, Next: 100, Lost: 2, Session: true, Owner: "client",
		Writer:  ledger.Writer{Known: true, Lossy: true, Closed: true, Boot: 13, Machine: record.MaxSequence},
		Numbers: [record.Priorities]uint64{0, 7, 8}, Sent: [record.Priorities]uint64{9, 10, 11}}
	for i := range g.Totals {
		g.Totals[i] = uint64(i)
	}
	g.AddStream("a", 12)
	g.AddStream("b", 1<<64-1)
	g.Seen.Add(1, 1<<63)
	g.Seen.Add(65_535, 0)
	g.Key = [16]byte{15: 1}
	g.Clock.Begin(time.UnixMilli(1_700_000_000_000), 0, false)
	return g
}

func body(t testing.TB, b []byte) []byte {
	t.Helper()
	var r record.Record
	if err := r.Decode(b); err != nil || r.Kind != record.KindCheckpoint {
		t.Fatalf("%+v, %v", r, err)
	}
	return r.Body
}

func TestCheckpoint_RoundTrip(t *testing.T) {
	g, prev := full(), segment.Link{Number: 3, Size: 4096}
	b := body(t, g.AppendCheckpoint(nil, prev))
	got, link, err := ledger.DecodeCheckpoint(b, false)
	if err != nil || link != prev {
		t.Fatalf("%+v, %v", link, err)
	}
	if got.Latest < 1_700_000_000_000 || !maps.Equal(got.Seen, g.Seen) || got.Key != g.Key || !slices.Equal(got.Streams, g.Streams) {
		t.Errorf("%+v", got)
	}
	if id, ok := got.Stream("b"); id != 2 || !ok {
		t.Errorf("stream b is %d, %v", id, ok)
	}
	got.Latest, got.Clock = 0, g.Clock
	if !reflect.DeepEqual(&got, g) {
		t.Errorf("%+v became %+v", g, got)
	}
	for n := range b {
		if n == len(b)-len(g.Owner)-1 {
			break // the rest is the owner
		}
		if cut, _, err := ledger.DecodeCheckpoint(b[:n], false); err == nil {
			t.Errorf("the first %d bytes are %+v", n, cut)
		}
	}
}

// FuzzCheckpoint checks that decoding ends for arbitrary bytes, and that a decoded checkpoint is
// encoded again with the same meaning.
func FuzzCheckpoint(f *testing.F) {
	f.Add(body(f, full().AppendCheckpoint(nil, segment.Link{Number: 1, Size: 2})), false)
	old := full()
	old.Key = [16]byte{}
	f.Add(body(f, old.AppendCheckpoint(nil, segment.Link{Number: 1, Size: 2})), false)
	old.Writer = ledger.Writer{}
	f.Add(body(f, old.AppendCheckpoint(nil, segment.Link{Number: 1, Size: 2})), false)
	f.Add(body(f, (&ledger.Ledger{Next: 1}).AppendCheckpoint(nil, segment.Link{})), true)
	f.Fuzz(func(t *testing.T, b []byte, version1 bool) {
		g, prev, err := ledger.DecodeCheckpoint(b, version1)
		if err != nil {
			return
		}
		again, prev2, err := ledger.DecodeCheckpoint(body(t, g.AppendCheckpoint(nil, prev)), false)
		if err != nil || prev2 != prev {
			t.Fatalf("%+v written back: %+v, %v", g, prev2, err)
		}
		again.Latest = g.Latest // the time of writing
		if !reflect.DeepEqual(again, g) {
			t.Fatalf("%+v became %+v", g, again)
		}
	})
}

func TestReconcile(t *testing.T) {
	for _, c := range []struct {
		name             string
		next             uint64
		pending          int
		acked, dropped   uint64
		wantAck, wantDro uint64
		lost             uint64
	}{
		{"the totals add up", 11, 4, 5, 1, 5, 1, 0},
		{"messages are nowhere", 11, 4, 1, 1, 1, 5, 4},
		{"done records are lost", 11, 8, 5, 1, 1, 1, 0},
		{"more than were acknowledged", 11, 9, 2, 2, 0, 1, 0},
	} {
		g := ledger.Ledger{Next: c.next, Pending: c.pending}
		g.Totals[record.Acked], g.Totals[record.Dropped] = c.acked, c.dropped
		if lost := g.Reconcile(); lost != c.lost || g.Totals[record.Acked] != c.wantAck || g.Totals[record.Dropped] != c.wantDro || g.Lost != c.lost {
			t.Errorf("%s: %d lost, %+v", c.name, lost, g.Totals)
		}
	}
}

// TestReleases compares Releases with a simple list, through random changes and through recovery
// from records in any order.
func TestReleases(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var r ledger.Releases
	alive := map[uint64]bool{}
	var want []uint64
	for seq := uint64(1); seq <= 3000; seq++ {
		r.Add(seq)
		alive[seq] = true
		want = append(want, seq)
		for rnd.IntN(3) > 0 && len(want) > 0 {
			i := rnd.IntN(len(want))
			delete(alive, want[i])
			want = slices.Delete(want, i, i+1)
			r.Done(func(seq uint64) bool { return alive[seq] })
		}
		if seq%100 == 0 {
			if got := r.List(func(seq uint64) bool { return alive[seq] }); !slices.Equal(got, want) {
				t.Fatalf("after %d: %v, want %v", seq, got, want)
			}
		}
	}
	for seq := uint64(3001); seq <= 3100; seq++ {
		r.Add(seq)
		alive[seq] = true
		want = append(want, seq)
	}
	ranks := r.Ranks()
	var read ledger.Releases
	order := slices.Clone(want)
	rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, seq := range append(order, order[:5]...) {
		read.Found(seq, ranks[seq])
	}
	read.Loaded(func(seq uint64) bool { return alive[seq] })
	if got := read.List(func(seq uint64) bool { return alive[seq] }); !slices.Equal(got, want) {
		t.Errorf("read in another order: %v, want %v", got, want)
	}
	if rank := read.Add(9999); rank <= ranks[3100] {
		t.Errorf("the next rank is %d, after %d", rank, ranks[3100])
	}
}

func TestDeadLetters(t *testing.T) {
	var d ledger.DeadLetters
	for _, seq := range []uint64{5, 1, 9, 3} {
		d.Add(seq, 10, uint8(seq))
	}
	if len(d.List) != 4 || d.Reason(9) != 9 || d.Reason(2) != 0 || d.Bytes != 40 {
		t.Errorf("%+v", d)
	}
	d.Remove(1, 10)
	d.Remove(5, 10)
	if !slices.Equal(d.List, []ledger.DeadLetter{{3, 3}, {9, 9}}) || d.Bytes != 20 {
		t.Errorf("%+v", d)
	}
}
