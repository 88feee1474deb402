package persistencetest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
)

// model is what a store must look like, kept in the simplest way.
type model struct {
	next    uint64
	pending map[uint64]bool // true: released
	totals  map[persistence.OutcomeKind]uint64
	seen    map[uint16]bool
	streams []string
	last    map[string]uint64
	boot    uint64
}

// testModel does random things to a store and to the model, with restarts at
// random, and compares.
func testModel(t *testing.T, open Open) {
	for _, seed := range []uint64{1, 2, 3, 4} {
		runModel(t, open, rand.New(rand.NewPCG(seed, seed)), 1500)
	}
}

func runModel(t *testing.T, open Open, rnd *rand.Rand, steps int) {
	s, reopen := open(t, persistence.Options{SegmentBytes: 4 << 10, BufferBytes: 4 << 10, MaxStreams: 5})
	m := &model{
		pending: map[uint64]bool{}, totals: map[persistence.OutcomeKind]uint64{},
		seen: map[uint16]bool{}, last: map[string]uint64{}, boot: 1,
	}
	for range steps {
		switch p := rnd.IntN(100); {
		case p < 45:
			m.append(t, s, rnd)
		case p < 70 && m.next > 0:
			seq := 1 + rnd.Uint64N(m.next)
			if p < 60 { // mostly the oldest, so that segments go
				seq = slices.Min(append(slices.Collect(maps.Keys(m.pending)), seq))
			}
			o := persistence.Outcome{Kind: persistence.Acked + persistence.OutcomeKind(rnd.IntN(4))}
			must(t, s.Done(seq, o))
			if _, there := m.pending[seq]; there {
				delete(m.pending, seq)
				m.totals[o.Kind]++
			}
		case p < 80 && m.next > 0:
			seq := 1 + rnd.Uint64N(m.next)
			must(t, s.Release(seq))
			if _, there := m.pending[seq]; there {
				m.pending[seq] = true
			}
		case p < 86:
			id := uint16(1 + rnd.IntN(20))
			must(t, s.Seen(id))
			m.seen[id] = true
		case p < 92:
			id := uint16(1 + rnd.IntN(20))
			must(t, s.Cleared(id))
			delete(m.seen, id)
		case p < 93:
			must(t, s.ResetSession())
			clear(m.seen)
			for seq := range m.pending {
				m.pending[seq] = false
			}
		case p < 95:
			m.compare(t, s)
		case p < 97:
			must(t, s.Sync())
		case p < 98:
			s = reopen()
			m.boot++
			m.compare(t, s)
		}
	}
	m.compare(t, s)
}

func (m *model) append(t *testing.T, s persistence.Store, rnd *rand.Rand) {
	t.Helper()
	msg := message(m.next+1, rnd.IntN(400))
	if rnd.IntN(2) == 0 {
		name := string(rune('a' + rnd.IntN(5)))
		id, last, err := s.Stream(name)
		must(t, err)
		expect(t, "last of "+name, last, m.last[name])
		if !slices.Contains(m.streams, name) {
			m.streams = append(m.streams, name)
		}
		msg.Stream, msg.StreamSeq = id, last+1
		m.last[name]++
	}
	seq, err := s.Append(msg)
	must(t, err)
	m.next++
	expect(t, "sequence", seq, m.next)
	m.pending[seq] = false
}

func (m *model) compare(t *testing.T, s persistence.Store) {
	t.Helper()
	expectList(t, "pending", drain(t, s), slices.Sorted(maps.Keys(m.pending)))
	for _, seq := range released(t, s) {
		expect(t, "released", m.pending[seq], true)
	}
	n := 0
	for _, rel := range m.pending {
		if rel {
			n++
		}
	}
	expect(t, "number released", len(released(t, s)), n)
	expectList(t, "SeenIDs", s.SeenIDs(), slices.Sorted(maps.Keys(m.seen)))
	var names []string
	s.Streams(func(name string, _ uint32, last uint64) bool {
		names = append(names, name)
		expect(t, "last of "+name, last, m.last[name])
		return true
	})
	expectList(t, "Streams", names, m.streams)
	c := sum(t, s)
	expect(t, "Accepted", c.Accepted, m.next)
	expect(t, "Acked", c.Acked, m.totals[persistence.Acked])
	expect(t, "Refused", c.Refused, m.totals[persistence.Refused])
	expect(t, "Expired", c.Expired, m.totals[persistence.Expired])
	expect(t, "Dropped", c.Dropped, m.totals[persistence.Dropped])
	expect(t, "Lost", c.Lost, 0)
	expect(t, "Corruptions", c.Corruptions, 0)
	expect(t, "TornTails", c.TornTails, 0)
	expect(t, "Boot", s.Boot(), m.boot)
}
