package persistence

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Enqueue implements [Store]. If the buffer is full, Enqueue waits for a commit, but not longer
// than Options.WriteTimeout.
func (l *Log) Enqueue(ctx context.Context, m *Message) (Ticket, error) {
	accepted, expires := l.state.times(m)
	l.mu.Lock()
	defer l.mu.Unlock()
	var dropped Ticket // lists the messages dropped for disk space
	for {
		if err := l.usable(); err != nil {
			return dropped, err
		}
		if l.pipe.outage != nil {
			return dropped, l.pipe.outage
		}
		b := l.pipe.open
		if b.slow { // the message would have to wait for a write that does not return
			return dropped, &StalledError{After: l.o.WriteTimeout}
		}
		a, err := admission{}, errUncommitted
		if len(b.buf) == 0 || len(b.buf)+len(m.Packet)+len(m.Key)+record.MaxOverhead <= l.o.Files.BufferBytes {
			a, err = l.state.admit(m)
		}
		if err == nil {
			if lacks := l.lacks(m); lacks > 0 {
				err = l.makeRoom(ctx, m.Priority, lacks, &dropped)
			}
		}
		switch err {
		case nil:
			before := len(b.buf)
			t := l.state.accept(b, m, accepted, expires, a)
			if m.Priority == Normal {
				l.waste.granted = max(l.waste.granted-int64(len(b.buf)-before), 0)
			}
			t.Drops, t.Limit = append(dropped.Drops, t.Drops...), cmp.Or(t.Limit, dropped.Limit)
			return t, nil
		case errAgain:
			err = nil
		case errUncommitted:
			err = l.flush(ctx)
		}
		if err != nil {
			return dropped, err
		}
	}
}

// errAgain is returned by makeRoom if another attempt may succeed.
var errAgain = errors.New("another try may succeed")

// makeRoom frees at least need bytes on disk for a message of priority p. It adds the messages that
// it drops to t. mu must be held. It returns errAgain, errUncommitted or ErrFull.
func (l *Log) makeRoom(ctx context.Context, p Priority, need int64, t *Ticket) error {
	s := l.state.catalog.Segments[0]
	ended := s.Alive+s.Dead == 0
	switch active := s == l.state.catalog.Active(); {
	case ended && !active && s.Emptied > l.pipe.durable:
		// The segment can be removed once the done records are durable.
		l.pipe.open.force = true
		return errUncommitted
	case ended && active && s.End() > s.First:
		l.waste.full = true // large packets have filled the segment, and all its messages have ended
		return errUncommitted
	case ended && active && len(l.pipe.open.buf) > 0:
		return errUncommitted // all records are in the buffer
	case l.waste.compaction.running || l.waste.removing:
		if !l.awaitRoom(ctx) {
			return cmp.Or(context.Cause(ctx), error(&StalledError{After: l.o.WriteTimeout}))
		}
	case time.Since(l.waste.stuck) < removeAgain:
		return l.diskFull(p)
	case ended && !active:
		sweepLater(l)
	case l.squeeze():
	case l.o.Limits.WhenFull == DropOldest:
		now := vain{most: l.o.Limits.droppedFor(p), ended: l.state.ledger.Next - uint64(l.state.ledger.Pending), newest: l.state.catalog.Active().Number, need: need}
		if now.includes(l.waste.vain) {
			return l.diskFull(p)
		}
		last, freed := l.state.dropSegments(l.pipe.open, now.most, need, t)
		l.noted()
		if last == 0 && l.state.anyDroppable(now.most) {
			l.waste.full = true // the next attempt can drop the messages of this segment
			return errUncommitted
		}
		if last == 0 {
			l.waste.vain = now
			return l.diskFull(p)
		}
		if p == Normal {
			l.waste.granted += freed
		}
		t.Limit = "MaxDiskBytes"
		l.waste.compaction.forced = last // compaction moves the remaining messages out of these segments
		l.startCompaction()
	default:
		return l.diskFull(p)
	}
	return errAgain
}

func (l *Log) diskFull(p Priority) error {
	if l.o.Limits.WhenFull == DropNewest {
		l.state.stats.DroppedNewest++
	}
	return l.o.Limits.full(p, "MaxDiskBytes", l.o.Limits.MaxDiskBytes)
}

// begin locks mu and returns the open batch. If the log is closed or has failed, it returns the
// error, with mu unlocked.
func (l *Log) begin() (*batch, error) {
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return nil, err
	}
	return l.pipe.open, nil
}

// change calls f with the open batch, and with mu held. It does not wait for the disk.
func (l *Log) change(f func(b *batch) error) error {
	b, err := l.begin()
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	if l.pipe.dry && len(b.buf) >= maxHeldBytes {
		return l.pipe.outage
	}
	if err = f(b); err == nil {
		l.noted()
	}
	return err
}

// changeSeq is like change, for a message that must exist.
func changeSeq(l *Log, seq uint64, f func(b *batch)) error {
	return l.change(func(b *batch) error {
		if !l.state.ledger.Has(seq) {
			return ErrUnknownSequence
		}
		f(b)
		return nil
	})
}

func (l *Log) Done(seq uint64, r Result) error {
	if !r.Kind.Valid() {
		return ErrUnknownResult
	}
	return changeSeq(l, seq, func(b *batch) { l.state.done(b, seq, r) })
}

func (l *Log) Release(seq uint64) error {
	return changeSeq(l, seq, func(b *batch) { l.state.release(b, seq) })
}

func (l *Log) Defer(seq uint64, d Deferral) error {
	if !d.Valid() {
		return ErrDeferral
	}
	r := record.Deferral{
		Since: max(record.Millis(d.Since), 0), Until: max(record.Millis(d.Until), 0),
		Attempts: uint32(d.Attempts), Code: d.Code, Alone: d.Alone, GivenUp: d.GivenUp, PacketID: d.PacketID, RefusedID: d.RefusedID,
	}
	return changeSeq(l, seq, func(b *batch) { l.state.postpone(b, seq, r) })
}

func (l *Log) Deferred() []Deferred {
	return locked(l, func() []Deferred {
		seqs := l.state.ledger.Deferrals.List()
		list := make([]Deferred, len(seqs))
		for i, seq := range seqs {
			list[i] = Deferred{seq, deferral(l.state.ledger.Deferrals.Get(seq))}
		}
		return list
	})
}

func (l *Log) Discard(seq uint64) error {
	return changeSeq(l, seq, func(b *batch) { l.state.discard(b, seq) })
}

func (l *Log) Seen(id uint16, fingerprint uint64) error {
	return identifier(l, id, func(b *batch) { l.state.seen(b, id, fingerprint) })
}

func (l *Log) Cleared(id uint16) error {
	return identifier(l, id, func(b *batch) { l.state.cleared(b, id) })
}

func identifier(l *Log, id uint16, f func(b *batch)) error {
	return l.change(func(b *batch) error {
		if id == 0 {
			return ErrPacketID
		}
		f(b)
		return nil
	})
}

func (l *Log) Stream(name string) (id uint32, last uint64, err error) {
	err = l.change(func(b *batch) (err error) {
		id, last, err = l.state.stream(b, name)
		return err
	})
	return id, last, err
}

func (l *Log) ResetSession(clientID string) error {
	if len(clientID) > record.MaxClientID {
		return ErrClientID
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	l.state.reset(b, clientID)
	return l.await(b)
}

func (l *Log) SetSent(p Priority, number uint64) error {
	switch {
	case p >= Priorities:
		return ErrPriority
	case number > record.MaxSequence:
		return ErrUnknownSequence
	}
	b, err := l.begin()
	if err != nil {
		return err
	}
	if number == l.state.ledger.Sent[p] { // the caller that set this watermark may still wait for the disk
		t := Ticket{batch: l.pipe.sentBatch[p]}
		l.mu.Unlock()
		return l.Wait(context.Background(), t)
	}
	l.pipe.sentBatch[p] = b.id
	l.state.setSent(b, p, number)
	return l.await(b)
}

// locked calls f with mu held and returns its result.
func locked[T any](l *Log, f func() T) T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f()
}

func (l *Log) Sent(p Priority) uint64 {
	if p >= Priorities {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.ledger.Sent[p]
}

func (l *Log) First(p Priority) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p >= Priorities || l.usable() != nil {
		return 0
	}
	l.reveal()
	return l.state.catalog.First(uint8(p))
}

func (l *Log) Released() []Position { return locked(l, l.state.releases) }
func (l *Log) LastSeq() uint64      { return locked(l, l.state.ledger.Accepted) }

func (l *Log) SeenIDs() map[uint16]uint64 {
	return locked(l, func() map[uint16]uint64 {
		seen := make(map[uint16]uint64, len(l.state.ledger.Seen))
		maps.Copy(seen, l.state.ledger.Seen)
		return seen
	})
}

func (l *Log) FingerprintKey() [16]byte { return l.state.ledger.Key } // it never changes

func (l *Log) Session() (clientID string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.ledger.Owner, l.state.ledger.Session
}

func (l *Log) Epoch() uint64  { return l.state.ledger.Epoch }
func (l *Log) Now() time.Time { return record.Time(l.state.ledger.Clock.Now()) }

// Boot returns how many times the log was opened. It includes the present opening.
func (l *Log) Boot() uint64 { return l.state.ledger.Boot }
