package persistence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// actor calls the methods of the log as a client does, one after the other. It records in the model
// what each call guarantees.
type actor struct {
	*program
	publisher   uint8
	n           uint32
	live        []uint64            // its messages that are not done, ascending
	about       map[uint64]*message // what is known about them
	deadLetters []uint64            // dead letters that are kept, ascending
	sent        [Priorities]uint64
	resets      int

	byCommit, bySync []func(*model) // changes that the next commit, or the next Sync, makes durable
}

func (a *actor) strict() bool { return a.o.Sync == SyncEveryCommit }

// confirm records that all changes are durable.
func (a *actor) confirm() {
	changes := append(a.byCommit, a.bySync...)
	a.byCommit, a.bySync = nil, nil
	a.note(func(m *model) {
		for _, change := range changes {
			change(m)
		}
	})
}

// append stores a message. If stream is not empty, it is the next message of that stream.
func (a *actor) append(size int, stream string, as looks) error {
	wait, err := a.enqueue(size, stream, as)
	if errors.Is(err, ErrFull) && a.o.Limits.WhenFull == DropOldest {
		return nil // no stored message may be dropped
	}
	if err == nil {
		err = wait()
	}
	return err
}

func (a *actor) enqueue(size int, stream string, as looks) (wait func() error, err error) {
	a.n++
	x := message{key: key{a.publisher, a.n}, looks: as}
	msg := x.message(size, as)
	if stream != "" {
		a.note(func(m *model) {
			if _, known := m.streams[stream]; !known {
				m.streams[stream] = span{}
			}
		})
		id, last, err := a.l.Stream(stream)
		if err != nil {
			return nil, err
		}
		msg.Stream, msg.StreamSeq = id, last+1
	}
	a.note(func(m *model) {
		m.tried[x.key] = true
		m.lastSeq.high++
		if as.priority != Normal {
			m.highest[as.priority].high++
		}
		if m.o.Retention.MaxReceipts > 0 {
			m.known[x.key] = true
		}
		if stream != "" {
			r := m.streams[stream]
			m.streams[stream] = span{r.low, msg.StreamSeq}
		}
	})
	before := a.fsys.Len()
	t, err := a.l.Enqueue(context.Background(), msg)
	if err == nil {
		x.seq = t.Seq
		a.note(func(m *model) { m.given[t.Seq] = x.key })
	}
	if a.o.Limits.WhenFull == DropOldest {
		if dropped := a.dropped(x, t.Drops, before); dropped != nil {
			return nil, dropped
		}
	}
	if err != nil {
		return nil, err
	}
	done := a.byCommit
	return func() error {
		if err := a.l.Wait(context.Background(), t); err != nil {
			return err
		}
		a.live = append(a.live, t.Seq)
		if a.strict() {
			a.byCommit = a.byCommit[len(done):]
		}
		return a.accepted(&x, stream, msg, done)
	}, nil
}

// accepted records what Wait guarantees: the message is durable, and so are the other records of
// the same commit.
func (a *actor) accepted(x *message, stream string, msg *Message, done []func(*model)) error {
	strict := a.strict()
	if a.about != nil && a.publisher == 0 {
		a.about[x.seq] = x
	}
	if x.number = x.seq; x.priority != Normal {
		var e Entry
		if ok, err := a.l.Get(x.seq, &e); !ok || err != nil {
			return violation{fmt.Errorf("message %d was accepted and is not there: %w", x.seq, err)}
		}
		x.number = e.Number
	}
	a.note(func(m *model) {
		m.numbers[x.seq] = x.number
		if stream != "" {
			m.used[stream] = max(m.used[stream], msg.StreamSeq)
		}
		if !strict {
			m.loose[x.seq] = true
			return
		}
		m.keep(x.seq)
		if x.priority != Normal {
			m.highest[x.priority].low = max(m.highest[x.priority].low, x.number)
		}
		if stream != "" {
			r := m.streams[stream]
			m.streams[stream] = span{max(r.low, msg.StreamSeq), r.high}
			m.ids[stream] = msg.Stream
		}
		for _, change := range done {
			change(m)
		}
	})
	return nil
}

// done ends the i-th message that is not done.
func (a *actor) done(i int, kind ResultKind) error {
	seq := a.live[i]
	a.ends(seq, Result{kind, byte(seq)})
	return a.l.Done(seq, Result{kind, byte(seq)})
}

// ends records that a message ends, and which dead letter is discarded for it.
func (a *actor) ends(seq uint64, o Result) {
	a.live = slices.DeleteFunc(slices.Clone(a.live), func(s uint64) bool { return s == seq })
	a.note(func(m *model) { m.end(seq, o) })
	a.byCommit = append(a.byCommit, func(m *model) { m.ended(seq, o) })
	if o.Kind != DeadLettered {
		return
	}
	i, _ := slices.BinarySearch(a.deadLetters, seq)
	a.deadLetters = slices.Insert(a.deadLetters, i, seq)
	for len(a.deadLetters) > a.start.o.Retention.MaxDeadLetters {
		a.discards(0)
	}
}

// discards records that a dead letter is discarded.
func (a *actor) discards(i int) {
	seq := a.deadLetters[i]
	a.deadLetters = slices.Delete(a.deadLetters, i, i+1)
	a.note(func(m *model) { m.dead[seq] = m.dead[seq].may(false) })
	a.byCommit = append(a.byCommit, func(m *model) { m.dead[seq] = exactly(false) })
}

func (a *actor) discard(i int) error {
	seq := a.deadLetters[i]
	a.discards(i)
	return a.l.Discard(seq)
}

func (a *actor) release(i int) error {
	seq := a.live[i]
	if x := a.about[seq]; x != nil {
		x.released = true
	}
	a.releasing.Lock() // makes the recorded order that of the calls
	defer a.releasing.Unlock()
	a.note(func(m *model) {
		m.released[seq] = m.released[seq].or(false).may(true)
		m.release(seq)
	})
	a.bySync = append(a.bySync, func(m *model) { m.released[seq] = exactly(true) })
	return a.l.Release(seq)
}

// postpone defers the i-th message that is not done. This has no effect on a released message.
func (a *actor) postpone(i int) error {
	seq, rnd := a.live[i], a.rnd
	d := Deferral{Since: time.UnixMilli(1_700_000_000_000 + rnd.Int64N(1000)), Until: time.UnixMilli(1_700_000_001_000 + rnd.Int64N(1000)),
		Attempts: rnd.IntN(300), Code: byte(rnd.IntN(256)), Alone: rnd.IntN(2) == 0, PacketID: uint16(rnd.IntN(3)), RefusedID: uint16(rnd.IntN(3))}
	if x := a.about[seq]; x == nil || !x.released {
		a.note(func(m *model) { m.defers(seq, d) })
		a.bySync = append(a.bySync, func(m *model) { m.deferred(seq, d) })
	}
	return a.l.Defer(seq, d)
}

// raise raises the sent watermark to one of the live messages. It is durable on return.
func (a *actor) raise(i int) error {
	x := a.about[a.live[i]]
	if x == nil {
		return nil
	}
	p := x.priority
	n := max(x.number, a.l.Sent(p))
	a.note(func(m *model) { m.sent[p].high = max(m.sent[p].high, n) })
	marked := func(m *model) {
		m.sent[p] = span{max(m.sent[p].low, n), max(m.sent[p].high, n)}
	}
	if err := a.l.SetSent(p, n); err != nil {
		return err
	}
	a.sent[p] = max(a.sent[p], n)
	if a.strict() {
		a.note(marked)
	} else {
		a.bySync = append(a.bySync, marked)
	}
	return nil
}

// lower lowers the sent watermark of each priority to the last message that was really sent, or to
// 0. It is durable on return.
func (a *actor) lower(i int) error {
	var sent [Priorities]uint64
	for _, seq := range a.live[:i] {
		if x := a.about[seq]; x != nil && x.number <= a.sent[x.priority] {
			sent[x.priority] = max(sent[x.priority], x.number)
		}
	}
	for p, n := range sent {
		if a.sent[p] = n; n >= a.l.Sent(Priority(p)) {
			continue
		}
		a.note(func(m *model) { m.sent[p].low = min(m.sent[p].low, n) })
		unmarked := func(m *model) { m.sent[p] = span{min(m.sent[p].low, n), min(m.sent[p].high, n)} }
		if err := a.l.SetSent(Priority(p), n); err != nil {
			return err
		}
		if a.strict() {
			a.note(unmarked)
		} else {
			a.bySync = append(a.bySync, unmarked)
		}
	}
	return nil
}

// see records an identifier as seen with a fingerprint, or as cleared if the fingerprint is 0.
func (a *actor) see(id uint16, fingerprint uint64) error {
	a.note(func(m *model) {
		before := m.seen[id]
		if before == nil {
			before = []uint64{0}
		}
		m.seen[id] = slices.Concat(before, []uint64{fingerprint})
	})
	a.bySync = append(a.bySync, func(m *model) { m.seen[id] = []uint64{fingerprint} })
	if fingerprint != 0 {
		return a.l.Seen(id, fingerprint)
	}
	return a.l.Cleared(id)
}

// reset begins a new session. It ends the messages that may have been sent and have the policy
// FailInFlight. It is durable on return.
func (a *actor) reset() error {
	id := string(rune('a' + a.rnd.IntN(4))) // a, b, c, or d, which becomes empty
	if id == "d" {
		id = ""
	} else {
		a.resets++
		id += fmt.Sprint(a.n, " ", a.resets) // unique
	}
	var failed []uint64
	for i := len(a.live) - 1; i >= 0; i-- {
		x := a.about[a.live[i]]
		if x == nil || x.number > a.sent[x.priority] || x.key.message(0, x.looks).OnSessionLost != FailInFlight {
			continue
		}
		failed = append(failed, x.seq)
		if err := a.done(i, Dropped); err != nil {
			return err
		}
	}
	a.note(func(m *model) {
		m.reset(can.may)
		m.owners[id] = true
		if id != "" {
			m.failed[id] = failed
		}
		m.releases = append(m.releases, nil)
	})
	a.bySync = append(a.bySync, func(m *model) {
		m.reset(func(_ can, value bool) can { return exactly(value) })
		m.owners = map[string]bool{id: true}
	})
	a.sent = [Priorities]uint64{}
	for _, x := range a.about {
		x.released = false
	}
	if err := a.l.ResetSession(id); err != nil {
		return err
	}
	if a.strict() {
		a.confirm()
	}
	return nil
}

func (a *actor) sync() error {
	if err := a.l.Sync(); err != nil {
		return err
	}
	if a.strict() {
		a.confirm()
	}
	return nil
}
