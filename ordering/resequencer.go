package ordering

import (
	"math"
	"sync"
	"time"
)

// Resequencer restores the order of the messages of each key and emits each once. It is
// safe for concurrent use. It has no timer: call Expire when it is due.
//
// The emit functions of Push, Expire and Flush are called without a lock held, and may call the
// Resequencer, also with the same key. For one key, one call runs at a time. If another goroutine
// is emitting for the key, Push leaves the message to it and returns before. So a message has been
// handled when emit has returned, not when Push has returned. A held message is emitted by the call
// that closes the gap before it, with the emit function of that call. Callers limit how many
// messages wait in this way: with one goroutine per key, at most what a concurrent Expire releases.
//
// A panic in emit reaches the caller. The message counts as emitted, and the messages
// after it are emitted by the next call for the key.
type Resequencer[T any] struct {
	opts    Options
	mu      sync.Mutex // guards the fields below
	streams map[string]*stream[T]
	due     deadlines[T] // streams with held messages, by the age of their gap
	idle    idleList[T]  // other streams, the least recently used first
	stats   Stats
}

// NewResequencer returns a Resequencer without keys.
func NewResequencer[T any](o Options) *Resequencer[T] {
	r := &Resequencer[T]{opts: o.withDefaults(), streams: make(map[string]*stream[T])}
	r.idle.init()
	return r
}

// Push adds the message with number seq of an epoch of key, and emits the messages
// that are in order now. The Result describes this message.
//
// A higher epoch means that the publisher has lost its numbers: the held messages of
// the old epoch are emitted first, their gaps are reported, and the stream starts
// again. A message of a lower epoch is Late; duplicates of it are not detected.
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
	case st.passed(seq) && (st.missing.take(seq) || seq < st.floor):
		r.limitRanges(st)
		return r.late(st, v, emit)
	case st.passed(seq):
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

// giveUp gives up the first gap of a stream with held messages.
func (r *Resequencer[T]) giveUp(st *stream[T], why GapReason, emit func(T)) {
	g := st.giveUp(&r.opts, why)
	r.stats.Gaps++
	n := g.To - g.From + 1 // no overflow: To is below 2^64-1
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

// Expire gives up every gap that has been open for GapTimeout, and emits the messages
// after it. It returns when the next gap is due; zero: no message is held.
func (r *Resequencer[T]) Expire(emit func(v T)) (next time.Time) {
	now := time.Now()
	return r.giveUpWhile(TimedOut, emit, func(since time.Time) bool {
		return now.Sub(since) >= r.opts.GapTimeout
	})
}

// Flush gives up all open gaps, and emits the messages after them.
func (r *Resequencer[T]) Flush(emit func(v T)) {
	now := time.Now()
	r.giveUpWhile(Flushed, emit, func(since time.Time) bool { return !since.After(now) })
}

// giveUpWhile gives up gaps from the oldest on, one stream at a time, so that a panic
// in emit leaves a consistent state.
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
