package ordering

import (
	"container/list"
	"math"
	"slices"
	"sort"
	"time"
)

// stream is the state of one key. It contains the next number, the held messages, and the numbers
// that were given up. When a message is in order, or a gap or a new epoch must be reported, the
// stream appends an event to out. The Resequencer then takes the events from out and calls the
// callbacks.
//
// The memory of a stream depends on its held messages and ranges. It does not depend on the
// distance between numbers.
type stream[T any] struct {
	key     string
	started bool
	epoch   uint64

	next  uint64 // the number that is next in order
	ended bool   // the number 2^64-1 was passed, so next is 0

	held    []held[T] // ascending, all above next
	missing ranges    // numbers below next that were not emitted
	floor   uint64    // all numbers below it are Late, whether they were emitted or not

	ids    idRing        // IDs of the last emitted messages, of all epochs
	recent *list.Element // in Resequencer.recent; nil: there are no IDs

	size     int64      // as counted in Stats.StreamBytes
	out      []event[T] // events to emit, from index first on
	first    int
	counted  int // number of events of out that are counted in Stats.Waiting
	emitting bool

	due          int        // index in the heap of deadlines; -1: no message is held
	older, newer *stream[T] // in the list of idle streams; nil: the stream is not idle
}

type held[T any] struct {
	seq uint64
	// since is the time at which the gap before this message opened. A gap opens when the first
	// message after it arrives. The times are ascending.
	since time.Time
	id    ID
	v     T
}

// event is a callback that the Resequencer has to call. Exactly one of emit, gap and epochs is set.
type event[T any] struct {
	emit   func(v T, outOfOrder bool)
	v      T
	late   bool // outOfOrder
	gap    *Gap
	epochs *[2]uint64
}

// start begins the stream at its first number.
func (st *stream[T]) start(o *Options, epoch, seq uint64) {
	st.started, st.epoch = true, epoch
	st.next, st.ended, st.floor, st.missing = 0, false, 0, nil
	switch {
	case o.Start == FromOne && seq > 0:
		st.next, st.floor = 1, 1 // a 0 that arrives later is Late
	case seq > 0:
		st.next = seq
		st.missing.add(Range{0, seq - 1})
	}
}

// passed reports whether seq is below the next number.
func (st *stream[T]) passed(seq uint64) bool { return st.ended || seq < st.next }

// advance sets the next number to the one after seq.
func (st *stream[T]) advance(seq uint64) { st.next, st.ended = seq+1, seq == math.MaxUint64 }

// hold stores a message for later. If a message with the same number is already held, hold returns
// that message and stores nothing.
func (st *stream[T]) hold(seq uint64, id ID, v T, now time.Time) (other *held[T]) {
	i, n := len(st.held), len(st.held)
	if n > 0 && seq <= st.held[n-1].seq {
		i = sort.Search(n, func(i int) bool { return st.held[i].seq >= seq })
		if st.held[i].seq == seq {
			return &st.held[i]
		}
		now = st.held[i].since // seq divides an open gap
	}
	st.held = slices.Insert(st.held, i, held[T]{seq, now, id, v})
	return nil
}

// discard removes the first n elements and the references in them.
func discard[E any](s []E, n int) []E {
	if s = slices.Delete(s, 0, n); len(s) == 0 && cap(s) > 64 {
		return nil
	}
	return s
}

// giveUp gives up the gap before the first held message.
func (st *stream[T]) giveUp(o *Options, why GapReason) Gap {
	g := Gap{Key: st.key, Epoch: st.epoch, From: st.next, To: st.held[0].seq - 1, Reason: why}
	st.missing.add(Range{g.From, g.To})
	st.next = st.held[0].seq
	if o.OnGap != nil {
		st.out = append(st.out, event[T]{gap: &g})
	}
	return g
}

// limit removes the lowest ranges until at most maxRanges are left. It returns the number of
// removed ranges.
func (st *stream[T]) limit(maxRanges int) int {
	n := len(st.missing) - maxRanges
	if n <= 0 {
		return 0
	}
	st.floor = max(st.floor, st.missing[n-1].To+1) // no overflow: To is below next
	st.missing = slices.Delete(st.missing, 0, n)
	return n
}

func (st *stream[T]) put(v T, emit func(T, bool), outOfOrder bool) {
	st.out = append(st.out, event[T]{emit: emit, v: v, late: outOfOrder})
}

func (st *stream[T]) waiting() int { return len(st.out) - st.first }

// take removes the next event to emit.
func (st *stream[T]) take() event[T] {
	e := st.out[st.first]
	st.out[st.first] = event[T]{}
	st.first++
	if st.first == len(st.out) {
		st.out, st.first = discard(st.out, len(st.out)), 0
	}
	return e
}
