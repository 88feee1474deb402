package persistence

// apply does to the ledger and the index what the record says. Records of what
// is already known change nothing, so a record may be there twice.
func (r *recovery) apply(s *segment, off int64, rec *record, room uint64) {
	g := &r.ledger
	switch rec.kind {
	case kindMessage:
		if len(s.locs) == 0 && g.next == 1 && rec.seq > s.end()+room {
			s.first, g.next = rec.seq, rec.seq // the oldest segment, without its header
		}
		if rec.seq < g.next || !r.extend(s, rec.seq, room) {
			return
		}
		size := len(rec.message.packet)
		s.add(loc{off: uint32(off), size: uint32(size)}, statePending)
		g.next = rec.seq + 1
		g.pending++
		g.pendingBytes += int64(size)
		// An unknown stream was registered before; a checkpoint still to come has it.
		if rec.stream > 0 && int(rec.stream) <= len(g.streams) {
			st := &g.streams[rec.stream-1]
			st.last = max(st.last, rec.message.streamSeq)
		}
	case kindReleased:
		if x, i := r.find(s, rec.seq, room); x != nil && x.states[i] == statePending {
			x.states[i] = stateReleased
		}
	case kindDone:
		r.done(s, rec, room)
	case kindSeen:
		g.seen.add(rec.id)
	case kindCleared:
		g.seen.remove(rec.id)
	case kindReset:
		g.seen.clear()
		g.session = true
		for _, s := range r.segments {
			s.unrelease()
		}
	case kindStream:
		if _, known := g.streamID[rec.name]; !known && int(rec.stream) == len(g.streams)+1 {
			g.addStream(rec.name, 0)
		}
	case kindCheckpoint:
		r.checkpoint(rec.body)
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
func (r *recovery) find(s *segment, seq, room uint64) (*index, int) {
	if seq >= r.ledger.next {
		r.extend(s, seq+1, room)
	}
	if s, i := find(r.segments, seq); s != nil {
		return &s.index, i
	}
	return nil, 0
}

// done counts the outcome of a message once. A message before the oldest
// segment is counted too: its segment was removed, its done record came after
// the checkpoint.
func (r *recovery) done(s *segment, rec *record, room uint64) {
	g := &r.ledger
	x, i := r.find(s, rec.seq, room)
	switch {
	case x == nil:
		if rec.seq < r.segments[0].first {
			g.totals[rec.outcome.Kind]++
		}
	case x.states[i] == stateLost:
		x.states[i] = stateDone
		g.totals[rec.outcome.Kind]++
	case x.states[i] < stateDone:
		size := int(x.locs[i].size)
		x.setState(i, stateDone)
		g.settle(rec.outcome.Kind, size)
	}
}

// checkpoint replaces the counters by what they were at this place of the log.
func (r *recovery) checkpoint(body []byte) {
	c, _, err := decodeCheckpoint(body)
	if err != nil {
		r.stale = true
		return
	}
	g := &r.ledger
	c.next = max(c.next, g.next)
	c.pending, c.pendingBytes = g.pending, g.pendingBytes
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
	} else {
		over := sum - accepted
		for _, k := range []OutcomeKind{Acked, Dropped, Refused, Expired} {
			n := min(over, g.totals[k])
			g.totals[k] -= n
			over -= n
		}
	}
	g.lost = min(g.lost, g.totals[Dropped])
}
