package persistence

import (
	"errors"
	"fmt"
	"slices"
)

// check returns an error if the log breaks a guarantee.
func (m *model) check(s *shown) error {
	c := checker{m: m, shown: s, there: map[uint64]bool{}, seqs: map[key]uint64{}}
	c.messages()
	c.deadLetters()
	c.drops()
	c.session()
	c.streams()
	c.counters()
	if m.o.Retention.MaxReceipts > 0 {
		c.receipts()
	}
	return errors.Join(c.errs...)
}

type checker struct {
	m *model
	*shown
	there map[uint64]bool // messages that are not done
	seqs  map[key]uint64  // sequences of all messages that the log has returned
	errs  []error
}

func (c *checker) wrong(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *checker) messages() {
	m := c.m
	type line struct {
		p         Priority
		publisher uint8
	}
	var last, number [Priorities]uint64
	order := map[line]uint32{}
	overtaken := Urgent
	for _, x := range c.shown.messages {
		p, seq := x.priority, x.seq
		c.there[seq] = true
		c.same(x)
		if p > overtaken {
			c.wrong("message %d of priority %d comes after one of %d", seq, p, overtaken)
		}
		overtaken = p
		if seq <= last[p] || seq > c.lastSeq || x.number <= number[p] {
			c.wrong("message %d, number %d, comes after %d, number %d; the last one is %d", seq, x.number, last[p], number[p], c.lastSeq)
		}
		if p == Normal && x.number != seq || p != Normal && x.number > c.highest[p] {
			c.wrong("message %d has number %d of priority %d, of which %d were given out", seq, x.number, p, c.highest[p])
		}
		last[p], number[p] = seq, x.number
		if l := (line{p, x.publisher}); x.n <= order[l] {
			c.wrong("message %d is number %d of its publisher, after %d", seq, x.n, order[l])
		} else {
			order[l] = x.n
		}
		if m.gone[seq] {
			c.wrong("message %d is back", seq)
		}
		if !m.released[seq].allows(x.released) {
			c.wrong("message %d: released: %t", seq, x.released)
		}
	}
	for _, x := range c.shown.deferred {
		c.there[x.seq] = true
		c.same(x)
		if m.gone[x.seq] || x.seq > c.lastSeq || !m.released[x.seq].allows(x.released) {
			c.wrong("the deferred message %d is back: %t; the last is %d; released: %t", x.seq, m.gone[x.seq], c.lastSeq, x.released)
		}
	}
	for _, x := range slices.Concat(c.shown.messages, c.shown.deferred) {
		if may := m.deferrals[x.seq]; may == nil && x.deferral != (Deferral{}) || may != nil && !slices.Contains(may, x.deferral) {
			c.wrong("message %d has the deferral %+v, not one of %+v", x.seq, x.deferral, may)
		}
	}
	for seq := range m.kept {
		if m.ending[seq].Kind == 0 && !c.there[seq] {
			c.wrong("message %d is lost", seq)
		}
	}
	for seq := range m.loose {
		if m.ending[seq].Kind == 0 && !c.there[seq] && seq <= c.lastSeq {
			c.wrong("message %d is lost before %d", seq, c.lastSeq)
		}
	}
}

// same compares a message, pending or dead, with what is known about it.
func (c *checker) same(x message) {
	m := c.m
	c.seqs[x.key] = x.seq
	if given, ok := m.given[x.seq]; ok && given != x.key {
		c.wrong("message %d is %v, but it was %v", x.seq, x.key, given)
	}
	if !m.tried[x.key] {
		c.wrong("message %d (%v) was never stored, or not there any more", x.seq, x.key)
	}
	if n, ok := m.numbers[x.seq]; ok && n != x.number && (x.number != 0 || x.deferral == Deferral{}) {
		c.wrong("message %d has number %d, it was %d", x.seq, x.number, n)
	}
}

func (c *checker) deadLetters() {
	m, kept, last := c.m, map[uint64]bool{}, uint64(0)
	for _, x := range c.dead {
		c.same(x)
		kept[x.seq] = true
		if x.seq <= last || c.there[x.seq] {
			c.wrong("the dead letter %d comes after %d; pending: %t", x.seq, last, c.there[x.seq])
		}
		last = x.seq
		if !m.dead[x.seq].allows(true) || m.ending[x.seq] != (Result{DeadLettered, x.reason}) {
			c.wrong("message %d is a dead letter for reason %d; it ended as %+v", x.seq, x.reason, m.ending[x.seq])
		}
	}
	for seq, may := range m.dead {
		if !may.allows(kept[seq]) {
			c.wrong("message %d is a dead letter: %t", seq, kept[seq])
		}
	}
	if len(c.dead) > m.o.Retention.MaxDeadLetters || uint64(len(c.dead)) != c.stats.DeadLetters {
		c.wrong("%d dead letters, %d counted, at most %d are kept", len(c.dead), c.stats.DeadLetters, m.o.Retention.MaxDeadLetters)
	}
}

// drops checks pairs of a dropped message and the message that it was dropped for. At least one of
// the two must exist.
func (c *checker) drops() {
	for older, newer := range c.m.madeRoom {
		if !c.there[older] && !c.there[newer] && c.m.ending[newer].Kind == 0 {
			c.wrong("message %d was dropped for message %d, and neither is there", older, newer)
		}
	}
}

func (c *checker) session() {
	m := c.m
	for id, may := range m.seen {
		if !slices.Contains(may, c.seen[id]) {
			c.wrong("identifier %d: seen: %d, want one of %d", id, c.seen[id], may)
		}
	}
	for id := range c.seen {
		if m.seen[id] == nil {
			c.wrong("identifier %d was never seen", id)
		}
	}
	if c.fpKey == [16]byte{} || m.fpKey != [16]byte{} && c.fpKey != m.fpKey {
		c.wrong("the key of the fingerprints is %x, it was %x", c.fpKey, m.fpKey)
	}
	if !m.session.allows(c.shown.session) {
		c.wrong("session: %t", c.shown.session)
	}
	if !m.owners[c.owner] {
		c.wrong("it is the session of %q, not of one of %v", c.owner, m.owners)
	}
	for _, seq := range m.failed[c.owner] {
		if c.there[seq] {
			c.wrong("message %d is there, though it was given up before the session of %q began", seq, c.owner)
		}
	}
	if !slices.ContainsFunc(m.releases, c.inOrder) {
		c.wrong("released are, in this order, %v; the calls were %v", c.released, m.releases)
	}
	for p, number := range c.sent {
		if !m.sent[p].has(number) {
			c.wrong("messages of priority %d were sent up to %d, not in %v", p, number, m.sent[p])
		}
	}
}

// inOrder reports whether the released messages are in the order of these calls.
func (c *checker) inOrder(calls []uint64) bool {
	for _, p := range c.released {
		i := slices.Index(calls, p.Seq)
		if i < 0 {
			return false
		}
		calls = calls[i+1:]
	}
	return true
}

func (c *checker) streams() {
	m := c.m
	for name, r := range m.streams {
		i := slices.Index(c.shown.streams, name)
		if id := m.ids[name]; id != 0 && int(id) != i+1 {
			c.wrong("stream %s has the ID %d, it was %d", name, i+1, id)
		}
		if r.low > 0 && i < 0 {
			c.wrong("stream %s is forgotten", name)
		}
	}
	for i, name := range c.shown.streams {
		if r, ok := m.streams[name]; !ok || !r.has(c.last[i]) {
			c.wrong("stream %s is at %d, not in %v", name, c.last[i], r)
		}
	}
}

func (c *checker) counters() {
	m, n, sum := c.m, c.stats, c.stats.Pending
	for i, total := range n.ended() {
		sum += total
		if k := Acked + ResultKind(i); !m.totals[k].has(total) {
			c.wrong("%d %s, not in %v", total, k, m.totals[k])
		}
	}
	if n.Accepted != sum || n.Pending != uint64(len(c.shown.messages)+len(c.shown.deferred)) || n.Accepted != c.lastSeq {
		c.wrong("the sum does not hold: %+v, %d messages, last %d", n, len(c.shown.messages), c.lastSeq)
	}
	if n.Corruptions > 0 || n.Lost > 0 {
		c.wrong("a crash was reported as damage: %+v", n)
	}
	if !m.lastSeq.has(c.lastSeq) {
		c.wrong("the last sequence is %d, not in %v", c.lastSeq, m.lastSeq)
	}
	for p := High; p < Priorities; p++ {
		if !m.highest[p].has(c.highest[p]) {
			c.wrong("the last number of priority %d is %d, not in %v", p, c.highest[p], m.highest[p])
		}
	}
	if boot := m.boot; c.boot <= boot.low || c.boot > boot.high+1 {
		c.wrong("boot %d, after %v", c.boot, boot)
	}
	if m.epoch != 0 {
		c.epochs()
	}
	if n.Pending > 0 && c.now < m.clock {
		c.wrong("the clock shows %d, it has shown %d", c.now, m.clock)
	}
}

// epochs checks that a new epoch begins if numbers may repeat, and only then.
func (c *checker) epochs() {
	m := c.m
	if c.epoch < m.epoch {
		c.wrong("epoch %d, it was %d", c.epoch, m.epoch)
	}
	if c.epoch != m.epoch && (m.clean || m.o.Sync == SyncEveryCommit) {
		c.wrong("a new epoch, %d, though nothing can be lost; closed: %t", c.epoch, m.clean)
	}
	if c.epoch != m.epoch && !c.sentLost {
		c.wrong("epoch %d ends because the end of the log may be lost, and SentLost is false", m.epoch)
	}
	for name, used := range m.used {
		last := uint64(0)
		if i := slices.Index(c.shown.streams, name); i >= 0 {
			last = c.last[i]
		}
		if last < used && c.epoch == m.epoch {
			c.wrong("epoch %d goes on, and stream %s with %d: numbers up to %d were used", c.epoch, name, last, used)
		}
	}
}

func (c *checker) receipts() {
	m, found, missing := c.m, 0, 0
	ending := map[key]Receipt{}
	for seq, o := range m.ending {
		ending[m.given[seq]] = Receipt{Seq: seq, Result: o}
	}
	for k := range m.known {
		got, ok := c.shown.receipts[k]
		want, promised := m.receipts[k]
		if seq, here := c.seqs[k]; here && c.there[seq] {
			if got.Deferral = (Deferral{}); !ok || got != (Receipt{Seq: seq}) {
				c.wrong("message %d is pending; its receipt is %+v, %t", seq, got, ok)
			}
			continue
		}
		if !promised {
			want = ending[k]
		}
		switch {
		case !ok && promised:
			missing++
		case !ok: // it need not be durable, or is one of many
		case want.Seq == 0 && !m.tried[k]: // it ended long ago
			found++
		case got.Seq != want.Seq || got.Result != want.Result || got.At.IsZero() && got.Result.Kind != DeadLettered:
			c.wrong("message %d ended as %+v; its receipt is %+v", want.Seq, want, got)
		case !want.At.IsZero() && !got.At.Equal(want.At) && got.Result.Kind != DeadLettered:
			c.wrong("message %d ended at %v; its receipt is %+v", want.Seq, want.At, got)
		default:
			found++
		}
	}
	if missing > 0 && found < m.o.Retention.MaxReceipts {
		c.wrong("%d receipts are missing, though there are only %d", missing, found)
	}
}
