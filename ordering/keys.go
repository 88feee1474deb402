package ordering

import (
	"cmp"
	"container/heap"
	"slices"
)

// stream returns the stream of key, and creates it if necessary. Call makeRoom or shrink afterwards.
func (r *Resequencer[T]) stream(key string) *stream[T] {
	st := r.streams[key]
	if st == nil {
		st = &stream[T]{key: key, due: -1}
		r.streams[key] = st
	}
	return st
}

// settle must be called after a change of a stream. It moves the stream to the streams with a
// deadline, or to the idle streams. While the messages of a stream are being emitted, the stream is
// not in the list of idle streams.
func (r *Resequencer[T]) settle(st *stream[T]) {
	r.count(st)
	r.resize(st, streamBytes+int64(len(st.key))+rangeBytes*int64(cap(st.missing)))
	switch {
	case len(st.held) == 0 && st.due >= 0:
		heap.Remove(&r.due, st.due)
	case len(st.held) > 0 && st.due < 0:
		heap.Push(&r.due, st)
	case len(st.held) > 0:
		heap.Fix(&r.due, st.due)
	}
	r.idle.remove(st)
	if len(st.held) > 0 || st.emitting || st.waiting() > 0 {
		return
	}
	if !st.started { // Forget was called during the emission of the stream
		r.drop(st)
		return
	}
	r.idle.append(st)
}

const (
	streamBytes = 256 // memory of a stream without its key and ranges
	rangeBytes  = 16
)

// resize records the memory that a stream takes.
func (r *Resequencer[T]) resize(st *stream[T], size int64) {
	r.stats.StreamBytes += size - st.size
	st.size = size
}

// crowded reports whether there are too many streams, or they take too much memory.
func (r *Resequencer[T]) crowded() bool {
	return len(r.streams) > r.opts.MaxKeys || r.stats.StreamBytes > r.opts.MaxStreamBytes
}

func (r *Resequencer[T]) drop(st *stream[T]) {
	r.freeIDs(st)
	r.resize(st, 0)
	if r.streams[st.key] == st {
		delete(r.streams, st.key)
	}
}

// makeRoom enforces MaxHeld, MaxKeys and MaxStreamBytes after a change of st. It may give up gaps
// in other streams. It returns these streams, and the caller must emit them.
func (r *Resequencer[T]) makeRoom(st *stream[T], emit func(T, bool)) (others []*stream[T]) {
	give := func(o *stream[T]) {
		r.giveUp(o, Full, emit)
		r.settle(o)
		if o != st && !slices.Contains(others, o) {
			others = append(others, o)
		}
	}
	for r.stats.Held > r.opts.MaxHeld {
		give(r.due.first())
	}
	r.shrink()
	if r.crowded() {
		// No stream is idle. Give up all gaps of the stream with the oldest gap. The stream is
		// dropped after its emission.
		if o := r.due.first(); o != nil && o != st {
			for len(o.held) > 0 {
				give(o)
			}
		}
	}
	return others
}

// shrink drops idle streams as long as there are too many streams, or they take too much memory.
func (r *Resequencer[T]) shrink() {
	for r.crowded() && !r.idle.empty() {
		st := r.idle.root.newer
		r.idle.remove(st)
		r.drop(st)
		r.stats.EvictedKeys++
	}
}

// Position describes how far the stream of a key has progressed.
type Position struct {
	Epoch uint64
	Last  uint64 // the last number that was emitted in order, or given up
	// Missing contains the numbers up to Last that were given up. Their messages may still arrive.
	Missing []Range
	// IDs contains the IDs of the last emitted messages, at most MaxIDs. The newest ID is the last
	// element.
	IDs []ID
}

// Position returns the progress of the stream of key. Pass it to Restore after a restart. ok is
// false if key is unknown.
func (r *Resequencer[T]) Position(key string) (p Position, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.streams[key]
	if st == nil || !st.started || st.next == 0 && !st.ended {
		return Position{}, false
	}
	p = Position{Epoch: st.epoch, Last: st.next - 1, IDs: st.ids.appendTo(nil)}
	if st.floor > 0 {
		p.Missing = append(p.Missing, Range{0, st.floor - 1})
	}
	p.Missing = append(p.Missing, st.missing...)
	return p, true
}

// Restore sets the progress of key after a restart. All numbers up to Last are then known, except
// the numbers in Missing. The next number is Last+1. If key is already known, Restore has no
// effect.
//
// The fields Missing and IDs are optional. Without Missing, the Resequencer treats a message that
// was given up before the restart as known. Without IDs, it does not recognize a copy of a message
// that was emitted before the restart. It emits the copy with the result NumberReused.
func (r *Resequencer[T]) Restore(key string, p Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.stream(key)
	if !st.started {
		st.started, st.epoch = true, p.Epoch
		st.advance(p.Last)
		st.missing = normal(p.Missing, p.Last)
		r.limitRanges(st)
		for _, id := range p.IDs {
			r.keep(st, id)
		}
	}
	r.settle(st)
	r.shrink()
}

// normal sorts ranges, merges overlapping ones, and removes numbers above last.
func normal(in []Range, last uint64) ranges {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	var out ranges
	for _, r := range in {
		r.To = min(r.To, last)
		if r.From > r.To {
			continue
		}
		if n := len(out); n > 0 && r.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out.add(r)
	}
	return out
}

// Forget removes the state and the IDs of key. The next message with this key starts a new stream.
// Forget returns the held messages in order. It does not emit these messages, and does not report
// the gaps before them.
func (r *Resequencer[T]) Forget(key string) (left []T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.streams[key]
	if st == nil {
		return nil
	}
	for _, h := range st.held {
		left = append(left, h.v)
	}
	r.stats.Held -= len(st.held)
	st.held, st.started = nil, false
	r.freeIDs(st)
	r.settle(st)
	return left
}

// deadlines is a heap of the streams with held messages, oldest gap first.
type deadlines[T any] []*stream[T]

func (d deadlines[T]) first() *stream[T] {
	if len(d) == 0 {
		return nil
	}
	return d[0]
}

func (d deadlines[T]) Len() int           { return len(d) }
func (d deadlines[T]) Less(i, j int) bool { return d[i].held[0].since.Before(d[j].held[0].since) }

func (d deadlines[T]) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].due, d[j].due = i, j
}

func (d *deadlines[T]) Push(x any) {
	st := x.(*stream[T])
	st.due = len(*d)
	*d = append(*d, st)
}

func (d *deadlines[T]) Pop() any {
	old := *d
	st := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	st.due = -1
	return st
}

// idleList is a ring of streams. The first stream after root is the least recently used one.
type idleList[T any] struct{ root stream[T] }

func (l *idleList[T]) init()       { l.root.older, l.root.newer = &l.root, &l.root }
func (l *idleList[T]) empty() bool { return l.root.newer == &l.root }

func (l *idleList[T]) append(st *stream[T]) {
	st.older, st.newer = l.root.older, &l.root
	st.older.newer, l.root.older = st, st
}

func (l *idleList[T]) remove(st *stream[T]) {
	if st.newer != nil {
		st.older.newer, st.newer.older = st.newer, st.older
		st.older, st.newer = nil, nil
	}
}
