package deferral

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// GivenUp is a message that is given up after it may have been sent. It is not sent again, and ends
// when the server no longer holds its packet identifier.
type GivenUp struct {
	Seq      uint64
	ID       uint16 // packet identifier; 0: the session was lost
	code     byte
	since    time.Time
	priority persistence.Priority
	size     int
}

// GiveUp removes a message from its topic queue. The message keeps its packet identifier until it
// has ended.
func (d *Queue) GiveUp(e *persistence.Entry, id uint16, code byte, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.remove(e.Seq)
	d.giveUp(e, id, code, now)
	if l != nil {
		d.schedule(l, now)
	}
}

func (d *Queue) giveUp(e *persistence.Entry, id uint16, code byte, now time.Time) {
	d.endGivenUp(e.Seq) // the store could not record it the first time
	x := GivenUp{Seq: e.Seq, ID: id, code: code, since: now, priority: e.Priority, size: len(e.Packet)}
	d.givenUp[x.Seq] = x
	if id != 0 {
		d.held[id] = x.Seq
	}
	d.count[x.priority]++
	d.bytes += int64(x.size)
	d.any.Store(true)
}

// GivenUp returns the messages that are given up and have not ended, by sequence.
func (d *Queue) GivenUp() []GivenUp {
	if !d.any.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.givenUp) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Values(d.givenUp), func(a, b GivenUp) int { return cmp.Compare(a.Seq, b.Seq) })
}

// endGivenUp removes a message that was given up, and reports whether it was.
func (d *Queue) endGivenUp(seq uint64) bool {
	x, ok := d.givenUp[seq]
	if !ok {
		return false
	}
	delete(d.givenUp, seq)
	d.release(x.ID, seq)
	d.count[x.priority]--
	d.bytes -= int64(x.size)
	d.settle()
	return true
}
