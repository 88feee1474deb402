package persistence

import "io/fs"

// apply does to the ledger and the index what the record says. Records of what
// is already known change nothing, so a record may be there twice.
func (r *recovery) apply(s *segment, off int64, rec *record, room uint64) {
	g := &r.ledger
	switch rec.kind {
	case kindMessage:
		if rec.message.moved {
			r.move(s, off, rec, room)
		} else {
			r.message(s, off, rec, room)
		}
	case kindReleased:
		if m := r.find(s, rec.seq, room); m.ok() && m.state() == statePending {
			m.set(stateReleased)
			g.releases.found(rec.seq, rec.rank)
		}
	case kindSent:
		if rec.priority == Priorities {
			g.sent = rec.sent
		} else {
			g.sent[rec.priority] = max(g.sent[rec.priority], rec.number)
		}
	case kindDone:
		g.latest = max(g.latest, rec.at)
		r.done(s, rec, room)
	case kindSeen:
		g.seen.add(rec.id)
	case kindCleared:
		g.seen.remove(rec.id)
	case kindReset:
		g.seen.clear()
		g.releases.clear()
		g.session, g.owner = true, rec.name
		g.sent = [Priorities]uint64{}
		r.unrelease()
	case kindStream:
		if _, known := g.streamID[rec.name]; !known && int(rec.stream) == len(g.streams)+1 {
			g.addStream(rec.name, 0)
		}
	case kindCheckpoint, kindCheckpoint1:
		r.checkpoint(rec.kind, rec.body)
	}
}

// message enters a message where it was accepted.
func (r *recovery) message(s *segment, off int64, rec *record, room uint64) {
	g := &r.ledger
	if len(s.locs) == 0 && g.next == 1 && rec.seq > s.end()+room {
		s.first, g.next = rec.seq, rec.seq // the oldest segment, without its header
	}
	if rec.seq < g.next || !r.extend(s, rec.seq, room) {
		return
	}
	size := len(rec.message.packet)
	s.add(loc{off: uint32(off), size: uint32(size)}, uint8(rec.priority)<<levelShift|statePending)
	g.next = rec.seq + 1
	if s.keep {
		s.extras[len(s.extras)-1].print = fingerprint(&rec.message.id)
	}
	r.enlist(rec)
	// An unknown stream was registered before; a checkpoint still to come has it.
	if rec.stream > 0 && int(rec.stream) <= len(g.streams) {
		st := &g.streams[rec.stream-1]
		st.last = max(st.last, rec.message.streamSeq)
	}
}

// enlist counts a message that is not done.
func (r *recovery) enlist(rec *record) {
	g := &r.ledger
	g.pend(rec.priority, len(rec.message.packet))
	r.enter(rec.priority, rec.seq, rec.number)
	if rec.priority != Normal {
		g.numbers[rec.priority] = max(g.numbers[rec.priority], rec.number)
	}
	if key := rec.message.key; len(key) > 0 && g.keys.newest[string(key)] < rec.seq {
		g.keys.replace(string(key), rec.seq, func(seq uint64) bool { return r.catalog.find(seq).alive() })
	}
}

// move enters a message where it was written again. Its old segment may be gone,
// or be there too.
func (r *recovery) move(s *segment, off int64, rec *record, room uint64) {
	if rec.seq >= r.ledger.next {
		r.extend(s, rec.seq+1, room)
	}
	state := uint8(rec.priority) << levelShift
	switch {
	case rec.message.dead:
		state |= stateDead
	case rec.message.released:
		state |= stateReleased
	}
	size := len(rec.message.packet)
	old, i := r.catalog.segment(rec.seq)
	known := r.catalog.find(rec.seq)
	switch {
	case known.ok() && known.state() == stateDone:
		return
	case known.alive() && rec.message.dead: // its done record is damaged
		r.ledger.settle(rec.priority, DeadLettered, size)
		r.ledger.bury(rec.seq, size, rec.outcome.Reason)
	case known.ok() && known.state() != stateLost:
	case known.ok() || old == nil || old.states[i]&stateMask == stateMoved:
		if rec.message.dead {
			r.ledger.bury(rec.seq, size, rec.outcome.Reason)
		} else {
			r.enlist(rec)
		}
	}
	if rec.message.released && !(known.ok() && known.state() == stateReleased) {
		r.ledger.releases.found(rec.seq, rec.rank)
	}
	r.catalog.move(rec.seq, s, loc{off: uint32(off), size: uint32(size)}, state)
	if e := r.catalog.find(rec.seq).extra(); e != nil {
		e.print = fingerprint(&rec.message.id)
		if rec.message.dead {
			e.outcome, e.at = rec.outcome, rec.at
		}
	}
}

// extend marks the sequences up to seq as lost: their records are missing. More
// than the segment has room for cannot be.
func (r *recovery) extend(s *segment, seq uint64, room uint64) bool {
	if seq > s.end()+room {
		return false
	}
	for s.end() < seq {
		s.add(loc{}, stateLost)
	}
	r.ledger.next = max(r.ledger.next, seq)
	return true
}

// find looks a message up that a later record speaks of.
func (r *recovery) find(s *segment, seq, room uint64) ref {
	if seq >= r.ledger.next {
		r.extend(s, seq+1, room)
	}
	return r.catalog.find(seq)
}

// done counts the outcome of a message once. A message before the oldest
// segment is counted too: its segment was removed, its done record came after
// the checkpoint.
func (r *recovery) done(s *segment, rec *record, room uint64) {
	g := &r.ledger
	m := r.find(s, rec.seq, room)
	switch {
	case rec.outcome.Kind == discarded:
		if m.ok() && m.state() == stateDead {
			g.unbury(rec.seq, int(m.loc().size))
			m.set(stateDone)
		}
	case !m.ok():
		if rec.seq < r.segments[0].first {
			g.totals[rec.outcome.Kind]++
		}
	case m.state() == stateLost:
		m.end(rec.outcome, rec.at)
		m.set(stateDone)
		g.totals[rec.outcome.Kind]++
	case m.alive():
		m.end(rec.outcome, rec.at)
		size := int(m.loc().size)
		g.settle(m.priority(), rec.outcome.Kind, size)
		if rec.outcome.Kind == DeadLettered && r.log.o.Retention.MaxDeadLetters > 0 {
			m.set(stateDead)
			g.bury(rec.seq, size, rec.outcome.Reason)
		} else {
			m.set(stateDone)
		}
	}
}

// checkpoint replaces the counters by what they were at this place of the log.
func (r *recovery) checkpoint(kind uint8, body []byte) {
	c, _, err := decodeCheckpoint(kind, body)
	if err != nil {
		r.stale = true
		return
	}
	g := &r.ledger
	c.next = max(c.next, g.next)
	c.pending, c.pendingOf, c.pendingBytes = g.pending, g.pendingOf, g.pendingBytes
	c.graves, c.deadBytes, c.keys, c.releases = g.graves, g.deadBytes, g.keys, g.releases
	c.latest = max(c.latest, g.latest)
	if kind == kindCheckpoint1 {
		c.numbers, c.sent = g.numbers, g.sent
	}
	if g.epoch > 0 && c.epoch == 0 {
		c.epoch = g.epoch
	}
	*g = c
	r.stale = false
}

// reconcile makes the sum hold after damage: a message that is nowhere is lost,
// and one whose done record was lost is pending again.
func (r *recovery) reconcile() {
	g := &r.ledger
	sum := uint64(g.pending)
	for _, n := range g.totals {
		sum += n
	}
	if accepted := g.next - 1; sum < accepted {
		g.totals[Dropped] += accepted - sum
		g.lost += accepted - sum
		r.missing()
	} else {
		over := sum - accepted
		for _, k := range []ResultKind{Acked, Dropped, Refused, Expired, DeadLettered} {
			n := min(over, g.totals[k])
			g.totals[k] -= n
			over -= n
		}
	}
	g.lost = min(g.lost, g.totals[Dropped])
}

// missing reports that messages are nowhere, unless it is clear by now what took
// them. Otherwise it was the segment before the oldest: nothing else tells that
// one was removed by somebody else.
func (r *recovery) missing() {
	if r.log.corruptions.Load() > 0 {
		return
	}
	r.log.report(Corruption{File: segmentName(r.log.dir, r.oldest.header.prev.number), Err: fs.ErrNotExist})
}
