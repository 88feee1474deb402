package ordering_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/ordering"
)

// with pushes a message with this ID, which is also its text; empty: it has none.
func (p *probe) with(epoch, seq uint64, id string) ordering.Result {
	return p.Push("k", epoch, seq, ordering.HashID(id), fmt.Sprint(id, "/", seq), p.emit)
}

func TestPush_KnownNumber(t *testing.T) {
	type message struct {
		epoch, seq uint64
		id         string
		want       ordering.Result
	}
	const none = ""
	for name, tt := range map[string]struct {
		messages []message
		emitted  string
		late     string // with DropLate; empty: the same
	}{
		"emitted": {[]message{{1, 1, "a", ordering.Delivered}, {1, 1, "a", ordering.Duplicate}, {1, 1, "b", ordering.NumberReused},
			{1, 1, "b", ordering.Duplicate}, {1, 1, none, ordering.NumberRepeated}}, "a/1 ~b/1", ""},
		"emitted without ID": {[]message{{1, 1, none, ordering.Delivered}, {1, 1, none, ordering.NumberRepeated}, {1, 1, "b", ordering.NumberReused}}, "/1 ~b/1", ""},
		"held": {[]message{{1, 1, "a", ordering.Delivered}, {1, 3, "c", ordering.Held}, {1, 3, "c", ordering.Duplicate}, {1, 3, "d", ordering.NumberReused},
			{1, 3, "d", ordering.Duplicate}, {1, 3, none, ordering.NumberRepeated}, {1, 2, "b", ordering.Delivered}}, "a/1 ~d/3 b/2 c/3", ""},
		"held without ID": {[]message{{1, 1, "a", ordering.Delivered}, {1, 3, none, ordering.Held}, {1, 3, none, ordering.NumberRepeated},
			{1, 3, "d", ordering.NumberReused}, {1, 2, "b", ordering.Delivered}}, "a/1 ~d/3 b/2 /3", ""},
		"lower epoch": {[]message{{2, 5, "a", ordering.Delivered}, {1, 5, "b", ordering.Late}, {1, 5, "b", ordering.Duplicate}, {1, 6, "a", ordering.Duplicate},
			{1, 9, "c", ordering.Late}, {2, 6, "d", ordering.Delivered}}, "a/5 ~b/5 ~c/9 d/6", ""},
		"copy in the next epoch": {[]message{{1, 5, "a", ordering.Delivered}, {2, 6, "b", ordering.Delivered}, {1, 5, "a", ordering.Duplicate}}, "a/5 b/6", ""},
		"counter that starts again": {[]message{{1, 1, "a", ordering.Delivered}, {1, 2, "b", ordering.Delivered}, {1, 1, "c", ordering.NumberReused},
			{1, 2, "d", ordering.NumberReused}, {1, 2, "d", ordering.Duplicate}, {1, 3, "e", ordering.Delivered}}, "a/1 b/2 ~c/1 ~d/2 e/3", ""},
	} {
		for _, late := range []ordering.LatePolicy{ordering.DeliverLate, ordering.DropLate} {
			if late == ordering.DropLate && name == "lower epoch" {
				continue // see TestPush_DropLate
			}
			t.Run(fmt.Sprint(name, late), func(t *testing.T) {
				p := newProbe(ordering.Options{Late: late, OnEpoch: nil})
				for i, m := range tt.messages {
					if got := p.with(m.epoch, m.seq, m.id); got != m.want {
						t.Errorf("message %d: %v, want %v", i, got, m.want)
					}
				}
				p.story = slices.DeleteFunc(p.story, func(s string) bool { return s == "epoch(k 1→2)" })
				p.wants(t, tt.emitted)
			})
		}
	}
}

// The counter of a publisher wraps, or is beyond the last number.
func TestPush_Wrap(t *testing.T) {
	p := newProbe(ordering.Options{})
	for _, seq := range []uint64{math.MaxUint64 - 1, math.MaxUint64, 0, 1, 2} {
		p.with(1, seq, fmt.Sprint("first ", seq))
		if r := p.with(1, seq, fmt.Sprint("second ", seq)); r != ordering.NumberReused {
			t.Errorf("%d: %v", seq, r)
		}
		if r := p.with(1, seq, fmt.Sprint("second ", seq)); r != ordering.Duplicate {
			t.Errorf("%d: copy: %v", seq, r)
		}
	}
	if s := p.Stats(); s.NumbersReused != 5 || s.Late != 3 || s.Delivered != 2 || len(p.story) != 10 {
		t.Errorf("%+v", s)
	}
}

// A late message that DropLate drops does not count as emitted.
func TestPush_DropLate_EachCopyIsLate(t *testing.T) {
	p := newProbe(ordering.Options{Late: ordering.DropLate})
	p.pushes(t, []uint64{5, 3, 3}, ordering.Delivered, ordering.Late, ordering.Late)
	p.in("k", 2, 1)
	for range 2 {
		if r := p.in("k", 1, 9); r != ordering.Late {
			t.Errorf("lower epoch: %v", r)
		}
	}
	p.wants(t, "k1:5 epoch(k 1→2) k2:1")
}

func TestPushNew_IsNeverACopy(t *testing.T) {
	p := newProbe(ordering.Options{})
	var got []ordering.Result
	for _, seq := range []uint64{1, 1, 3, 3, 2, 2} {
		got = append(got, p.PushNew("k", 1, seq, fmt.Sprint(seq), p.emit))
	}
	if err := results(got, ordering.Delivered, ordering.NumberReused, ordering.Held, ordering.NumberReused, ordering.Delivered, ordering.NumberReused); err != nil {
		t.Error(err)
	}
	p.wants(t, "1 ~1 ~3 2 3 ~2")
	if s := p.Stats(); s.IDBytes != 0 {
		t.Errorf("%d bytes of IDs are kept", s.IDBytes)
	}
}

func TestMaxIDs_ForgetsTheOldest(t *testing.T) {
	p := newProbe(ordering.Options{MaxIDs: 20})
	for seq := uint64(1); seq <= 50; seq++ {
		p.push(seq)
	}
	for _, again := range []struct {
		seq  uint64
		want ordering.Result
	}{{50, ordering.Duplicate}, {31, ordering.Duplicate}, {30, ordering.NumberReused}} { // the last one is kept, and 31 is forgotten for it
		if r := p.push(again.seq); r != again.want {
			t.Errorf("%d: %v, want %v", again.seq, r, again.want)
		}
	}
	at, _ := p.Position("k")
	if s := p.Stats(); len(at.IDs) != 20 || at.IDs[19] != ordering.HashID("k1:30") || at.IDs[18] != ordering.HashID("k1:50") || s.IDBytes != 320 {
		t.Errorf("%d IDs, %+v", len(at.IDs), s)
	}
	q := newProbe(ordering.Options{MaxIDs: 5})
	q.Restore("k", at)
	q.pushes(t, []uint64{50, 30, 47, 46, 51}, ordering.Duplicate, ordering.Duplicate, ordering.Duplicate, ordering.NumberReused, ordering.Delivered)
}

func TestMaxIDBytes_LeastRecentlyUsedStreamsForget(t *testing.T) {
	p := newProbe(ordering.Options{MaxIDBytes: 3 * 128})
	last := map[string]uint64{}
	for _, key := range []string{"a", "b", "c", "a", "d"} { // b forgets
		p.in(key, 1, last[key]+1)
		p.in(key, 1, last[key]+2)
		last[key] += 2
	}
	for _, key := range []string{"a", "c", "d"} {
		if r := p.in(key, 1, 1); r != ordering.Duplicate {
			t.Errorf("%s: %v", key, r)
		}
	}
	if s := p.Stats(); s.ForgottenIDs != 2 || s.IDBytes != 3*128 {
		t.Errorf("%+v", s)
	}
	if r := p.in("b", 1, 1); r != ordering.NumberReused { // delivered again, with a sign
		t.Errorf("b: %v", r)
	}
	p.Forget("b")
	if s := p.Stats(); s.IDBytes != 2*128 {
		t.Errorf("%d bytes after Forget", s.IDBytes)
	}
	for seq := uint64(5); seq <= 100; seq++ { // a has all of it
		p.in("a", 1, seq)
	}
	if s := p.Stats(); s.IDBytes > 3*128 || s.IDBytes < 256 {
		t.Errorf("%d bytes", s.IDBytes)
	}
	if r := p.in("a", 1, 100); r != ordering.Duplicate {
		t.Errorf("the newest: %v", r)
	}
}

// 65,536 streams of 1,024 messages stay within MaxIDBytes, and no message is lost.
func TestMaxIDBytes_ManyStreams(t *testing.T) {
	r := ordering.NewResequencer[int](ordering.Options{MaxIDBytes: 1 << 20})
	emitted, n := 0, uint64(0)
	emit := func(int, bool) { emitted++ }
	for seq := range uint64(20) {
		for key := range 20_000 {
			n++
			r.Push(fmt.Sprint(key), 1, seq+1, numbered(n), 0, emit)
		}
		if s := r.Stats(); s.IDBytes > 1<<20 || s.IDBytes < 1<<19 {
			t.Fatalf("%d bytes", s.IDBytes)
		}
	}
	if s := r.Stats(); emitted != 400_000 || s.ForgottenIDs == 0 || s.Keys != 20_000 {
		t.Errorf("%d emitted, %+v", emitted, s)
	}
}

// device is a publisher that counts. Several have the same name.
type device struct{ epoch, seq uint64 }

// sent is a message of a random history.
type sent struct {
	epoch, seq uint64
	id         ordering.ID // zero: it has none
	text       string
}

// fleet is a random history of devices with one name: restored copies, clones, counters
// that start again or wrap, lower and higher epochs. It knows what was emitted.
type fleet struct {
	*testing.T
	rnd     *rand.Rand
	devices []device
	r       *ordering.Resequencer[sent]
	opts    ordering.Options

	all, delayed []sent
	known        map[ordering.ID]bool // emitted or held
	numbers      map[[2]uint64]bool   // emitted or held, by epoch
	emitted      map[string]int
	dropped      map[string]bool // with a report: by the result
	last         map[uint64]uint64
}

func TestResequencer_RandomFleets(t *testing.T) {
	for seed := range uint64(1000) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			f := &fleet{T: t, rnd: rnd, devices: []device{{epoch: 5}}, known: map[ordering.ID]bool{}, numbers: map[[2]uint64]bool{},
				emitted: map[string]int{}, dropped: map[string]bool{}, last: map[uint64]uint64{}}
			f.opts = ordering.Options{Start: ordering.Start(rnd.IntN(2)), Late: ordering.LatePolicy(rnd.IntN(2)), GapTimeout: time.Second,
				MaxHeldPerKey: 1 + rnd.IntN(8), MaxRanges: 1 + rnd.IntN(8)}
			f.r = ordering.NewResequencer[sent](f.opts)
			for range 150 {
				f.step()
			}
			for _, m := range f.delayed {
				f.push(m)
			}
			f.r.Flush(f.emit)
			f.check(seed)
		})
	}
}

func (f *fleet) step() {
	rnd := f.rnd
	d := &f.devices[rnd.IntN(len(f.devices))]
	switch rnd.IntN(24) {
	case 0: // cloned
		f.devices = append(f.devices, *d)
	case 1: // restored from a copy
		d.seq -= min(d.seq, uint64(rnd.IntN(10)))
	case 2: // starts again
		d.seq = 0
	case 3: // the clock was set back, or forward
		d.epoch = uint64(rnd.IntN(10))
		d.seq = 0
	case 4: // about to wrap
		d.seq = math.MaxUint64 - uint64(rnd.IntN(4))
	case 5: // lost
		d.seq += uint64(rnd.IntN(3))
	case 6:
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		f.r.Expire(f.emit)
	case 7: // the receiver is restarted
		f.restart()
	case 8, 9, 10: // redelivered
		if len(f.all) > 0 {
			f.push(f.all[rnd.IntN(len(f.all))])
		}
	default:
		d.seq++
		m := sent{epoch: d.epoch, seq: d.seq, text: fmt.Sprint(len(f.all))}
		if rnd.IntN(8) > 0 {
			binary.BigEndian.PutUint64(m.id[:], uint64(len(f.all))+1)
		}
		f.all = append(f.all, m)
		if rnd.IntN(5) == 0 {
			f.delayed = append(f.delayed, m)
			return
		}
		f.push(m)
	}
	if len(f.delayed) > 0 && rnd.IntN(4) == 0 {
		i := rnd.IntN(len(f.delayed))
		m := f.delayed[i]
		f.delayed = slices.Delete(f.delayed, i, i+1)
		f.push(m)
	}
}

// restart gives up what is held, since it would be redelivered, and goes on from the position.
func (f *fleet) restart() {
	f.r.Flush(f.emit)
	at, ok := f.r.Position("k")
	f.r = ordering.NewResequencer[sent](f.opts)
	if ok {
		f.r.Restore("k", at)
	}
}

func (f *fleet) emit(m sent, outOfOrder bool) {
	f.emitted[m.text]++
	if outOfOrder {
		return
	}
	if last, was := f.last[m.epoch]; was && m.seq <= last {
		f.Errorf("message %s of epoch %d: %d is emitted in order after %d", m.text, m.epoch, m.seq, last)
	}
	f.last[m.epoch] = m.seq
}

func (f *fleet) push(m sent) {
	before := f.emitted[m.text]
	number := [2]uint64{m.epoch, m.seq}
	result := f.r.Push("k", m.epoch, m.seq, m.id, m, f.emit)
	switch {
	case result == ordering.Duplicate:
		if m.id == (ordering.ID{}) || !f.known[m.id] {
			f.Errorf("message %s is called a copy", m.text)
		}
	case result == ordering.NumberRepeated:
		f.dropped[m.text] = true
		if m.id != (ordering.ID{}) || !f.numbers[number] {
			f.Errorf("message %s is dropped, and its number is new", m.text)
		}
	case result == ordering.Late && f.opts.Late == ordering.DropLate:
		f.dropped[m.text] = true
		if f.known[m.id] {
			f.Errorf("a copy of message %s is late", m.text)
		}
	case f.known[m.id]:
		f.Errorf("message %s is emitted again: %v", m.text, result)
	default:
		if result != ordering.Held && f.emitted[m.text] != before+1 {
			f.Errorf("message %s is %v, and was not emitted", m.text, result)
		}
		f.numbers[number] = true
		if m.id != (ordering.ID{}) {
			f.known[m.id] = true
		}
	}
}

func (f *fleet) check(seed uint64) {
	for _, m := range f.all {
		n := f.emitted[m.text]
		switch {
		case n == 0 && !f.dropped[m.text]:
			f.Errorf("message %s was dropped without a report", m.text)
		case n > 1 && m.id != (ordering.ID{}):
			f.Errorf("message %s was emitted %d times", m.text, n)
		}
	}
	if f.Failed() {
		f.Fatalf("seed %d", seed)
	}
}
