package ordering

import (
	"container/list"
	"math"
	"sync"
	"time"
)

// Resequencer restores the order of the messages of each key and emits each message once. It is
// safe for concurrent use. It has no timer, so the caller must call Expire when a gap has been open
// for Options.GapTimeout.
//
// Push, PushNew, Expire and Flush take a function emit, and call it for each message that is ready.
// emit may call the Resequencer, also with the same key. The argument outOfOrder is true for a
// message that is Late or NumberReused. For one key, the calls of emit do not overlap. The call
// that closes the gap before a held message emits this message, with its own emit function.
//
// If another goroutine is emitting messages of the key, Push leaves its message to that goroutine
// and returns earlier. So a message has been handled when emit has returned, but not always when
// Push has returned. The caller must limit how many messages wait in this way. If one goroutine per
// key calls Push, messages wait only while another goroutine runs Expire. At most as many messages
// wait as this call of Expire releases.
//
// A panic in emit reaches the caller. The message counts as emitted. The next call for the key
// emits the messages after it.
type Resequencer[T any] struct {
	opts    Options
	mu      sync.Mutex // guards the fields below
	streams map[string]*stream[T]
	due     deadlines[T] // streams with held messages, by the age of their gap
	idle    idleList[T]  // all other streams, least recently used first
	recent  list.List    // streams with IDs, least recently used first
	stats   Stats
}

// NewResequencer returns a Resequencer that knows no keys.
func NewResequencer[T any](o Options) *Resequencer[T] {
	r := &Resequencer[T]{opts: o.withDefaults(), streams: make(map[string]*stream[T])}
	r.idle.init()
	return r
}

// Push adds the message with number seq in an epoch of key, and emits all messages that are now in
// order. The Result describes what happened to this message. If the number is known, or the epoch
// is lower than the epoch of the stream, Push compares the ID with the IDs of the last messages of
// the key.
//
// A higher epoch means that the publisher may have lost numbers. Push then emits the held messages
// of the old epoch, reports their gaps, and starts the stream again. A message of a lower epoch is
// a Duplicate if its ID is known, and Late if it is not.
func (r *Resequencer[T]) Push(key string, epoch, seq uint64, id ID, v T, emit func(v T, outOfOrder bool)) Result {
	return r.add(key, epoch, seq, identity{ID: id}, v, emit)
}

// PushNew is like Push, but for a message that is certainly not a duplicate, for example because a
// dedupe cache has checked it. PushNew never returns Duplicate or NumberRepeated, and keeps no ID.
func (r *Resequencer[T]) PushNew(key string, epoch, seq uint64, v T, emit func(v T, outOfOrder bool)) Result {
	return r.add(key, epoch, seq, identity{isNew: true}, v, emit)
}

// identity identifies a message independently of its number.
type identity struct {
	ID
	isNew bool // the message is known not to be a copy
}

func (r *Resequencer[T]) add(key string, epoch, seq uint64, id identity, v T, emit func(T, bool)) Result {
	r.mu.Lock()
	st := r.stream(key)
	result := r.push(st, epoch, seq, id, v, emit)
	r.settle(st)
	others := r.makeRoom(st, emit)
	if result == Held && st.passed(seq) {
		result = Delivered
	}
	r.mu.Unlock()
	r.runAll(append(others, st))
	return result
}

func (r *Resequencer[T]) push(st *stream[T], epoch, seq uint64, id identity, v T, emit func(T, bool)) Result {
	switch {
	case !st.started:
		st.start(&r.opts, epoch, seq)
	case epoch < st.epoch:
		if r.knows(st, id) {
			r.stats.Duplicates++
			return Duplicate
		}
		return r.late(st, id, v, emit)
	case epoch > st.epoch:
		r.newEpoch(st, epoch, seq, emit)
	}
	switch {
	case st.passed(seq):
		return r.passed(st, seq, id, v, emit)
	case seq == st.next:
		r.put(st, id.ID, v, emit, false)
		st.advance(seq)
		r.stats.Delivered++
		r.release(st, emit)
		return Delivered
	}
	if h := st.hold(seq, id.ID, v, time.Now()); h != nil {
		return r.known(st, id, h.id, v, emit)
	}
	r.stats.Held++
	if len(st.held) > r.opts.MaxHeldPerKey {
		r.giveUp(st, Full, emit)
	}
	return Held
}

// passed handles a message of the current epoch whose number is lower than the next number.
func (r *Resequencer[T]) passed(st *stream[T], seq uint64, id identity, v T, emit func(T, bool)) Result {
	switch {
	case r.knows(st, id):
		r.stats.Duplicates++
		return Duplicate
	case seq < st.floor || st.missing.has(seq):
		if r.opts.Late == DeliverLate { // with DropLate, a copy is Late again
			st.missing.take(seq)
			r.limitRanges(st)
		}
		return r.late(st, id, v, emit)
	}
	return r.known(st, id, ID{}, v, emit)
}

// known handles a message whose number is known. If a message with this number is held, held is the
// ID of that message.
func (r *Resequencer[T]) known(st *stream[T], id identity, held ID, v T, emit func(T, bool)) Result {
	switch {
	case id.isNew:
	case id.ID == ID{}:
		r.stats.NumbersRepeated++
		return NumberRepeated
	case id.ID == held || r.knows(st, id):
		r.stats.Duplicates++
		return Duplicate
	}
	r.stats.NumbersReused++
	r.put(st, id.ID, v, emit, true)
	return NumberReused
}

// knows reports whether the ID of a message is known.
func (r *Resequencer[T]) knows(st *stream[T], id identity) bool {
	return id.ID != ID{} && st.ids.has(id.ID)
}

// put emits a message and records its ID.
func (r *Resequencer[T]) put(st *stream[T], id ID, v T, emit func(T, bool), outOfOrder bool) {
	st.put(v, emit, outOfOrder)
	r.keep(st, id)
}

func (r *Resequencer[T]) late(st *stream[T], id identity, v T, emit func(T, bool)) Result {
	r.stats.Late++
	if r.opts.Late == DeliverLate {
		r.put(st, id.ID, v, emit, true)
	}
	return Late
}

func (r *Resequencer[T]) newEpoch(st *stream[T], epoch, seq uint64, emit func(T, bool)) {
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
func (r *Resequencer[T]) giveUp(st *stream[T], why GapReason, emit func(T, bool)) {
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

// release emits the held messages that are now in order.
func (r *Resequencer[T]) release(st *stream[T], emit func(T, bool)) {
	n := 0
	for n < len(st.held) && st.held[n].seq == st.next {
		r.put(st, st.held[n].id, st.held[n].v, emit, false)
		st.advance(st.held[n].seq)
		n++
	}
	st.held = discard(st.held, n)
	r.stats.Held -= n
	r.stats.Delivered += uint64(n)
}

// Expire gives up every gap that has been open for GapTimeout, and emits the messages after the
// gap. It returns the time at which the wait for the next gap ends. It returns the zero time if no message is
// held.
func (r *Resequencer[T]) Expire(emit func(v T, outOfOrder bool)) (next time.Time) {
	now := time.Now()
	return r.giveUpWhile(TimedOut, emit, func(since time.Time) bool {
		return now.Sub(since) >= r.opts.GapTimeout
	})
}

// Flush gives up all open gaps, and emits the messages after them.
func (r *Resequencer[T]) Flush(emit func(v T, outOfOrder bool)) {
	now := time.Now()
	r.giveUpWhile(Flushed, emit, func(since time.Time) bool { return !since.After(now) })
}

// giveUpWhile gives up gaps, beginning with the oldest gap. It handles one stream at a time, so
// that the state stays consistent after a panic in emit.
func (r *Resequencer[T]) giveUpWhile(why GapReason, emit func(T, bool), due func(since time.Time) bool) (next time.Time) {
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
