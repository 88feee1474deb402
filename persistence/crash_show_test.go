package persistence

import (
	"errors"
	"fmt"
	"slices"
)

// shown is the content of a log after it was opened.
type shown struct {
	messages []message // in the order of Next
	deferred []message // in the order of Deferred
	dead     []message // in the order of DeadLetters
	receipts map[key]Receipt
	seen     map[uint16]uint64
	fpKey    [16]byte
	released []Position
	session  bool
	owner    string
	streams  []string // by ID
	last     []uint64
	lastSeq  uint64
	highest  [Priorities]uint64
	sent     [Priorities]uint64
	boot     uint64
	epoch    uint64
	sentLost bool
	clock    int64 // the time of the store at the opening
	now      int64
	stats    Stats
}

// message is a message as the log returns it.
type message struct {
	key
	looks
	seq, number uint64
	size        int
	released    bool
	reason      byte // of a dead letter
	deferral    Deferral
}

func messageOf(e *Entry) (message, error) {
	k, as, err := keyOf(e)
	return message{key: k, looks: as, seq: e.Seq, number: e.Number, size: len(e.Packet), released: e.Released, deferral: e.Deferral}, err
}

// show reads everything that a log returns. The receipts are those of the messages that the model
// knows.
func show(l *Log, m *model) (*shown, error) {
	s := &shown{
		seen: l.SeenIDs(), fpKey: l.FingerprintKey(), released: l.Released(), lastSeq: l.LastSeq(), boot: l.Boot(), epoch: l.Epoch(), sentLost: l.SentLost(),
		now: l.Now().UnixMilli(), receipts: map[key]Receipt{},
	}
	s.owner, s.session = l.Session()
	l.mu.Lock()
	s.highest, s.clock = l.state.ledger.Numbers, l.state.ledger.Clock.Began.UnixMilli()+l.state.ledger.Clock.Offset
	l.mu.Unlock()
	for p := range s.sent {
		s.sent[p] = l.Sent(Priority(p))
	}
	var e Entry
	var c Cursor
	for {
		ok, err := l.Next(&c, &e)
		if err != nil {
			return s, err
		}
		if !ok {
			break
		}
		c.Pass(&e)
		x, err := messageOf(&e)
		if err != nil {
			return s, err
		}
		s.messages = append(s.messages, x)
	}
	for _, d := range l.Deferred() {
		if ok, err := l.Get(d.Seq, &e); !ok || err != nil || e.Deferral != d.Deferral {
			return s, fmt.Errorf("message %d is %+v by Deferred, and %t, %+v by Get: %w", d.Seq, d.Deferral, ok, e.Deferral, err)
		}
		x, err := messageOf(&e)
		if err != nil {
			return s, err
		}
		s.deferred = append(s.deferred, x)
	}
	var changed error
	err := l.DeadLetters(func(e *Entry, reason byte) bool {
		var x message
		x, changed = messageOf(e)
		x.reason = reason
		s.dead = append(s.dead, x)
		return changed == nil
	})
	if err = errors.Join(err, changed); err != nil {
		return s, err
	}
	for k := range m.known {
		r, ok, err := l.Receipt(k.id())
		if err != nil {
			return s, err
		}
		if ok {
			s.receipts[k] = r
		}
	}
	eachStream(l, func(name string, _ uint32, last uint64) bool {
		s.streams, s.last = append(s.streams, name), append(s.last, last)
		return true
	})
	s.stats = l.Stats()
	return s, s.agrees(l)
}

// agrees checks that the other methods return the same messages as Next.
func (s *shown) agrees(l *Log) error {
	var first, count [Priorities]uint64
	for _, x := range s.messages {
		if count[x.priority]++; first[x.priority] == 0 {
			first[x.priority] = x.number
		}
	}
	for p := range first {
		if got := l.First(Priority(p)); got != first[p] {
			return fmt.Errorf("First of priority %d is %d, but Next shows %d", p, got, first[p])
		}
	}
	places := map[Position]bool{}
	for _, p := range s.released {
		places[p] = true
	}
	if err := s.agreesDeferred(&count, places); err != nil {
		return err
	}
	if s.stats.PendingOf != count {
		return fmt.Errorf("%v are pending, but Next and Deferred show %v", s.stats.PendingOf, count)
	}
	for _, x := range s.messages {
		if p := (Position{Seq: x.seq, Number: x.number, Priority: x.priority}); x.released != places[p] {
			return fmt.Errorf("message %+v is released: %t by Next, %t by Released", p, x.released, places[p])
		}
		delete(places, Position{Seq: x.seq, Number: x.number, Priority: x.priority})
	}
	if len(places) > 0 {
		return fmt.Errorf("%v are released, and not shown by Next", places)
	}
	var e Entry
	for i := 0; i < len(s.messages); i += 1 + len(s.messages)/3 {
		want := s.messages[i]
		if ok, err := l.Get(want.seq, &e); !ok || err != nil {
			return fmt.Errorf("message %d is shown by Next, and not by Get: %w", want.seq, err)
		}
		if got, err := messageOf(&e); got != want || err != nil {
			return fmt.Errorf("message %d is %+v by Next, %+v by Get: %v", want.seq, want, got, err)
		}
	}
	for _, x := range s.dead {
		if ok, err := l.Get(x.seq, &e); ok || err != nil {
			return fmt.Errorf("the dead letter %d is shown by Get, %w", x.seq, err)
		}
	}
	return nil
}

// agreesDeferred counts the deferred messages and removes them from the released ones.
func (s *shown) agreesDeferred(count *[Priorities]uint64, released map[Position]bool) error {
	var deferred [Priorities]uint64
	bytes, last := int64(0), uint64(0)
	for _, x := range s.deferred {
		count[x.priority]++
		deferred[x.priority]++
		bytes += int64(x.size)
		if x.seq <= last || slices.ContainsFunc(s.messages, func(y message) bool { return y.seq == x.seq }) {
			return fmt.Errorf("message %d is deferred after %d, or in order too", x.seq, last)
		}
		last = x.seq
		i := slices.IndexFunc(s.released, func(p Position) bool { return p.Seq == x.seq })
		if x.released != (i >= 0) || i >= 0 && s.released[i].PacketID != x.deferral.PacketID {
			return fmt.Errorf("message %d is released: %t, with %+v; Released shows %v", x.seq, x.released, x.deferral, s.released)
		}
		if i >= 0 {
			delete(released, s.released[i])
		}
	}
	if st := s.stats; st.DeferredOf != deferred || st.Deferred != uint64(len(s.deferred)) || st.DeferredBytes != bytes {
		return fmt.Errorf("%v are deferred, %d of %d bytes, but Deferred shows %v, %d bytes", st.DeferredOf, st.Deferred, st.DeferredBytes, deferred, bytes)
	}
	return nil
}

// opened records the content after an opening as guaranteed, because the caller may act on it from
// then on.
func (m *model) opened(s *shown) {
	known := m.known
	*m = *newModel(m.o)
	m.known = known
	for _, x := range slices.Concat(s.messages, s.deferred) {
		m.tried[x.key], m.given[x.seq], m.kept[x.seq] = true, x.key, true
		if x.number != 0 {
			m.numbers[x.seq] = x.number
		}
		m.released[x.seq] = exactly(x.released)
		m.deferrals[x.seq] = []Deferral{x.deferral}
	}
	for seq := uint64(1); seq <= s.lastSeq; seq++ {
		if !m.kept[seq] {
			m.gone[seq] = true
		}
	}
	for _, x := range s.dead {
		m.tried[x.key], m.given[x.seq], m.dead[x.seq] = true, x.key, exactly(true)
		m.ending[x.seq] = Result{Kind: DeadLettered, Reason: x.reason}
	}
	for k, r := range s.receipts {
		if r.Result.Kind != 0 {
			m.receipts[k] = r
		}
	}
	for id, fingerprint := range s.seen {
		m.seen[id] = []uint64{fingerprint}
	}
	m.fpKey = s.fpKey
	m.session, m.owners = exactly(s.session), map[string]bool{s.owner: true}
	for _, p := range s.released {
		m.release(p.Seq)
	}
	for i, name := range s.streams {
		m.streams[name], m.ids[name] = span{s.last[i], s.last[i]}, uint32(i+1)
	}
	for i, total := range s.stats.ended() {
		m.totals[Acked+ResultKind(i)] = span{total, total}
	}
	for p := range s.sent {
		m.sent[p], m.highest[p] = span{s.sent[p], s.sent[p]}, span{s.highest[p], s.highest[p]}
	}
	m.lastSeq, m.boot, m.epoch, m.clock = span{s.lastSeq, s.lastSeq}, span{s.boot, s.boot}, s.epoch, s.clock
	if s.stats.Degraded { // the present opening may not be recorded on disk
		m.boot.low--
	}
}

// ended returns the number of messages with each result, beginning with Acked.
func (s *Stats) ended() [DeadLettered]uint64 {
	return [...]uint64{s.Acked, s.Refused, s.Expired, s.Dropped, s.DeadLettered}
}
