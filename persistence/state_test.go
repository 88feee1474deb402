package persistence

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// bed is a state without a disk. Its batches are installed at once.
type bed struct {
	state
	b    *batch
	size int64
}

func newBed(o Options) *bed {
	o = o.withDefaults()
	s := &bed{state: state{o: &o}, b: &batch{id: 1}, size: 64}
	s.ledger.Next = 1
	s.ledger.Clock.Begin(time.Now(), 0, false)
	s.catalog.Segments = []*index.Segment{{Number: 1, Index: index.Index{First: 1, Keep: o.Retention.MaxReceipts > 0}}}
	s.b.Keep = o.Retention.MaxReceipts > 0
	s.b.Reset(1)
	s.catalog.Open = []*index.Batch{&s.b.Batch}
	return s
}

// commit installs the batch and returns its records.
func (s *bed) commit(t *testing.T) (list []record.Record) {
	t.Helper()
	for rest := s.b.buf; len(rest) > 0; {
		var r record.Record
		if err := r.Decode(rest); err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
		rest = rest[r.Size:]
	}
	s.catalog.Install(s.catalog.Active(), s.size, &s.b.Batch, s.b.id)
	s.size += int64(len(s.b.buf))
	s.b.id, s.b.buf = s.b.id+1, nil
	s.b.Reset(s.ledger.Next)
	return list
}

func (s *bed) accept(t *testing.T, m *Message) Ticket {
	t.Helper()
	a, err := s.admit(m)
	if err != nil {
		t.Fatal(err)
	}
	accepted, expires := s.times(m)
	return s.state.accept(s.b, m, accepted, expires, a)
}

// kinds returns the kind and the sequence of each record.
func kinds(list []record.Record) (k [][2]uint64) {
	for _, r := range list {
		k = append(k, [2]uint64{uint64(r.Kind), r.Seq})
	}
	return k
}

// TestState_Records checks which records each change appends, and that a change without effect
// appends none.
func TestState_Records(t *testing.T) {
	s := newBed(Options{Retention: Retention{MaxDeadLetters: 1}})
	for n := range uint64(4) {
		s.accept(t, numbered(n+1, 20))
	}
	for _, c := range []struct {
		name string
		do   func()
		want [][2]uint64
	}{
		{"accepted", func() {}, [][2]uint64{{record.KindMessage, 1}, {record.KindMessage, 2}, {record.KindMessage, 3}, {record.KindMessage, 4}}},
		{"release", func() { s.release(s.b, 2) }, [][2]uint64{{record.KindReleased, 2}}},
		{"release again", func() { s.release(s.b, 2) }, nil},
		{"end", func() { s.done(s.b, 2, Result{Kind: Acked}) }, [][2]uint64{{record.KindDone, 2}}},
		{"end again", func() { s.done(s.b, 2, Result{Kind: Refused}) }, nil},
		{"release what has ended", func() { s.release(s.b, 2) }, nil},
		{"dead letter", func() { s.done(s.b, 1, Result{Kind: DeadLettered}) }, [][2]uint64{{record.KindDone, 1}}},
		{"a second dead letter of one", func() { s.done(s.b, 3, Result{Kind: DeadLettered}) }, [][2]uint64{{record.KindDone, 3}, {record.KindDone, 1}}},
		{"discard what is gone", func() { s.discard(s.b, 1) }, nil},
		{"discard", func() { s.discard(s.b, 3) }, [][2]uint64{{record.KindDone, 3}}},
		{"seen", func() { s.seen(s.b, 7, 1) }, [][2]uint64{{record.KindSeen, 0}}},
		{"seen again", func() { s.seen(s.b, 7, 1) }, nil},
		{"seen with another fingerprint", func() { s.seen(s.b, 7, 2) }, [][2]uint64{{record.KindSeen, 0}}},
		{"cleared", func() { s.cleared(s.b, 7) }, [][2]uint64{{record.KindCleared, 0}}},
		{"cleared again", func() { s.cleared(s.b, 7) }, nil},
		{"watermark", func() { s.setSent(s.b, High, 9) }, [][2]uint64{{record.KindSent, 0}}},
		{"new session", func() { s.reset(s.b, "c") }, [][2]uint64{{record.KindReset, 0}}},
	} {
		id := s.b.id
		c.do()
		if got := kinds(s.commit(t)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if ends := len(c.want) > 0 && c.want[0][0] == record.KindDone; ends != (s.catalog.Active().Emptied == id) {
			t.Errorf("%s: the last commit that ends a message is %d, this one %d", c.name, s.catalog.Active().Emptied, id)
		}
	}
	if g := &s.ledger; g.Sent != [Priorities]uint64{} || g.Owner != "c" || g.Pending != 1 || len(g.DeadLetters.List) != 0 || g.PendingBytes != 20 {
		t.Errorf("%+v", g)
	}
}

// TestState_Drops checks that the done record of a dropped message follows the message that it is
// dropped for. A crash between them may keep both messages, but never loses both.
func TestState_Drops(t *testing.T) {
	s := newBed(Options{Limits: Limits{MaxMessages: 2, WhenFull: DropOldest}})
	m := numbered(1, 20)
	m.Key = "k"
	s.accept(t, m)
	s.accept(t, numbered(2, 20))
	s.commit(t)
	ticket := s.accept(t, m) // replaces 1
	if want := []Drop{{Seq: 1, Cause: Conflated}}; !slices.Equal(ticket.Drops, want) {
		t.Errorf("dropped %v, want %v", ticket.Drops, want)
	}
	if got, want := kinds(s.commit(t)), [][2]uint64{{record.KindMessage, 3}, {record.KindDone, 1}}; !slices.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}
	ticket = s.accept(t, numbered(4, 20))
	if want := []Drop{{Seq: 2, Cause: DroppedOldest}}; !slices.Equal(ticket.Drops, want) || s.ledger.Totals[Dropped] != 2 {
		t.Errorf("dropped %v, want %v; %+v", ticket.Drops, want, s.ledger.Totals)
	}
	m = numbered(5, 50)
	m.Key = "k"
	s = newBed(Options{Limits: Limits{MaxBytes: 60, WhenFull: DropOldest}})
	s.accept(t, numbered(1, 20))
	older := numbered(2, 20)
	older.Key = "k"
	s.accept(t, older)
	s.commit(t)
	if got, want := s.accept(t, m).Drops, []Drop{{Seq: 2, Cause: Conflated}, {Seq: 1, Cause: DroppedOldest}}; !slices.Equal(got, want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
	if s.stats.Conflated != 1 || s.stats.DroppedOldest != 1 || s.ledger.Totals[Dropped] != 2 {
		t.Errorf("%+v", s.stats)
	}
}

// TestAdmit checks which messages are dropped for a new one, by policy, priority and watermark.
func TestAdmit(t *testing.T) {
	full := errors.New("")
	for _, c := range []struct {
		name     string
		policy   FullPolicy
		stored   string // the priorities of the stored messages; each has 10 bytes
		sent     uint64 // the sent watermark of Normal
		released uint64
		open     bool // the messages are not committed yet
		priority Priority
		size     int
		victims  []uint64
		err      error // full: ErrFull
	}{
		{"room", Reject, "nnn", 0, 0, false, Normal, 10, nil, nil},
		{"too many", Reject, "nnnn", 0, 0, false, Normal, 10, nil, full},
		{"too many bytes", Reject, "nnn", 0, 0, false, Normal, 71, nil, full},
		{"the new one goes", DropNewest, "nnnn", 0, 0, false, Normal, 10, nil, full},
		{"the oldest", DropOldest, "nnnn", 0, 0, false, Normal, 10, []uint64{1}, nil},
		{"as many as necessary", DropOldest, "nnnn", 0, 0, false, Normal, 90, []uint64{1, 2, 3}, nil},
		{"not what may have been sent", DropOldest, "nnnn", 2, 0, false, Normal, 10, []uint64{3}, nil},
		{"not what was released", DropOldest, "nnnn", 0, 1, false, Normal, 10, []uint64{2}, nil},
		{"all may have been sent", DropOldest, "nnnn", 4, 0, false, Normal, 10, nil, full},
		{"the lowest priority first", DropOldest, "hnuh", 0, 0, false, High, 90, []uint64{2, 1, 4}, nil},
		{"no higher priority", DropOldest, "hhhh", 0, 0, false, Normal, 10, nil, full},
		{"not enough", DropOldest, "hnhh", 0, 0, false, Normal, 90, nil, full},
		{"not committed yet", DropOldest, "nnnn", 0, 0, true, Normal, 10, nil, errUncommitted},
		{"a higher priority is not committed", DropOldest, "hhhh", 0, 0, true, Normal, 10, nil, full},
	} {
		s := newBed(Options{Limits: Limits{MaxMessages: 4, MaxBytes: 100, WhenFull: c.policy}})
		for i, p := range c.stored {
			m := numbered(uint64(i+1), 10)
			m.Priority = map[rune]Priority{'n': Normal, 'h': High, 'u': Urgent}[p]
			s.accept(t, m)
		}
		s.setSent(s.b, Normal, c.sent)
		s.release(s.b, c.released)
		if !c.open {
			s.commit(t)
		}
		a, err := s.admit(&Message{Priority: c.priority, Packet: make([]byte, c.size)})
		if c.err == full && errors.Is(err, ErrFull) {
			err = full
		}
		if err != c.err || err == nil && !slices.Equal(a.victims, c.victims) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, a.victims, err, c.victims, c.err)
		}
		if s.stats.DroppedNewest > 0 != (c.policy == DropNewest) {
			t.Errorf("%s: %d were counted as the newest", c.name, s.stats.DroppedNewest)
		}
	}
}

// TestAdmit_LoweredWatermark checks that messages become droppable when the watermark is lowered.
func TestAdmit_LoweredWatermark(t *testing.T) {
	s := newBed(Options{Limits: Limits{MaxMessages: 2, WhenFull: DropOldest}})
	for n := range uint64(2) {
		m := numbered(n+1, 10)
		m.Priority = High
		s.accept(t, m)
	}
	s.setSent(s.b, High, 2)
	s.commit(t)
	m := &Message{Priority: High}
	if _, err := s.admit(m); !errors.Is(err, ErrFull) {
		t.Errorf("all may have been sent: %v", err)
	}
	s.setSent(s.b, High, 1)
	if a, err := s.admit(m); err != nil || !slices.Equal(a.victims, []uint64{2}) {
		t.Errorf("%v, %v", a.victims, err)
	}
}

// TestState_Sum checks that the totals stay consistent through random changes.
func TestState_Sum(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	s := newBed(Options{Limits: Limits{MaxMessages: 20, WhenFull: DropOldest}, Retention: Retention{MaxDeadLetters: 3, MaxReceipts: 10}})
	for range 5000 {
		any := 1 + rnd.Uint64N(s.ledger.Next)
		switch rnd.IntN(8) {
		case 0, 1, 2:
			m := numbered(s.ledger.Next, rnd.IntN(50))
			m.Priority = Priority(rnd.IntN(Priorities))
			if rnd.IntN(3) == 0 {
				m.Key = string(rune('a' + rnd.IntN(3)))
			}
			if a, err := s.admit(m); err == nil {
				s.state.accept(s.b, m, 1, record.Never, a)
			} else if !errors.Is(err, ErrFull) && err != errUncommitted {
				t.Fatal(err)
			}
		case 3, 4:
			s.done(s.b, any, Result{Kind: Acked + ResultKind(rnd.IntN(5))})
		case 5:
			s.release(s.b, any)
		case 6:
			s.discard(s.b, any)
		case 7:
			s.commit(t)
		}
		var stats Stats
		stats.count(&s.ledger)
		if stats.Accepted != stats.Acked+stats.Refused+stats.Expired+stats.Dropped+stats.DeadLettered+stats.Pending || stats.DeadLetters > 3 {
			t.Fatalf("%+v", stats)
		}
	}
	if len(s.releases()) == 0 || s.stats.Conflated == 0 || s.stats.DroppedOldest == 0 {
		t.Errorf("%d released, %+v", len(s.releases()), s.stats)
	}
}
