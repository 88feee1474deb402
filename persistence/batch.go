package persistence

import (
	"sort"
	"sync"
	"sync/atomic"
)

// batch is what one commit writes: the records made since the last one. The
// first who waits for it commits it, for all others; there is no goroutine for
// that.
type batch struct {
	id    uint64
	buf   []byte        // unsealed records
	index               // its messages; positions relative to buf
	moves []move        // messages of older segments, written again
	lines []line        // its messages that are not Normal
	force bool          // sync, whatever the policy
	led   bool          // somebody is going to commit it
	over  bool          // committed, or failed
	err   error         // valid when over
	done  chan struct{} // closed when over; nil while nobody waits
	// waiters counts those who wait for it, without the one who commits it.
	waiters atomic.Int32
}

// line is a message's place in the order of its priority.
type line struct {
	p           Priority
	seq, number uint64
}

// place returns the Number of one of its messages that are not Normal; 0: it has
// no such message.
func (b *batch) place(seq uint64) uint64 {
	i := sort.Search(len(b.lines), func(i int) bool { return b.lines[i].seq >= seq })
	if i < len(b.lines) && b.lines[i].seq == seq {
		return b.lines[i].number
	}
	return 0
}

// await returns when the batch is over. It is entered with mu held and leaves
// without.
func (b *batch) await(mu *sync.Mutex) {
	if b.over {
		mu.Unlock()
		return
	}
	if b.done == nil {
		b.done = make(chan struct{})
	}
	b.waiters.Add(1)
	mu.Unlock()
	<-b.done
}
