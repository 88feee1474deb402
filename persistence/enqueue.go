package persistence

import (
	"bytes"
	"errors"
)

// counts are counters that begin at zero with each opening; mu guards them.
type counts struct {
	acceptedBytes, droppedOldest, droppedNewest, conflated, movedCount, receiptsLost uint64
}

func (c *counts) into(s *Stats) {
	s.AcceptedBytes, s.DroppedOldest, s.DroppedNewest = c.acceptedBytes, c.droppedOldest, c.droppedNewest
	s.Conflated, s.Moved, s.ReceiptsLost = c.conflated, c.movedCount, c.receiptsLost
}

// Enqueue implements [Store]. When the buffer is full, it waits for a commit.
func (l *Log) Enqueue(m *Message) (Ticket, error) {
	accepted, expires := m.times(&l.o.Limits, &l.ledger.clock)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.enqueue(m, accepted, expires)
}

// enqueue is entered and left with mu held, and may let go of it in between.
func (l *Log) enqueue(m *Message, accepted, expires int64) (Ticket, error) {
	for {
		if err := l.usable(); err != nil {
			return Ticket{}, err
		}
		if len(l.cur.buf) > 0 && len(l.cur.buf)+len(m.Packet)+len(m.Key)+maxMeta > l.o.Files.BufferBytes {
			if err := l.flush(); err != nil {
				return Ticket{}, err
			}
			continue
		}
		older, goes := l.replaceable(m)
		err := l.ledger.admit(&l.o.Limits, m, goes)
		var victims []uint64
		if errors.Is(err, ErrFull) {
			var again bool
			if victims, again, err = l.makeRoom(m, older, goes, err); again {
				continue
			}
		}
		if err != nil {
			return Ticket{}, err
		}
		if !l.diskRoom(len(m.Packet)) {
			if l.owing() {
				l.cur.force = true
				if err := l.flush(); err != nil {
					return Ticket{}, err
				}
				continue
			}
			if l.compacting || l.removing {
				l.awaitRoom()
				continue
			}
			if l.squeeze() {
				continue
			}
			return Ticket{}, &FullError{Limit: "MaxDiskBytes", Max: l.o.Limits.MaxDiskBytes}
		}
		return l.accept(m, accepted, expires, older, victims), nil
	}
}

// diskRoom reports whether one more packet of that size keeps to MaxDiskBytes.
func (l *Log) diskRoom(size int) bool {
	return l.diskSize+int64(len(l.cur.buf)+size) <= l.o.Limits.MaxDiskBytes
}

// owing reports whether the oldest segment could be removed if only what was
// recorded were durable.
func (l *Log) owing() bool {
	s := l.segments[0]
	return s != l.active() && s.undone+s.dead == 0 && s.emptied > l.durable
}

// flush commits the present batch, with mu held before and after.
func (l *Log) flush() error {
	err := l.await(l.cur)
	l.mu.Lock()
	return err
}

// accept puts the message into the present batch, and after it that the older
// one, whose place it takes, and the victims are dropped: a crash in between may
// leave both, and never neither.
func (l *Log) accept(m *Message, accepted, expires int64, older uint64, victims []uint64) Ticket {
	seq, number := l.ledger.accept(m)
	b := l.cur
	b.add(loc{off: uint32(len(b.buf)), size: uint32(len(m.Packet))}, uint8(m.Priority)<<levelShift|statePending)
	if b.keep {
		b.extras[len(b.extras)-1].print = fingerprint(&m.ID)
	}
	if m.Priority != Normal {
		b.lines = append(b.lines, line{m.Priority, seq, number})
	}
	b.buf = appendMessage(b.buf, seq, number, m, accepted, expires)
	l.acceptedBytes += uint64(len(m.Packet))
	t := Ticket{Seq: seq, batch: b.id}
	if older != 0 {
		l.conflated++
		l.drop(&t, older, Conflated)
	}
	l.droppedOldest += uint64(len(victims))
	for _, seq := range victims {
		l.drop(&t, seq, DroppedOldest)
	}
	if m.Key != "" {
		l.ledger.keys.replace(m.Key, seq, func(seq uint64) bool { return l.find(seq).alive() })
	}
	return t
}

// replaceable returns the message whose place m takes, and what goes with it; 0
// when there is none.
func (l *Log) replaceable(m *Message) (seq uint64, goes leaving) {
	if m.Key == "" {
		return 0, goes
	}
	seq = l.ledger.keys.newest[m.Key]
	if seq == 0 || !l.droppable(seq) {
		return 0, goes
	}
	return seq, leaving{1, int64(l.find(seq).loc().size)}
}

// droppable reports whether the message is pending and was certainly not sent.
func (l *Log) droppable(seq uint64) bool {
	r := l.find(seq)
	if !r.ok() || r.state() != statePending {
		return false
	}
	p := r.priority()
	return l.place(p, seq) > l.ledger.sent[p]
}

// place returns a message's Number.
func (l *Log) place(p Priority, seq uint64) uint64 {
	if p == Normal {
		return seq
	}
	q := &l.queues[p]
	if i := q.above(seq - 1); i < len(q.items) && q.items[i].seq == seq {
		return q.items[i].number
	}
	for _, b := range l.flight {
		if number := b.place(seq); number != 0 {
			return number
		}
	}
	return l.cur.place(seq)
}

func (l *Log) drop(t *Ticket, seq uint64, cause DropCause) {
	l.done(seq, Result{Kind: Dropped})
	t.Drops = append(t.Drops, Drop{Seq: seq, Cause: cause})
}

// makeRoom does what WhenFull says about a message that a limit does not admit,
// though what is in goes leaves. It returns which others are to be dropped, or
// that it is worth trying again.
func (l *Log) makeRoom(m *Message, older uint64, goes leaving, full error) (victims []uint64, again bool, _ error) {
	switch l.o.Limits.WhenFull {
	case DropNewest:
		l.droppedNewest++
	case DropOldest:
		for p := Normal; p <= m.Priority; p++ {
			seq, passed := l.victim(p, l.victims[p])
			l.victims[p] = passed
			for ; seq != 0; seq, _ = l.victim(p, seq) {
				if seq == older {
					continue
				}
				victims = append(victims, seq)
				goes.messages++
				goes.bytes += int64(l.find(seq).loc().size)
				if l.ledger.room(&l.o.Limits, int64(len(m.Packet)), goes) == nil {
					return victims, false, nil
				}
			}
			if l.unseen(p) { // they go before any of a higher priority
				if failed := l.flush(); failed != nil {
					return nil, false, failed
				}
				return nil, true, nil
			}
		}
	}
	return nil, false, full
}

// unseen reports whether there are pending messages of a priority that no search
// finds, because they are not committed.
func (l *Log) unseen(p Priority) bool {
	waits := uint8(p)<<levelShift | statePending
	for _, b := range l.flight {
		if bytes.IndexByte(b.states, waits) >= 0 {
			return true
		}
	}
	return bytes.IndexByte(l.cur.states, waits) >= 0
}

// victim returns the oldest message of a priority behind after that can be
// dropped, 0: none, and up to where none can be.
func (l *Log) victim(p Priority, after uint64) (seq, passed uint64) {
	if p == Normal {
		after = max(after, l.ledger.sent[Normal])
	}
	for {
		seq = l.nextOf(p, after)
		if seq == 0 || l.droppable(seq) {
			return seq, after
		}
		after = seq
	}
}

// awaitRoom waits until there may be more room, or the log is closed, with mu held
// before and after.
func (l *Log) awaitRoom() {
	if l.room == nil {
		l.room = make(chan struct{})
	}
	room := l.room
	l.mu.Unlock()
	select {
	case <-room:
	case <-l.stop:
	}
	l.mu.Lock()
}

func (l *Log) signalRoom() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}

// First implements [Store].
func (l *Log) First(p Priority) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p >= Priorities || l.usable() != nil {
		return 0
	}
	l.reveal()
	return l.catalog.first(p)
}

// SetSent implements [Store].
func (l *Log) SetSent(p Priority, number uint64) error {
	l.mu.Lock()
	err := l.usable()
	switch {
	case err != nil:
	case p >= Priorities:
		err = ErrPriority
	case number > maxSequence:
		err = ErrUnknownSequence
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	sent := &l.ledger.sent
	if number == sent[p] { // set by a caller that may still wait for the disk
		t := Ticket{batch: l.marked[p]}
		l.mu.Unlock()
		return l.Wait(t)
	}
	lower := number < sent[p]
	sent[p], l.marked[p] = number, l.cur.id
	if lower {
		l.victims[p] = 0
		l.cur.buf = appendUnsent(l.cur.buf, *sent)
	} else {
		l.cur.buf = appendSent(l.cur.buf, p, number)
	}
	return l.await(l.cur)
}

// Sent implements [Store].
func (l *Log) Sent(p Priority) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p >= Priorities {
		return 0
	}
	return l.ledger.sent[p]
}
