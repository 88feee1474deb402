package persistence

// Compaction gives back what one message that stays pending would keep: when more
// than half of the files is done with, the messages that are left in the oldest
// segment are written again, to the newest, and the oldest can go. What is moved
// lies at the end of a log of which most is garbage, so at most about one byte is
// moved for each byte written.

// move is a message of a batch whose record was written before, elsewhere.
type move struct {
	seq uint64
	loc loc // relative to the batch
}

// compactable returns the segment to be emptied, or nil.
func (l *Log) compactable() *segment {
	s := l.segments[0]
	l.floor = min(l.floor, l.diskSize)
	if s == l.active() || s.undone+s.dead == 0 || l.diskSize <= 2*max(l.ledger.live()+l.o.Files.SegmentBytes, l.floor) {
		return nil
	}
	if s.number > l.round {
		// Everything was moved once, so what there is now is what it takes, whatever
		// was reckoned (long keys, many streams): only twice of it is worth a round.
		begun := l.round > 0
		l.round = l.number
		if begun {
			l.floor = l.diskSize
			return l.compactable()
		}
	}
	return s
}

// squeeze begins a round because there is no room, although the last one was not
// long ago or left much. Once a segment: what does not become less is not moved
// for each message.
func (l *Log) squeeze() bool {
	newest := l.active().number
	if newest <= l.squeezed {
		return false
	}
	l.squeezed = newest
	l.floor, l.round = 0, newest
	if l.compactable() == nil {
		return false
	}
	l.compacting = true
	l.wg.Go(l.compact)
	return true
}

// compact empties the oldest segment, and those that follow, as long as it pays.
func (l *Log) compact() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.usable() == nil {
		s := l.compactable()
		if s == nil {
			break
		}
		l.mu.Unlock()
		r := reader{fs: l.o.FS, dir: l.dir, window: window{chunk: min(l.o.Files.BufferBytes, 256<<10)}}
		after, more := uint64(0), true
		for more {
			after, more = l.compactPart(s, &r, after)
		}
		r.close()
		l.mu.Lock()
		l.sweep()
		if l.segments[0] == s {
			break // the disk does not do as it should: with the next commit
		}
	}
	l.compacting = false
	l.signalRoom()
}

// compactPart returns where to go on; false when there is nothing to go on with.
func (l *Log) compactPart(s *segment, r *reader, after uint64) (uint64, bool) {
	l.mu.Lock()
	if l.usable() != nil {
		l.mu.Unlock()
		return 0, false
	}
	seqs, locs, size := l.kept(s, after, int64(l.o.Files.BufferBytes/4))
	limit := s.size
	l.mu.Unlock()
	if len(seqs) == 0 {
		return 0, false
	}
	records := make([]record, 0, len(seqs))
	packets := make([]byte, 0, size)
	for i, seq := range seqs {
		var rec record
		b, err := r.record(s.number, int64(locs[i].off), limit)
		if err == nil {
			err = rec.decode(b)
		}
		switch {
		case damaged(err) || err == nil && rec.seq != seq:
			l.lose(seq, s.number, locs[i])
			continue
		case err != nil:
			return 0, false // the disk does not answer: another time
		}
		packets = append(packets, rec.message.packet...)
		rec.message.packet = packets[len(packets)-len(rec.message.packet):]
		rec.message.key = append([]byte(nil), rec.message.key...)
		records = append(records, rec)
	}
	l.mu.Lock()
	if l.usable() != nil {
		l.mu.Unlock()
		return 0, false
	}
	var ranks map[uint64]uint64 // made where there is need
	for i := range records {
		l.moveRecord(&records[i], s, &ranks)
	}
	return seqs[len(seqs)-1], l.await(l.cur) == nil
}

// kept returns the messages behind a sequence that keep the segment.
func (l *Log) kept(s *segment, after uint64, most int64) (seqs []uint64, locs []loc, size int64) {
	take := func(seq uint64, state uint8, at loc) {
		if state &= stateMask; size < most && seq > after && (state < stateDone || state == stateDead) {
			seqs, locs, size = append(seqs, seq), append(locs, at), size+int64(at.size)
		}
	}
	i, _ := l.findMoved(after + 1)
	for ; i < len(l.moved) && size < most; i++ {
		if m := &l.moved[i]; m.seg == s {
			take(m.seq, m.state, m.loc)
		}
	}
	from := 0
	if after >= s.first {
		from = int(after-s.first) + 1
	}
	for i := from; i < len(s.states) && size < most; i++ {
		take(s.first+uint64(i), s.states[i], s.locs[i])
	}
	return seqs, locs, size
}

// moveRecord writes a message again, unless it is done in the meantime.
func (l *Log) moveRecord(rec *record, from *segment, ranks *map[uint64]uint64) {
	r := l.catalog.find(rec.seq)
	if !r.ok() || l.holder(rec.seq, r) != from {
		return
	}
	state := r.state()
	if state >= stateDone && state != stateDead {
		return
	}
	m := &rec.message
	m.moved, m.released, m.dead = true, state == stateReleased, state == stateDead
	if rec.rank = 0; m.released {
		if *ranks == nil {
			*ranks = l.ledger.releases.ranks()
		}
		rec.rank = (*ranks)[rec.seq]
	}
	if i, known := l.ledger.graves.find(rec.seq); known {
		rec.outcome.Reason = l.ledger.graves[i].reason
	}
	if e := r.extra(); e != nil {
		rec.at = e.at
	}
	b := l.cur
	b.moves = append(b.moves, move{rec.seq, loc{off: uint32(len(b.buf)), size: uint32(len(m.packet))}})
	b.buf = rec.appendExtended(b.buf)
	l.movedCount++
}

// installMoves enters what a batch moved to s. What was done since it was written
// stays where it was: its done record lies behind.
func (l *Log) installMoves(s *segment, off int64, b *batch) {
	for _, mv := range b.moves {
		r := l.catalog.find(mv.seq)
		if !r.ok() {
			continue
		}
		state := r.state()
		if state >= stateDone && state != stateDead {
			continue
		}
		if r.x == &s.index {
			continue // a batch that is written twice
		}
		r.x.emptied = max(r.x.emptied, b.id)
		at := loc{off: mv.loc.off + uint32(off), size: mv.loc.size}
		l.catalog.move(mv.seq, s, at, uint8(r.priority())<<levelShift|state)
	}
}

// rehome notes that a moved message's record was written to another segment.
func (c *catalog) rehome(seq uint64, from *segment, off int64, to *segment, at uint32) {
	i, ok := c.findMoved(seq)
	if m := &c.moved[min(i, len(c.moved)-1)]; ok && m.seg == from && int64(m.loc.off) == off {
		from.count(m.state, -1)
		to.count(m.state, 1)
		m.seg, m.loc.off = to, at
	}
}

// rehomeFrom does so for all of a segment from off on, which now begin a segment.
func (c *catalog) rehomeFrom(from *segment, off int64, to *segment) {
	for i := range c.moved {
		if m := &c.moved[i]; m.seg == from && int64(m.loc.off) >= off {
			c.rehome(m.seq, from, int64(m.loc.off), to, m.loc.off-uint32(off)+headerSize)
		}
	}
}
