package ordering

import (
	"math"
	"sort"
	"time"
)

// stream is one key's order: what comes next, what is held behind which gap,
// and what was given up. It puts what is now in order into out, along with the
// news of gaps and epochs; emitting is the Resequencer's business.
//
// Its size depends on the number of messages it holds and of ranges it
// remembers, never on the distance between two numbers.
type stream[T any] struct {
	key     string
	started bool
	epoch   uint64

	next  uint64 // the number that is in order now
	ended bool   // 2^64-1 was passed; next is 0 again

	held    []held[T] // ascending, all above next
	missing ranges    // below next and not emitted
	floor   uint64    // below it, what was emitted is forgotten

	out      []event[T] // from first on, to be emitted
	first    int
	counted  int // of out, in Stats.Waiting
	emitting bool

	due          int        // index in the heap of deadlines; -1 when nothing is held
	older, newer *stream[T] // in the list of idle streams
	idle         bool
}

type held[T any] struct {
	seq uint64
	// since is when the gap before this one opened, which is when the first
	// message behind it came. Ascending, too.
	since time.Time
	v     T
}

// event is what an emitter has to do: exactly one of emit, gap and epochs.
type event[T any] struct {
	emit   func(T)
	v      T
	gap    *Gap
	epochs *[2]uint64
}

// start begins the stream at its first number.
func (st *stream[T]) start(o *Options, epoch, seq uint64) {
	st.started = true
	st.epoch = epoch
	st.next, st.ended, st.floor, st.missing = 0, false, 0, nil
	switch {
	case o.Start == FromOne && seq > 0:
		st.next = 1
		st.floor = 1 // a 0 that comes yet is Late
	case seq > 0:
		st.next = seq
		st.missing.add(Range{0, seq - 1})
	}
}

// passed reports whether seq is below what is in order now.
func (st *stream[T]) passed(seq uint64) bool { return st.ended || seq < st.next }

// stale tells apart the two sorts of passed numbers.
func (st *stream[T]) stale(seq uint64) Result {
	if st.missing.take(seq) || seq < st.floor {
		return Late
	}
	return Duplicate
}

// advance moves past seq.
func (st *stream[T]) advance(seq uint64) {
	st.next, st.ended = seq+1, seq == math.MaxUint64
}

// hold keeps a value for later; false if its number is held already.
func (st *stream[T]) hold(seq uint64, v T, now time.Time) bool {
	n := len(st.held)
	i := n
	if n > 0 && seq <= st.held[n-1].seq {
		i = sort.Search(n, func(i int) bool { return st.held[i].seq >= seq })
		if st.held[i].seq == seq {
			return false
		}
		now = st.held[i].since // it splits a gap that is open already
	}
	st.held = append(st.held, held[T]{})
	copy(st.held[i+1:], st.held[i:])
	st.held[i] = held[T]{seq, now, v}
	return true
}

// release puts out what is held and now in order, and returns how many.
func (st *stream[T]) release(emit func(T)) int {
	n := 0
	for n < len(st.held) && st.held[n].seq == st.next {
		st.put(st.held[n].v, emit)
		st.advance(st.held[n].seq)
		n++
	}
	st.held = discard(st.held, n)
	return n
}

// discard removes the first n without keeping what they refer to alive.
func discard[E any](s []E, n int) []E {
	rest := copy(s, s[n:])
	clear(s[rest:])
	if rest == 0 && cap(s) > 64 {
		return nil
	}
	return s[:rest]
}

// giveUp reports the gap before the first held message and moves there.
func (st *stream[T]) giveUp(o *Options, why GapReason) Gap {
	g := Gap{Key: st.key, Epoch: st.epoch, From: st.next, To: st.held[0].seq - 1, Reason: why}
	st.missing.add(Range{g.From, g.To})
	st.next = st.held[0].seq
	if o.OnGap != nil {
		st.out = append(st.out, event[T]{gap: &g})
	}
	return g
}

// limit forgets the lowest ranges and returns how many.
func (st *stream[T]) limit(maxRanges int) int {
	n := len(st.missing) - maxRanges
	if n <= 0 {
		return 0
	}
	st.floor = max(st.floor, st.missing[n-1].To+1) // To is below next: no overflow
	st.missing = append(st.missing[:0], st.missing[n:]...)
	return n
}

func (st *stream[T]) put(v T, emit func(T)) {
	st.out = append(st.out, event[T]{emit: emit, v: v})
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
