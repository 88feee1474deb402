package persistencetest

import (
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
)

// compare compares a store with the model.
func (m *model) compare(t *testing.T, s persistence.Store) {
	t.Helper()
	m.compareMessages(t, s)
	expectList(t, "drops", m.reported, m.drops)
	m.reported, m.drops = nil, nil
	var released []persistence.Position
	for _, one := range m.releases {
		if one.released {
			at := persistence.Position{Seq: one.seq, Number: one.number, Priority: one.priority}
			if one.deferral != nil && one.deferral.PacketID != 0 {
				at.Number, at.PacketID = 0, one.deferral.PacketID
			}
			released = append(released, at)
		}
	}
	expectList(t, "Released", releases(s), released)
	expectSession(t, s, m.owner, m.owner != "")
	expectSeen(t, s, m.seen)
	for _, name := range m.streams {
		_, last, err := s.Stream(name)
		must(t, err)
		expect(t, "last of "+name, last, m.last[name])
	}
	c := sum(t, s)
	expect(t, "Accepted", c.Accepted, uint64(len(m.messages)))
	expect(t, "Acked", c.Acked, m.totals[persistence.Acked])
	expect(t, "Refused", c.Refused, m.totals[persistence.Refused])
	expect(t, "Expired", c.Expired, m.totals[persistence.Expired])
	expect(t, "Dropped", c.Dropped, m.totals[persistence.Dropped])
	expect(t, "DeadLettered", c.DeadLettered, m.totals[persistence.DeadLettered])
	expect(t, "Lost", c.Lost, 0)
	expect(t, "Corruptions", c.Corruptions, 0)
	expect(t, "TornTails", c.TornTails, 0)
}

func (m *model) compareMessages(t *testing.T, s persistence.Store) {
	t.Helper()
	var c persistence.Cursor
	var e persistence.Entry
	var first, count [persistence.Priorities]uint64
	for _, want := range m.order() {
		ok, err := s.Next(&c, &e)
		must(t, err)
		if !ok || e.Seq != want.seq || e.Number != want.number || e.Priority != want.priority || e.Released != want.released {
			t.Fatalf("Next = %v, %+v; want %+v", ok, e, want)
		}
		checkContent(t, &e)
		if count[e.Priority]++; count[e.Priority] == 1 {
			first[e.Priority] = e.Number
		}
		c.Pass(&e)
	}
	ok, err := s.Next(&c, &e)
	must(t, err)
	expect(t, "Next after the last", ok, false)
	for _, one := range m.messages {
		if one.deferral != nil {
			count[one.priority]++
		}
	}
	expect(t, "PendingOf", s.Stats().PendingOf, count)
	expectDeferred(t, s, m.deferred())
	for p := range persistence.Priority(persistence.Priorities) {
		expect(t, "First", s.First(p), first[p])
		expect(t, "Sent", s.Sent(p), m.sent[p])
	}
	m.compareDeadLetters(t, s)
	for _, one := range m.messages {
		ok, err := s.Get(one.seq, &e)
		must(t, err)
		expect(t, "Get", ok, one.pending)
		if ok {
			checkContent(t, &e)
		}
		if len(m.messages)-int(one.seq) < 60 {
			m.compareReceipt(t, s, one)
		}
	}
}

func (m *model) compareDeadLetters(t *testing.T, s persistence.Store) {
	t.Helper()
	kept, ok := s.(persistence.DeadLetters)
	if !ok {
		return
	}
	expect(t, "Stats.DeadLetters", s.Stats().DeadLetters, uint64(len(m.deadLetters())))
	var dead []uint64
	must(t, kept.DeadLetters(func(e *persistence.Entry, reason byte) bool {
		checkContent(t, e)
		expect(t, "reason", reason, m.messages[e.Seq-1].outcome.Reason)
		dead = append(dead, e.Seq)
		return true
	}))
	expectList(t, "dead letters", dead, m.deadLetters())
}

// compareReceipt checks that any receipt is correct. It also checks that there is a receipt if the
// message is pending, a dead letter or among the newest.
func (m *model) compareReceipt(t *testing.T, s persistence.Store, one *modelMessage) {
	t.Helper()
	receipts, ok := s.(persistence.Receipts)
	if !ok {
		return
	}
	r, ok, err := receipts.Receipt(message(one.seq, 0).ID)
	must(t, err)
	if m.o.Retention.MaxReceipts == 0 && !one.pending {
		expect(t, "a receipt of an ended message without MaxReceipts", ok, false)
		return
	}
	if !ok && !one.pending && !one.dead && len(m.messages)-int(one.seq) >= modelReceipts {
		return
	}
	if !ok || r.Seq != one.seq || r.Result != one.outcome || r.At.IsZero() != one.pending {
		t.Fatalf("Receipt = %+v, %v; want %+v", r, ok, one)
	}
	var want persistence.Deferral
	if one.pending && one.deferral != nil {
		want = *one.deferral
	}
	if !sameDeferral(r.Deferral, want) {
		t.Fatalf("the Deferral of the Receipt is %+v, want %+v", r.Deferral, want)
	}
}
