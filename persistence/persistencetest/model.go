package persistencetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
)

// model is the expected state of a store, in a simple representation.
type model struct {
	o        persistence.Options
	messages []*modelMessage // by sequence
	numbers  [persistence.Priorities]uint64
	sent     [persistence.Priorities]uint64
	releases []*modelMessage // in the order of the calls
	owner    string
	totals   map[persistence.ResultKind]uint64
	seen     map[uint16]uint64
	streams  []string
	last     map[string]uint64
	drops    []persistence.Drop // expected drops since the last comparison
	reported []persistence.Drop // reported drops since the last comparison
	dropper  bool               // the store drops messages
}

type modelMessage struct {
	seq, number uint64
	priority    persistence.Priority
	key         string
	pending     bool
	released    bool
	deferral    *persistence.Deferral
	dead        bool
	outcome     persistence.Result
}

const (
	modelMessages    = 25
	modelDeadLetters = 3
	modelReceipts    = 20
)

// testModel applies random operations and restarts to a store and to the model, and compares the two.
func testModel(t *testing.T, open Open) {
	for seed := range uint64(6) {
		o := persistence.Options{Files: persistence.Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}, Limits: persistence.Limits{MaxStreams: 5},
			Retention: persistence.Retention{MaxDeadLetters: modelDeadLetters, MaxReceipts: modelReceipts}}
		if seed%2 == 1 {
			o.Limits.WhenFull, o.Limits.MaxMessages = persistence.DropOldest, modelMessages
		}
		if seed > 3 {
			o.Retention.MaxReceipts = 0
		}
		runModel(t, open, o, rand.New(rand.NewPCG(seed, seed)), 1500)
	}
}

func runModel(t *testing.T, open Open, o persistence.Options, rnd *rand.Rand, steps int) {
	m := &model{o: o, totals: map[persistence.ResultKind]uint64{}, seen: map[uint16]uint64{}, last: map[string]uint64{}}
	s, reopen := open(t, o)
	m.dropper = drops(t, open)
	for range steps {
		switch p := rnd.IntN(100); {
		case p < 45:
			m.append(t, s, rnd)
		case p < 68 && len(m.messages) > 0:
			m.done(t, s, rnd, p < 60)
		case p < 76 && len(m.messages) > 0:
			one := m.any(rnd)
			if one.deferral != nil && one.deferral.PacketID == 0 {
				continue // the message was not sent
			}
			must(t, s.Release(one.seq))
			if one.pending && !one.released {
				one.released = true
				m.releases = append(m.releases, one)
			}
		case p < 77 && len(m.messages) > 0:
			one, d := m.any(rnd), refusal(1+rnd.IntN(9))
			must(t, s.Defer(one.seq, d))
			if one.pending && !one.released {
				one.deferral = &d
			}
		case p < 79:
			p := persistence.Priority(rnd.IntN(persistence.Priorities))
			number := max(m.sent[p], rnd.Uint64N(m.numbersOf(p)+1)/2)
			if rnd.IntN(3) == 0 {
				number = rnd.Uint64N(m.sent[p] + 2)
			}
			must(t, s.SetSent(p, number))
			m.sent[p] = number
		case p < 81 && len(m.messages) > 0:
			one := m.any(rnd)
			if kept, ok := s.(persistence.DeadLetters); ok {
				must(t, kept.Discard(one.seq))
				one.dead = false
			}
		case p < 86:
			id := uint16(1 + rnd.IntN(20))
			m.seen[id] = 1 + rnd.Uint64N(3)
			must(t, s.Seen(id, m.seen[id]))
		case p < 92:
			id := uint16(1 + rnd.IntN(20))
			must(t, s.Cleared(id))
			delete(m.seen, id)
		case p < 93:
			m.owner = string(rune('a' + rnd.IntN(3)))
			must(t, s.ResetSession(m.owner))
			clear(m.seen)
			m.releases = nil
			m.sent = [persistence.Priorities]uint64{}
			for _, one := range m.messages {
				one.released = false
				if one.deferral != nil {
					one.deferral.PacketID = 0
				}
			}
		case p < 95:
			m.compare(t, s)
		case p < 97:
			must(t, s.Sync())
		case p < 98:
			s = reopen()
			m.compare(t, s)
		}
	}
	m.compare(t, s)
}

func (m *model) any(rnd *rand.Rand) *modelMessage { return m.messages[rnd.IntN(len(m.messages))] }

func (m *model) numbersOf(p persistence.Priority) uint64 {
	if p == persistence.Normal {
		return uint64(len(m.messages))
	}
	return m.numbers[p]
}

func (m *model) droppable(one *modelMessage) bool {
	if one.deferral != nil {
		return one.pending && !one.released && one.deferral.PacketID == 0
	}
	return one.pending && !one.released && one.number > m.sent[one.priority]
}

func (m *model) end(one *modelMessage, o persistence.Result) {
	if !one.pending {
		return
	}
	one.pending, one.released, one.deferral, one.outcome = false, false, nil, o
	m.totals[o.Kind]++
	if o.Kind != persistence.DeadLettered {
		return
	}
	one.dead = true
	if dead := m.deadLetters(); len(dead) > modelDeadLetters {
		m.messages[dead[0]-1].dead = false
	}
}

func (m *model) deadLetters() (seqs []uint64) {
	for _, one := range m.messages {
		if one.dead {
			seqs = append(seqs, one.seq)
		}
	}
	return seqs
}

func (m *model) done(t *testing.T, s persistence.Store, rnd *rand.Rand, oldest bool) {
	t.Helper()
	one := m.any(rnd)
	if oldest { // the usual choice, so that old messages end
		if i := slices.IndexFunc(m.messages, func(one *modelMessage) bool { return one.pending }); i >= 0 {
			one = m.messages[i]
		}
	}
	o := persistence.Result{Kind: persistence.Acked + persistence.ResultKind(rnd.IntN(5)), Reason: byte(rnd.IntN(256))}
	must(t, s.Done(one.seq, o))
	m.end(one, o)
}

// order returns the pending messages in the order of Next.
func (m *model) order() (list []*modelMessage) {
	for p := persistence.Urgent; ; p-- {
		for _, one := range m.messages {
			if one.pending && one.deferral == nil && one.priority == p {
				list = append(list, one)
			}
		}
		if p == persistence.Normal {
			return list
		}
	}
}

func (m *model) deferred() map[uint64]persistence.Deferral {
	list := map[uint64]persistence.Deferral{}
	for _, one := range m.messages {
		if one.deferral != nil {
			list[one.seq] = *one.deferral
		}
	}
	return list
}

// full makes room for a new message of priority p. If the model is full, it drops an older message.
// It returns true if the model is full and no message can be dropped.
func (m *model) full(p persistence.Priority) bool {
	if m.o.Limits.MaxMessages == 0 || len(m.order())+len(m.deferred()) < m.o.Limits.MaxMessages {
		return false
	}
	for level := persistence.Normal; level <= p && m.dropper; level++ {
		for _, one := range m.messages {
			if one.priority == level && one.deferral == nil && m.droppable(one) {
				m.drop(one, persistence.DroppedOldest)
				return false
			}
		}
	}
	return true
}

func (m *model) drop(one *modelMessage, cause persistence.DropCause) {
	m.end(one, persistence.Result{Kind: persistence.Dropped})
	m.drops = append(m.drops, persistence.Drop{Seq: one.seq, Cause: cause, Priority: one.priority})
}

func (m *model) append(t *testing.T, s persistence.Store, rnd *rand.Rand) {
	t.Helper()
	one := &modelMessage{seq: uint64(len(m.messages)) + 1, pending: true}
	msg := message(one.seq, rnd.IntN(400))
	if rnd.IntN(3) == 0 {
		one.priority = persistence.Priority(rnd.IntN(persistence.Priorities))
	}
	if rnd.IntN(4) == 0 {
		one.key = string(rune('k' + rnd.IntN(3)))
	}
	msg.Priority, msg.Key = one.priority, one.key
	var stream string
	if rnd.IntN(2) == 0 {
		stream = string(rune('a' + rnd.IntN(5)))
		id, last, err := s.Stream(stream)
		must(t, err)
		expect(t, "last of "+stream, last, m.last[stream])
		if !slices.Contains(m.streams, stream) {
			m.streams = append(m.streams, stream)
		}
		msg.Stream, msg.StreamSeq = id, last+1
	}
	var older *modelMessage
	for _, other := range m.messages {
		if m.dropper && one.key != "" && other.key == one.key {
			older = other
		}
	}
	replaces := older != nil && m.droppable(older)
	full := !replaces && m.full(one.priority)
	ticket, err := s.Enqueue(context.Background(), msg)
	m.reported = append(m.reported, ticket.Drops...)
	if full {
		expect(t, "no message can be dropped: ErrFull", errors.Is(err, persistence.ErrFull), true)
		return
	}
	must(t, err)
	must(t, s.Wait(context.Background(), ticket))
	expect(t, "sequence", ticket.Seq, one.seq)
	if replaces {
		m.drop(older, persistence.Conflated)
	}
	if stream != "" {
		m.last[stream]++
	}
	m.messages = append(m.messages, one)
	one.number = one.seq
	if one.priority != persistence.Normal {
		m.numbers[one.priority]++
		one.number = m.numbers[one.priority]
	}
}
