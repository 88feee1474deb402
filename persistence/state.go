package persistence

import (
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// state is the content of a log in memory. It contains the ledger, and the place and state of each
// message. Its methods change the state and append the records of the change to a batch. They do no
// I/O. Log.mu guards the state.
type state struct {
	o       *Options
	room    int64 // Options.room; 0: unlimited, in tests
	ledger  ledger.Ledger
	catalog index.Catalog
	victims [Priorities]uint64 // no message up to this sequence is droppable
	stats   Stats              // counters since the opening
	scratch record.Record      // used by accept
}

func (s *state) alive(seq uint64) bool    { return s.catalog.Find(seq).Alive() }
func (s *state) released(seq uint64) bool { return s.catalog.Find(seq).Released() }
func (s *state) keepsReceipts() bool      { return s.o.Retention.MaxReceipts > 0 }

// times returns the acceptance and expiry times of a new message, in milliseconds. It needs no lock.
func (s *state) times(m *Message) (accepted, expires int64) {
	if accepted = record.Millis(m.Accepted); accepted == record.Never {
		accepted = s.ledger.Clock.Now()
	}
	expires = record.Millis(m.Expires)
	if age := s.o.Limits.MaxAge; age > 0 {
		if latest := min(accepted+age.Milliseconds(), record.MaxMillis); expires == record.Never || expires > latest {
			expires = latest
		}
	}
	return accepted, expires
}

// accept adds a message, followed by the records of the messages that are dropped to make room for
// it. After a crash between these records, the log may contain both the new and a dropped message.
// It never loses both.
func (s *state) accept(b *batch, m *Message, accepted, expires int64, a admission) Ticket {
	seq, number := s.ledger.Accept(uint8(m.Priority), len(m.Packet), m.Stream, m.StreamSeq)
	b.AddMessage(index.Loc{Off: uint32(len(b.buf)), Size: uint32(len(m.Packet))}, uint8(m.Priority), number, index.Print(&m.ID))
	r := &s.scratch
	r.Seq, r.Number, r.Priority, r.Stream, r.StreamSeq = seq, number, uint8(m.Priority), m.Stream, m.StreamSeq
	r.MessageID, r.Accepted, r.Expires, r.Policy = m.ID, accepted, expires, uint8(m.OnSessionLost)
	r.Key, r.Packet = append(r.Key[:0], m.Key...), m.Packet
	b.buf = r.AppendMessage(b.buf)
	r.Packet = nil
	s.stats.AcceptedBytes += uint64(len(m.Packet))
	t := Ticket{Seq: seq, Limit: a.limit, batch: b.id}
	if t.Replaced = a.replaced; a.older != 0 {
		s.stats.Conflated++
		s.drop(b, &t, a.older, Conflated)
	}
	s.stats.DroppedOldest += uint64(len(a.victims))
	for _, seq := range a.victims {
		s.drop(b, &t, seq, DroppedOldest)
	}
	if m.Key != "" {
		s.ledger.Keys.Set(m.Key, seq, s.alive)
	}
	return t
}

func (s *state) drop(b *batch, t *Ticket, seq uint64, cause DropCause) {
	t.Drops = append(t.Drops, Drop{Seq: seq, Cause: cause, Priority: Priority(s.catalog.Find(seq).Priority())})
	s.done(b, seq, Result{Kind: Dropped})
}

// done records the result of a message. It reports whether the message was pending.
func (s *state) done(b *batch, seq uint64, r Result) bool {
	m := s.catalog.Find(seq)
	if !m.Alive() {
		return false
	}
	res, size, released := record.Result{Kind: uint8(r.Kind), Reason: r.Reason}, int(m.Loc().Size), m.Released()
	s.ledger.Deferrals.Remove(seq, m.Priority(), size)
	s.ledger.Settle(m.Priority(), res.Kind, size)
	at := int64(0)
	if s.keepsReceipts() {
		at = s.ledger.Clock.Now()
	}
	b.buf = record.AppendDone(b.buf, seq, res, at)
	m.EndedIn(b.id)
	m.SetResult(res, at)
	if r.Kind == DeadLettered && s.o.Retention.MaxDeadLetters > 0 {
		m.Set(index.Dead)
		s.ledger.DeadLetters.Add(seq, size, r.Reason)
		s.boundDeadLetters(b)
	} else {
		m.Set(index.Done)
	}
	if released {
		s.ledger.Releases.Done(s.released)
	}
	return true
}

// boundDeadLetters discards the oldest dead letters above Retention.MaxDeadLetters.
func (s *state) boundDeadLetters(b *batch) {
	for len(s.ledger.DeadLetters.List) > max(s.o.Retention.MaxDeadLetters, 0) {
		s.stats.DeadLettersDropped++
		s.discard(b, s.ledger.DeadLetters.List[0].Seq)
	}
}

func (s *state) discard(b *batch, seq uint64) {
	m := s.catalog.Find(seq)
	if !m.Is(index.Dead) {
		return
	}
	s.ledger.DeadLetters.Remove(seq, int(m.Loc().Size))
	m.Set(index.Done)
	m.EndedIn(b.id)
	b.buf = record.AppendDone(b.buf, seq, record.Result{Kind: record.Discarded}, 0)
}

// lose records a damaged message as lost if it is pending, and discards it if it is a dead letter.
// For any other message it does nothing and returns false.
func (s *state) lose(b *batch, seq uint64, m index.Ref) bool {
	switch {
	case m.Alive():
		s.done(b, seq, Result{Kind: Dropped})
		s.ledger.Lost++
	case m.State() == index.Dead:
		s.discard(b, seq)
	default:
		return false
	}
	return true
}

func (s *state) release(b *batch, seq uint64) {
	m := s.catalog.Find(seq)
	switch {
	case m.Is(index.Pending):
		m.Set(index.Released)
	case m.Is(index.Deferred):
		m.Set(index.DeferredReleased)
	default:
		return
	}
	b.buf = record.AppendReleased(b.buf, seq, s.ledger.Releases.Add(seq))
}

// postpone defers a message.
func (s *state) postpone(b *batch, seq uint64, d record.Deferral) {
	if m := s.catalog.Find(seq); m.Is(index.Pending) || m.Is(index.Deferred) {
		m.Set(index.Deferred)
		s.ledger.Deferrals.Set(seq, m.Priority(), int(m.Loc().Size), d)
		b.buf = record.AppendDeferred(b.buf, seq, d)
	}
}

// releases returns the released messages in the order of their release.
func (s *state) releases() []Position {
	seqs := s.ledger.Releases.List(s.released)
	list := make([]Position, len(seqs))
	for i, seq := range seqs {
		m := s.catalog.Find(seq)
		list[i] = Position{Seq: seq, Number: s.catalog.Number(m.Priority(), seq), Priority: Priority(m.Priority())}
		list[i].PacketID = s.ledger.Deferrals.Get(seq).PacketID
	}
	return list
}

func (s *state) reset(b *batch, clientID string) {
	s.ledger.Reset(clientID)
	s.victims = [Priorities]uint64{}
	s.catalog.Unrelease()
	b.buf = record.AppendReset(b.buf, clientID)
}

func (s *state) setSent(b *batch, p Priority, number uint64) {
	sent := &s.ledger.Sent
	s.ledger.SentLost = false
	lower := number < sent[p]
	if sent[p] = number; lower {
		s.victims[p] = 0
		b.buf = record.AppendSentAll(b.buf, *sent)
	} else {
		b.buf = record.AppendSent(b.buf, uint8(p), number)
	}
}

// seen records that an inbound message was handled.
func (s *state) seen(b *batch, id uint16, fingerprint uint64) {
	if s.ledger.Seen.Add(id, fingerprint) {
		b.buf = record.AppendSeen(b.buf, id, fingerprint)
	}
}

// cleared records that an inbound packet identifier is free again.
func (s *state) cleared(b *batch, id uint16) {
	if s.ledger.Seen.Remove(id) {
		b.buf = record.AppendCleared(b.buf, id)
	}
}

// stream returns a named sequence, and registers a new name.
func (s *state) stream(b *batch, name string) (id uint32, last uint64, err error) {
	g, most := &s.ledger, s.o.Limits.MaxStreams
	id, known := g.Stream(name)
	switch {
	case known:
		return id, g.Streams[id-1].Last, nil
	case name == "" || len(name) > record.MaxStreamName:
		return 0, 0, ErrStreamName
	case len(g.Streams) >= most:
		return 0, 0, &FullError{Limit: "MaxStreams", Max: int64(most)}
	}
	id = g.AddStream(name, 0)
	b.buf = record.AppendStream(b.buf, id, name)
	return id, 0, nil
}

// move copies a message of an old segment to the open batch, unless the message has ended in the
// meantime. The argument ranks caches the order in which messages were released.
func (s *state) move(b *batch, r *record.Record, from *index.Segment, ranks *map[uint64]uint64) {
	m := s.catalog.Committed(r.Seq)
	if !m.OK() || m.Segment != from {
		return
	}
	state := m.State()
	if !m.Alive() && state != index.Dead {
		return
	}
	r.Moved, r.Released, r.Dead = true, m.Released(), state == index.Dead
	r.Deferred, r.Deferral = m.Deferred(), s.ledger.Deferrals.Get(r.Seq)
	if r.Rank = 0; r.Released {
		if *ranks == nil {
			*ranks = s.ledger.Releases.Ranks()
		}
		r.Rank = (*ranks)[r.Seq]
	}
	r.Result.Reason = s.ledger.DeadLetters.Reason(r.Seq)
	if e := m.Extra(); e != nil {
		r.At = e.At
	}
	b.AddMove(r.Seq, index.Loc{Off: uint32(len(b.buf)), Size: uint32(len(r.Packet))})
	b.buf = r.AppendMessage(b.buf)
	s.stats.Moved++
}

// live returns the size that a log needs for the messages that have not ended, plus one segment.
func (s *state) live() int64 { return s.ledger.Live() + s.o.Files.SegmentBytes }
