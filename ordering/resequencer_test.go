package ordering_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/ordering"
)

// probe is a Resequencer of strings that records its output.
type probe struct {
	*ordering.Resequencer[string]
	story []string
}

func newProbe(o ordering.Options) *probe {
	p := &probe{}
	o.OnGap = func(g ordering.Gap) {
		p.say(fmt.Sprintf("gap(%s/%d %d-%d %v)", g.Key, g.Epoch, g.From, g.To, g.Reason))
	}
	o.OnEpoch = func(key string, old, new uint64) { p.say(fmt.Sprintf("epoch(%s %d→%d)", key, old, new)) }
	p.Resequencer = ordering.NewResequencer[string](o)
	return p
}

func (p *probe) say(s string)                    { p.story = append(p.story, s) }
func (p *probe) expire() time.Time               { return p.Expire(p.emit) }
func (p *probe) told() (s string)                { s = strings.Join(p.story, " "); p.story = nil; return s }
func (p *probe) push(seq uint64) ordering.Result { return p.in("k", 1, seq) }

// emit marks messages that are out of order with a tilde.
func (p *probe) emit(v string, outOfOrder bool) {
	if outOfOrder {
		v = "~" + v
	}
	p.say(v)
}

func (p *probe) in(key string, epoch, seq uint64) ordering.Result {
	v := fmt.Sprintf("%s%d:%d", key, epoch, seq)
	return p.Push(key, epoch, seq, ordering.HashID(v), v, p.emit)
}

func (p *probe) wants(t *testing.T, want string) {
	t.Helper()
	if got := p.told(); got != want {
		t.Fatalf("told   %q\nwanted %q", got, want)
	}
}

func results(got []ordering.Result, want ...ordering.Result) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("results %v, want %v", got, want)
	}
	return nil
}

func (p *probe) pushes(t *testing.T, seqs []uint64, want ...ordering.Result) {
	t.Helper()
	var got []ordering.Result
	for _, seq := range seqs {
		got = append(got, p.push(seq))
	}
	if err := results(got, want...); err != nil {
		t.Fatal(err)
	}
}

func TestResequencer_RestoresOrder(t *testing.T) {
	p := newProbe(ordering.Options{})
	p.pushes(t, []uint64{1, 3, 5, 3, 4, 2, 2, 6},
		ordering.Delivered, ordering.Held, ordering.Held, ordering.Duplicate, ordering.Held, ordering.Delivered, ordering.Duplicate, ordering.Delivered)
	p.wants(t, "k1:1 k1:2 k1:3 k1:4 k1:5 k1:6")
	want := ordering.Stats{Keys: 1, Delivered: 6, Duplicates: 2, IDBytes: 128, StreamBytes: 256 + 1 + 16}
	if got := p.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestStart_Adopt(t *testing.T) {
	p := newProbe(ordering.Options{})
	p.pushes(t, []uint64{7, 8, 5, 5, 7, 0, 6, 6}, ordering.Delivered, ordering.Delivered, ordering.Late, ordering.Duplicate, ordering.Duplicate, ordering.Late, ordering.Late, ordering.Duplicate)
	p.wants(t, "k1:7 k1:8 ~k1:5 ~k1:0 ~k1:6")
}

func TestStart_FromOne(t *testing.T) {
	p := newProbe(ordering.Options{Start: ordering.FromOne})
	p.pushes(t, []uint64{3, 2}, ordering.Held, ordering.Held)
	p.Flush(p.emit)
	p.wants(t, "gap(k/1 1-1 flushed) k1:2 k1:3")
	p.pushes(t, []uint64{1, 1, 0}, ordering.Late, ordering.Duplicate, ordering.Late)
	p.told()

	// Peers may count from 0.
	p.in("zero", 1, 0)
	p.in("zero", 1, 1)
	p.wants(t, "zero1:0 zero1:1")
}

func TestExpire_EachGapHasItsOwnTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(ordering.Options{GapTimeout: 5 * time.Second})
		if next := p.expire(); !next.IsZero() {
			t.Errorf("nothing held, but due %v", next)
		}
		start := time.Now()
		p.pushes(t, []uint64{1, 5}, ordering.Delivered, ordering.Held) // 2-4 opens
		time.Sleep(time.Second)
		p.push(9) // 6-8 opens
		time.Sleep(time.Second)
		p.push(3) // splits 2-4, which keeps its age
		p.push(7) // and 6-8
		p.told()
		if next := p.expire(); !next.Equal(start.Add(5 * time.Second)) {
			t.Errorf("next due after %v, want 5 s", next.Sub(start))
		}
		time.Sleep(3*time.Second - 1)
		p.expire()
		p.wants(t, "")
		time.Sleep(time.Nanosecond)
		if next := p.expire(); !next.Equal(start.Add(6 * time.Second)) {
			t.Errorf("next due after %v, want 6 s", next.Sub(start))
		}
		p.wants(t, "gap(k/1 2-2 timed out) k1:3 gap(k/1 4-4 timed out) k1:5")
		time.Sleep(time.Second)
		if next := p.expire(); !next.IsZero() {
			t.Errorf("nothing held any more, but due %v", next)
		}
		p.wants(t, "gap(k/1 6-6 timed out) k1:7 gap(k/1 8-8 timed out) k1:9")
		p.pushes(t, []uint64{4, 4, 3, 2, 10}, ordering.Late, ordering.Duplicate, ordering.Duplicate, ordering.Late, ordering.Delivered)
		p.wants(t, "~k1:4 ~k1:2 k1:10")
		if s := p.Stats(); s.Gaps != 4 || s.Missing != 4 || s.Late != 2 || s.Held != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestExpire_OldestGapFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(ordering.Options{})
		for _, key := range []string{"c", "a", "b"} {
			p.in(key, 1, 1)
			p.in(key, 1, 3)
			time.Sleep(time.Second)
		}
		p.in("c", 1, 9) // a newer gap opens
		p.in("c", 1, 2) // and the older one is closed in time
		p.told()
		time.Sleep(4 * time.Second)
		next := p.expire()
		p.wants(t, "gap(a/1 2-2 timed out) a1:3 gap(b/1 2-2 timed out) b1:3")
		if wait := time.Until(next); wait != time.Second {
			t.Errorf("next in %v, want 1 s", wait)
		}
	})
}

func TestPush_NewEpochEmitsTheOldOne(t *testing.T) {
	p := newProbe(ordering.Options{})
	p.in("k", 4, 1)
	p.in("k", 4, 3)
	p.in("k", 4, 6)
	if r := p.in("k", 7, 1); r != ordering.Delivered {
		t.Errorf("first of the new epoch: %v", r)
	}
	p.wants(t, "k4:1 gap(k/4 2-2 new epoch) k4:3 gap(k/4 4-5 new epoch) k4:6 epoch(k 4→7) k7:1")
	if r := p.in("k", 4, 2); r != ordering.Late {
		t.Errorf("older epoch: %v", r)
	}
	if r := p.in("k", 7, 2); r != ordering.Delivered {
		t.Errorf("second of the new epoch: %v", r)
	}
	p.wants(t, "~k4:2 k7:2")
}

func TestMaxHeldPerKey_GivesUpTheGap(t *testing.T) {
	p := newProbe(ordering.Options{MaxHeldPerKey: 2})
	p.pushes(t, []uint64{1, 3, 5, 9}, ordering.Delivered, ordering.Held, ordering.Held, ordering.Held)
	p.wants(t, "k1:1 gap(k/1 2-2 full) k1:3")
	p.pushes(t, []uint64{7}, ordering.Held) // gives up 4; 7 still waits for 6
	p.wants(t, "gap(k/1 4-4 full) k1:5")
	p.pushes(t, []uint64{6}, ordering.Delivered)
	p.wants(t, "k1:6 k1:7")

	p = newProbe(ordering.Options{MaxHeldPerKey: 1})
	p.pushes(t, []uint64{1, 4, 3}, ordering.Delivered, ordering.Held, ordering.Delivered) // 3 itself is emitted
	p.wants(t, "k1:1 gap(k/1 2-2 full) k1:3 k1:4")
}

func TestMaxHeld_GivesUpTheOldestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProbe(ordering.Options{MaxHeld: 2})
		for _, key := range []string{"a", "b", "c"} {
			p.in(key, 1, 1)
			p.in(key, 1, 3)
			time.Sleep(time.Second)
		}
		p.wants(t, "a1:1 b1:1 c1:1 gap(a/1 2-2 full) a1:3")
		if s := p.Stats(); s.Held != 2 {
			t.Errorf("%+v, want Held 2", s)
		}
	})
}

func TestMaxKeys_RemovesTheLeastRecentlyUsed(t *testing.T) {
	p := newProbe(ordering.Options{MaxKeys: 2})
	p.in("a", 1, 1)
	p.in("b", 1, 1)
	p.in("a", 1, 2)
	p.in("c", 1, 1) // removes b
	p.told()
	if r := p.in("a", 1, 1); r != ordering.Duplicate {
		t.Errorf("a: %v, want duplicate", r)
	}
	if s := p.Stats(); s.EvictedKeys != 1 || s.Keys != 2 {
		t.Errorf("%+v", s)
	}
	if r := p.in("b", 1, 1); r != ordering.Delivered { // removes c
		t.Errorf("b: %v, want delivered anew", r)
	}
	p.in("a", 1, 9)
	p.in("b", 1, 9) // no key is idle now
	p.told()
	p.in("d", 1, 1)
	p.wants(t, "d1:1 gap(a/1 3-8 full) a1:9")
	if s := p.Stats(); s.Keys != 2 || s.Held != 1 {
		t.Errorf("%+v", s)
	}
}

func TestPush_DropLate(t *testing.T) {
	p := newProbe(ordering.Options{Late: ordering.DropLate})
	p.pushes(t, []uint64{5, 3, 6}, ordering.Delivered, ordering.Late, ordering.Delivered)
	p.wants(t, "k1:5 k1:6")
	if s := p.Stats(); s.Late != 1 {
		t.Errorf("%+v", s)
	}
}

func TestMaxRanges_RemovedRangesAreLate(t *testing.T) {
	p := newProbe(ordering.Options{MaxRanges: 2, MaxHeldPerKey: 1})
	for seq := uint64(1); seq <= 11; seq += 2 { // 2, 4, 6, 8 are given up, 10 is open
		p.push(seq)
	}
	p.told()
	if s := p.Stats(); s.Gaps != 4 || s.RangesDropped != 3 { // 0-0, 2 and 4
		t.Fatalf("%+v", s)
	}
	p.pushes(t, []uint64{4, 4, 3, 5, 6, 6}, ordering.Late, ordering.Duplicate, ordering.Duplicate, ordering.Duplicate, ordering.Late, ordering.Duplicate)

	p = newProbe(ordering.Options{MaxRanges: 2})
	p.pushes(t, []uint64{10, 5, 2}, ordering.Delivered, ordering.Late, ordering.Late) // 0-1, 3-4 and 6-9 are left
	if s := p.Stats(); s.RangesDropped != 1 {
		t.Errorf("%+v", s)
	}
}

// The size of a gap costs nothing, and 0 and 2^64-1 are valid numbers.
func TestPush_HugeGaps(t *testing.T) {
	const top = math.MaxUint64
	p := newProbe(ordering.Options{})
	p.pushes(t, []uint64{1, 1 << 40, top, top - 2}, ordering.Delivered, ordering.Held, ordering.Held, ordering.Held)
	p.Flush(p.emit)
	p.wants(t, "k1:1 gap(k/1 2-1099511627775 flushed) k1:1099511627776 "+
		"gap(k/1 1099511627777-18446744073709551612 flushed) k1:18446744073709551613 "+
		"gap(k/1 18446744073709551614-18446744073709551614 flushed) k1:18446744073709551615")
	p.pushes(t, []uint64{top, top - 1, top - 1, 0, 0, 1, 1 << 39}, ordering.Duplicate, ordering.Late, ordering.Duplicate, ordering.Late, ordering.Duplicate, ordering.Duplicate, ordering.Late)
	if s := p.Stats(); s.Missing != top-4 {
		t.Errorf("missing %d, want %d", s.Missing, uint64(top-4))
	}

	p = newProbe(ordering.Options{})
	p.pushes(t, []uint64{top, top, 5, 0}, ordering.Delivered, ordering.Duplicate, ordering.Late, ordering.Late)
	if r := p.in("k", 2, 0); r != ordering.Delivered {
		t.Errorf("next epoch after the last number: %v", r)
	}
	p = newProbe(ordering.Options{})
	p.pushes(t, []uint64{0, top}, ordering.Delivered, ordering.Held)
	p.Flush(p.emit)
	p.in("k", 2, 0)
	p.in("k", 2, top)
	p.Flush(p.emit)
	if s := p.Stats(); s.Missing != top { // it does not wrap
		t.Errorf("missing %d", s.Missing)
	}
}

func TestRestore_Continues(t *testing.T) {
	p := newProbe(ordering.Options{MaxHeldPerKey: 1})
	if _, ok := p.Position("k"); ok {
		t.Error("an unknown key has a position")
	}
	p.pushes(t, []uint64{5, 7, 9, 3}, ordering.Delivered, ordering.Held, ordering.Held, ordering.Late)
	pos, ok := p.Position("k")
	want := ordering.Position{Epoch: 1, Last: 7, Missing: []ordering.Range{{0, 2}, {4, 4}, {6, 6}},
		IDs: []ordering.ID{ordering.HashID("k1:5"), ordering.HashID("k1:7"), ordering.HashID("k1:3")}}
	if !ok || fmt.Sprint(pos) != fmt.Sprint(want) {
		t.Fatalf("%+v, want %+v", pos, want)
	}

	q := newProbe(ordering.Options{})
	q.Restore("k", pos)
	q.pushes(t, []uint64{7, 6, 6, 5, 4, 2, 9, 8}, ordering.Duplicate, ordering.Late, ordering.Duplicate, ordering.Duplicate, ordering.Late, ordering.Late, ordering.Held, ordering.Delivered)
	q.Restore("k", ordering.Position{Epoch: 9, Last: 1000}) // k is known already
	q.pushes(t, []uint64{10}, ordering.Delivered)

	q.Restore("plain", ordering.Position{Epoch: 3, Last: 10})
	q.told()
	for seq, want := range map[uint64]ordering.Result{10: ordering.NumberReused, 1: ordering.NumberReused, 0: ordering.NumberReused, 11: ordering.Delivered} {
		if r := q.in("plain", 3, seq); r != want {
			t.Errorf("%d: %v, want %v", seq, r, want)
		}
	}
	q.Restore("end", ordering.Position{Epoch: 1, Last: math.MaxUint64})
	if pos, _ := q.Position("end"); pos.Last != math.MaxUint64 {
		t.Errorf("%+v", pos)
	}
	if r := q.in("end", 1, math.MaxUint64); r != ordering.NumberReused {
		t.Errorf("the last number again: %v", r)
	}
}

func TestRestore_NormalizesRanges(t *testing.T) {
	got := ordering.Normal([]ordering.Range{{9, 30}, {5, 2}, {4, 6}, {1, 4}, {6, 6}, {40, 50}}, 20)
	if want := (ordering.Ranges{{1, 6}, {9, 20}}); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestForget_ReturnsHeldMessages(t *testing.T) {
	p := newProbe(ordering.Options{})
	p.pushes(t, []uint64{1, 5, 3}, ordering.Delivered, ordering.Held, ordering.Held)
	if left := p.Forget("k"); !slices.Equal(left, []string{"k1:3", "k1:5"}) {
		t.Errorf("left %v", left)
	}
	if s := p.Stats(); s.Held != 0 || s.Keys != 0 {
		t.Errorf("%+v", s)
	}
	if next := p.expire(); !next.IsZero() {
		t.Errorf("something is due at %v", next)
	}
	p.told()
	p.pushes(t, []uint64{9}, ordering.Delivered)
	p.Forget("unknown")
}
