package ledger

import (
	"cmp"
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Releases are the released messages, ordered by rank. The ranks ascend in the order of the PUBRECs.
//
// Ended messages stay in the list until they are more than half of the list, so Add and Done take
// constant time. The list has at most twice as many entries as there are released messages. A
// session has at most 65,535 released messages.
type Releases struct {
	list []release // by rank
	live int       // number of pending messages in list
	last uint64    // the highest rank in use
}

type release struct{ seq, rank uint64 }

// fewReleases is the number of ended messages that the list may always contain.
const fewReleases = 64

// Add adds a message and returns its rank.
func (r *Releases) Add(seq uint64) (rank uint64) {
	r.Found(seq, 0)
	r.live++
	return r.last
}

// Done records that one of the messages has ended.
func (r *Releases) Done(released func(seq uint64) bool) {
	if r.live--; r.live <= 0 {
		r.list, r.live = r.list[:0], 0
	} else if len(r.list) > 2*r.live+fewReleases {
		r.tidy(released)
	}
}

// tidy removes the messages that have ended.
func (r *Releases) tidy(released func(seq uint64) bool) {
	r.list = slices.DeleteFunc(r.list, func(e release) bool { return !released(e.seq) })
	r.live = len(r.list)
}

// List returns the messages that have not ended, in order.
func (r *Releases) List(released func(seq uint64) bool) []uint64 {
	r.tidy(released)
	seqs := make([]uint64, 0, len(r.list))
	for _, e := range r.list {
		seqs = append(seqs, e.seq)
	}
	return seqs
}

// Ranks returns the rank of each message.
func (r *Releases) Ranks() map[uint64]uint64 {
	ranks := make(map[uint64]uint64, len(r.list))
	for _, e := range r.list {
		ranks[e.seq] = e.rank
	}
	return ranks
}

// Found adds a message that was read from a record with this rank. The rank is 0 if an earlier
// release wrote the record. Such records are in the order of the PUBRECs.
func (r *Releases) Found(seq, rank uint64) {
	if rank == 0 {
		rank = min(r.last+1, record.MaxSequence)
	}
	r.last = max(r.last, rank)
	r.list = append(r.list, release{seq, rank})
}

// Loaded sorts the messages that were added by Found.
func (r *Releases) Loaded(released func(seq uint64) bool) {
	slices.SortStableFunc(r.list, func(a, b release) int { return cmp.Compare(a.rank, b.rank) })
	twice := make(map[uint64]bool, len(r.list))
	r.tidy(func(seq uint64) bool {
		again := twice[seq]
		twice[seq] = true
		return !again && released(seq)
	})
}
