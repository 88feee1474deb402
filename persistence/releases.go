package persistence

import (
	"cmp"
	"slices"
)

// releases are the messages that were released, in the order of their PUBRECs.
// Each has a rank, which its records carry, so that the order outlives whatever
// becomes of the records of others: it does not matter where in the log they lie.
//
// Those that are done stay in the list until they are more than half of it, so
// that a release and an end cost nothing that grows with the list. It is bounded
// by twice the messages that are released at a time, of which a session has at
// most 65,535.
type releases struct {
	list []release // by rank
	live int       // how many of them are not done
	last uint64    // the highest rank given out
}

type release struct{ seq, rank uint64 }

// fewReleases is how many of those that are done are not worth looking for.
const fewReleases = 64

// add notes the next release and returns its rank.
func (r *releases) add(seq uint64) (rank uint64) {
	r.last = min(r.last+1, maxSequence)
	r.live++
	r.list = append(r.list, release{seq, r.last})
	return r.last
}

// done notes that one of them is done.
func (r *releases) done(released func(seq uint64) bool) {
	if r.live--; r.live <= 0 {
		r.list, r.live = r.list[:0], 0
	} else if len(r.list) > 2*r.live+fewReleases {
		r.tidy(released)
	}
}

// tidy takes off those that are done.
func (r *releases) tidy(released func(seq uint64) bool) {
	r.list = slices.DeleteFunc(r.list, func(e release) bool { return !released(e.seq) })
	r.live = len(r.list)
}

// clear forgets all: their session is gone.
func (r *releases) clear() { r.list, r.live = nil, 0 }

// ranks returns the rank of each.
func (r *releases) ranks() map[uint64]uint64 {
	ranks := make(map[uint64]uint64, len(r.list))
	for _, e := range r.list {
		ranks[e.seq] = e.rank
	}
	return ranks
}

// found notes a release that was read from a record, with its rank; 0: it is of a
// release that did not note ranks, and the order of the records is that of the
// PUBRECs.
func (r *releases) found(seq, rank uint64) {
	if rank == 0 {
		rank = min(r.last+1, maxSequence)
	}
	r.last = max(r.last, rank)
	r.list = append(r.list, release{seq, rank})
}

// loaded puts those that were found into their order.
func (r *releases) loaded(released func(seq uint64) bool) {
	slices.SortStableFunc(r.list, func(a, b release) int { return cmp.Compare(a.rank, b.rank) })
	twice := make(map[uint64]bool, len(r.list))
	r.tidy(func(seq uint64) bool {
		again := twice[seq]
		twice[seq] = true
		return !again && released(seq)
	})
}

// Released implements [Store].
func (l *Log) Released() []Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.ledger
	g.releases.tidy(l.released)
	places := make([]Position, 0, len(g.releases.list))
	for _, e := range g.releases.list {
		p := l.find(e.seq).priority()
		places = append(places, Position{Seq: e.seq, Number: l.place(p, e.seq), Priority: p})
	}
	return places
}

// released reports whether the message is, and is not done.
func (l *Log) released(seq uint64) bool {
	r := l.find(seq)
	return r.ok() && r.state() == stateReleased
}
