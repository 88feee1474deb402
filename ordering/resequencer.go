package ordering

import (
	"math"
	"sync"
	"time"
)

// Resequencer puts the messages of each key in order and emits each once. It is
// generic over what it holds and safe for concurrent use; the time it knows only
// when it is called, so whoever uses it calls Expire when Expire said to.
//
// Emitting. The functions given to Push, Expire and Flush are called without a
// lock held; they may call the Resequencer, also with the same key. For one key
// one call runs at a time. If another goroutine is emitting for the key already,
// the values are left to it and Push returns before they are emitted: so a
// message is handled when emit returns for it, not when Push returns. A held
// message is emitted by the call that brings what was missing before it, with
// the emit of that call. What waits in this way is bounded by the callers: one
// goroutine per key never queues more than Expire releases beside it.
//
// A panic in emit passes through to whoever called; the value counts as emitted,
// and what was behind it comes with the next call for its key.
type Resequencer[T any] struct {
	opts Options

	mu      sync.Mutex
	streams map[string]*stream[T]
	due     deadlines[T] // streams that hold something, by the age of their gap
	idle    idleList[T]  // the others, least recently used first
	stats   Stats
}

// NewResequencer returns a Resequencer that knows no key.
func NewResequencer[T any](o Options) *Resequencer[T] {
	return &Resequencer[T]{opts: o.withDefaults(), streams: make(map[string]*stream[T])}
}

// Push takes the message with number seq of key's given epoch and emits what is
// in order thanks to it. The Result is about this message.
//
// A higher epoch than before is a publisher that lost its numbers: what is held
// of the old epoch is emitted first, its gaps are reported, and the stream
// starts over. A lower one is Late, and its repetitions cannot be told.
func (r *Resequencer[T]) Push(key string, epoch, seq uint64, v T, emit func(v T)) Result {
	r.mu.Lock()
	st := r.stream(key)
	result := r.push(st, epoch, seq, v, emit)
	r.settle(st)
	others := r.makeRoom(st, emit)
	if result == Held && st.passed(seq) {
		result = Delivered
	}
	r.mu.Unlock()
	r.runAll(append(others, st))
	return result
}

func (r *Resequencer[T]) push(st *stream[T], epoch, seq uint64, v T, emit func(T)) Result {
	switch {
	case !st.started:
		st.start(&r.opts, epoch, seq)
	case epoch < st.epoch:
		return r.late(st, v, emit)
	case epoch > st.epoch:
		r.newEpoch(st, epoch, seq, emit)
	}
	switch {
	case st.passed(seq):
		if st.stale(seq) == Late {
			r.limitRanges(st)
			return r.late(st, v, emit)
		}
		r.stats.Duplicates++
		return Duplicate
	case seq == st.next:
		st.put(v, emit)
		st.advance(seq)
		r.stats.Delivered++
		r.release(st, emit)
		return Delivered
	case !st.hold(seq, v, time.Now()):
		r.stats.Duplicates++
		return Duplicate
	}
	r.stats.Held++
	if len(st.held) > r.opts.MaxHeldPerKey {
		r.giveUp(st, Full, emit)
	}
	return Held
}

func (r *Resequencer[T]) late(st *stream[T], v T, emit func(T)) Result {
	r.stats.Late++
	if r.opts.Late == DeliverLate {
		st.put(v, emit)
	}
	return Late
}

func (r *Resequencer[T]) newEpoch(st *stream[T], epoch, seq uint64, emit func(T)) {
	for len(st.held) > 0 {
		r.giveUp(st, NewEpoch, emit)
	}
	r.stats.Epochs++
	if r.opts.OnEpoch != nil {
		st.out = append(st.out, event[T]{epochs: &[2]uint64{st.epoch, epoch}})
	}
	st.start(&r.opts, epoch, seq)
}

// giveUp gives up the first gap of a stream that holds something.
func (r *Resequencer[T]) giveUp(st *stream[T], why GapReason, emit func(T)) {
	g := st.giveUp(&r.opts, why)
	r.stats.Gaps++
	n := g.To - g.From + 1 // To is below 2^64-1: it fits
	if r.stats.Missing += n; r.stats.Missing < n {
		r.stats.Missing = math.MaxUint64
	}
	r.release(st, emit)
	r.limitRanges(st)
}

func (r *Resequencer[T]) limitRanges(st *stream[T]) {
	r.stats.RangesDropped += uint64(st.limit(r.opts.MaxRanges))
}

func (r *Resequencer[T]) release(st *stream[T], emit func(T)) {
	n := st.release(emit)
	r.stats.Held -= n
	r.stats.Delivered += uint64(n)
}

// Expire gives up every gap that has been open for GapTimeout and emits what was
// behind it. It returns when to call again: when the next gap will have been
// open for so long, or the zero time when nothing is held. A gap that opens
// later is due later, so the time stays right until then.
func (r *Resequencer[T]) Expire(emit func(v T)) (next time.Time) {
	now := time.Now()
	return r.giveUpWhile(TimedOut, emit, func(since time.Time) bool {
		return now.Sub(since) >= r.opts.GapTimeout
	})
}

// Flush gives up all gaps that are open when it is called and emits what is
// held behind them, for the end of the program.
func (r *Resequencer[T]) Flush(emit func(v T)) {
	now := time.Now()
	r.giveUpWhile(Flushed, emit, func(since time.Time) bool { return !since.After(now) })
}

// giveUpWhile goes through the gaps from the oldest on, one stream at a time, so
// that a panic in emit leaves nothing behind.
func (r *Resequencer[T]) giveUpWhile(why GapReason, emit func(T), due func(since time.Time) bool) (next time.Time) {
	for {
		r.mu.Lock()
		st := r.due.first()
		if st == nil || !due(st.held[0].since) {
			if st != nil {
				next = st.held[0].since.Add(r.opts.GapTimeout)
			}
			r.mu.Unlock()
			return next
		}
		for len(st.held) > 0 && due(st.held[0].since) {
			r.giveUp(st, why, emit)
		}
		r.settle(st)
		r.mu.Unlock()
		r.run(st)
	}
}

// Stats returns a snapshot of the counters.
func (r *Resequencer[T]) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Keys = len(r.streams)
	return s
}
