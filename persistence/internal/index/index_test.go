package index_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// message is a message in the model.
type message struct {
	seq, number uint64
	priority    uint8
	state       uint8
	loc         index.Loc
	segment     uint64
	committed   bool
	moved       bool
}

func (x *message) alive() bool   { return x.state < index.Done || x.state >= index.Deferred }
func (x *message) inOrder() bool { return x.state < index.Done }

// model uses a Catalog as the log does, and keeps the messages in a simple representation.
type model struct {
	t    *testing.T
	rnd  *rand.Rand
	c    index.Catalog
	open *index.Batch
	list []*message
	last [record.Priorities]uint64
	size uint32 // of the open batch
	next uint64 // number of the next segment
}

func (m *model) begin() {
	m.open, m.size = &index.Batch{Index: index.Index{First: uint64(len(m.list)) + 1, Keep: true}}, 0
	m.c.Open = []*index.Batch{m.open}
}

func (m *model) segment() {
	m.next++
	m.c.Segments = append(m.c.Segments, &index.Segment{Number: m.next, Size: 64, Index: index.Index{First: m.open.First, Keep: true}})
}

func (m *model) add() {
	x := &message{seq: uint64(len(m.list)) + 1, loc: index.Loc{Off: m.size, Size: uint32(m.rnd.IntN(100))}}
	if m.rnd.IntN(3) == 0 {
		x.priority = uint8(m.rnd.IntN(record.Priorities))
	}
	x.number = x.seq
	if x.priority != record.Normal {
		m.last[x.priority]++
		x.number = m.last[x.priority]
	}
	m.open.AddMessage(x.loc, x.priority, x.number, uint16(x.seq%7))
	m.size += x.loc.Size + 10
	m.list = append(m.list, x)
}

// move writes again the messages that keep the oldest segment.
func (m *model) move() {
	s := m.c.Segments[0]
	if s == m.c.Active() {
		return
	}
	seqs, _, _ := m.c.Keepers(s, 0, 1<<40)
	var want []uint64
	for _, x := range m.list {
		if x.committed && x.segment == s.Number && (x.alive() || x.state == index.Dead) {
			want = append(want, x.seq)
		}
	}
	if !slices.Equal(seqs, want) {
		m.t.Fatalf("Keepers returned %v, want %v", seqs, want)
	}
	for _, seq := range seqs {
		x := m.list[seq-1]
		at := index.Loc{Off: m.size, Size: x.loc.Size}
		m.open.AddMove(seq, at)
		m.size += x.loc.Size + 10
		if m.rnd.IntN(4) == 0 { // the message ends meanwhile
			m.c.Find(seq).Set(index.Done)
			x.state = index.Done
		} else {
			x.moved, x.loc = true, at
		}
	}
	m.commit()
}

func (m *model) commit() {
	s := m.c.Active()
	off := s.Size
	s.Size += int64(m.size)
	m.c.Install(s, off, m.open, 1)
	for _, x := range m.list {
		if !x.committed || x.moved && x.segment != s.Number && m.c.Committed(x.seq).Segment == s {
			x.committed, x.segment = true, s.Number
			x.loc.Off += uint32(off)
		}
	}
	m.begin()
}

func (m *model) remove() {
	for len(m.c.Segments) > 1 && m.c.Segments[0].Alive+m.c.Segments[0].Dead == 0 {
		number := m.c.Segments[0].Number
		m.c.RemoveFirst()
		for _, x := range m.list {
			if x.committed && x.segment == number && x.state == index.Done {
				x.state = index.Lost // unknown from now on
			}
		}
	}
}

func (m *model) check() {
	m.t.Helper()
	var first [record.Priorities]uint64
	var cursor [record.Priorities]uint64
	for p := uint8(record.Urgent); ; p-- {
		for _, x := range m.list {
			if x.priority == p && x.committed && x.inOrder() {
				if first[p] == 0 {
					first[p] = x.number
				}
				if got := m.c.Next(&cursor); got != x.seq {
					m.t.Fatalf("Next returned %d, want %d", got, x.seq)
				}
				cursor[p] = x.seq
			}
		}
		if got := m.c.First(p); got != first[p] {
			m.t.Fatalf("First of priority %d is %d, want %d", p, got, first[p])
		}
		if p == record.Normal {
			break
		}
	}
	if got := m.c.Next(&cursor); got != 0 {
		m.t.Fatalf("Next returned %d after the last message", got)
	}
	for _, x := range m.list {
		r := m.c.Find(x.seq)
		switch {
		case x.state == index.Lost:
			if r.OK() && r.State() != index.Done {
				m.t.Fatalf("message %d has state %d, and its segment was removed", x.seq, r.State())
			}
			continue
		case !r.OK() || r.State() != x.state || r.Priority() != x.priority || r.Loc() != x.loc:
			m.t.Fatalf("message %+v: state %d, %+v", x, r.State(), r.Loc())
		case x.committed && r.Segment.Number != x.segment:
			m.t.Fatalf("message %+v is in segment %d", x, r.Segment.Number)
		case r.Alive() != x.alive() || r.InOrder() != x.inOrder() || r.Deferred() != (x.state >= index.Deferred) || r.Released() != (x.state == index.Released || x.state == index.DeferredReleased):
			m.t.Fatalf("message %+v: alive %v, in order %v, deferred %v, released %v", x, r.Alive(), r.InOrder(), r.Deferred(), r.Released())
		case m.c.Number(x.priority, x.seq) != x.number && x.inOrder():
			m.t.Fatalf("message %+v has Number %d", x, m.c.Number(x.priority, x.seq))
		}
	}
}

// TestCatalog applies random operations to a Catalog and to the model.
func TestCatalog(t *testing.T) {
	for seed := range uint64(20) {
		m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 1))}
		m.begin()
		m.segment()
		for range 600 {
			switch n := m.rnd.IntN(20); {
			case n < 8:
				m.add()
			case n < 11:
				m.commit()
			case n < 12:
				m.commit()
				m.segment()
			case n < 18 && len(m.list) > 0:
				x := m.list[m.rnd.IntN(len(m.list))]
				if n < 16 { // usually the oldest, so that segments are removed
					if i := slices.IndexFunc(m.list, func(x *message) bool { return x.alive() || x.state == index.Dead }); i >= 0 {
						x = m.list[i]
					}
				}
				to := []uint8{index.Done, index.Done, index.Dead, index.Released, index.Deferred}[m.rnd.IntN(5)]
				switch {
				case to == index.Deferred && x.state != index.Pending, to == index.Released && x.state == index.DeferredReleased:
					to = x.state
				case to == index.Released && x.state == index.Deferred:
					to = index.DeferredReleased
				}
				if x.alive() && to != x.state || x.state == index.Dead && to == index.Done {
					m.c.Find(x.seq).Set(to)
					x.state = to
				}
			case n == 18:
				m.move()
			case m.rnd.IntN(10) == 0:
				m.c.Unrelease()
				for _, x := range m.list {
					switch x.state {
					case index.Released:
						x.state = index.Pending
					case index.DeferredReleased:
						x.state = index.Deferred
					}
				}
			}
			m.remove()
			m.check()
		}
		if m.c.Segments[0].Number == 1 {
			t.Errorf("seed %d: no segment was removed", seed)
		}
	}
}

// TestIndex_Cut checks that the messages from an offset on can be moved to another segment.
func TestIndex_Cut(t *testing.T) {
	var x index.Index
	x.First = 5
	for i := range uint32(10) {
		x.Add(index.Loc{Off: 64 + i*10, Size: i}, 0, 0)
	}
	tail := x.Cut(64 + 65)
	if x.End() != 12 || x.Alive != 7 || tail.First != 12 || tail.End() != 15 || tail.Alive != 3 || tail.Locs[0] != (index.Loc{Off: 134, Size: 7}) {
		t.Errorf("%+v, %+v", x, tail)
	}
	y := index.Index{First: 12}
	y.AddAll(&tail, -70)
	if y.Locs[2].Off != 84 || y.Alive != 3 {
		t.Errorf("%+v", y)
	}
	y.AddLost(17)
	if y.End() != 17 || y.Alive != 3 {
		t.Errorf("%+v", y)
	}
}

// TestIndex_CutBeforeTheHead cuts before the place where the last search began. A message that is
// added after the cut must be found.
func TestIndex_CutBeforeTheHead(t *testing.T) {
	s := &index.Segment{Number: 1, Index: index.Index{First: 1}}
	c := index.Catalog{Segments: []*index.Segment{s}}
	for i := range uint32(10) {
		s.Add(index.Loc{Off: 64 + i*10}, 0, 0)
		if i < 9 {
			c.Find(uint64(i + 1)).Set(index.Done)
		}
	}
	if got := c.First(record.Normal); got != 10 {
		t.Fatalf("the first message is %d", got)
	}
	s.Cut(64 + 50)
	s.Add(index.Loc{Off: 200}, 0, 0)
	if got := c.First(record.Normal); got != 6 {
		t.Errorf("the first message is %d, want 6", got)
	}
}

// TestCatalog_Results checks which results of a segment are known, for messages that were first
// written there and for messages that were moved there.
func TestCatalog_Results(t *testing.T) {
	first := &index.Segment{Number: 1, Index: index.Index{First: 1, Keep: true}}
	second := &index.Segment{Number: 2, Index: index.Index{First: 4, Keep: true}}
	c := index.Catalog{Segments: []*index.Segment{first, second}}
	for i := range uint32(3) {
		first.Add(index.Loc{Off: 64 + i}, 0, uint16(i))
	}
	second.Add(index.Loc{Off: 64}, 0, 1)
	c.Move(2, second, index.Loc{Off: 70}, 0, index.Pending)
	for _, seq := range []uint64{1, 2, 4} {
		r := c.Find(seq)
		r.SetResult(record.Result{Kind: record.Acked, Reason: uint8(seq)}, int64(seq))
		r.Set(index.Done)
	}
	for _, x := range []struct {
		s     *index.Segment
		seq   uint64
		moved bool
		want  bool
	}{{first, 1, false, true}, {first, 2, false, false}, {first, 3, false, false}, {second, 2, true, true}, {second, 2, false, false}, {second, 4, false, true}, {second, 5, false, false}} {
		e, ok := c.Results(x.s)(x.seq, x.moved)
		if ok != x.want || ok && (e.Result.Reason != uint8(x.seq) || e.At != int64(x.seq)) {
			t.Errorf("segment %d, message %d, moved %v: %+v, %v", x.s.Number, x.seq, x.moved, e, ok)
		}
	}
	if got := c.ByPrint(1); !slices.Equal(got, []uint64{4, 2}) {
		t.Errorf("the messages with fingerprint 1 are %v", got)
	}
}
