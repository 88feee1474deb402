package ordering

import (
	"fmt"
	"time"
)

// Result says what became of a message given to Push.
type Result uint8

const (
	// Delivered: it was in order (or in order as soon as a gap was given up) and
	// has been emitted or is about to be.
	Delivered Result = iota + 1
	// Held: something before it is missing. It will be emitted later.
	Held
	// Duplicate: its number was emitted or is held already. It is dropped. If it is
	// held, the first copy has not been handled yet; where acknowledging the second
	// could lose it in a crash, let a dedupe cache, which tells in-flight from
	// done, come before ordering.
	Duplicate
	// Late: its number was given up before, lies before the start of the stream,
	// or belongs to an older epoch. With DeliverLate it is emitted, out of order;
	// with DropLate it is dropped.
	Late
)

// String returns the result's name in lower case.
func (r Result) String() string {
	switch r {
	case Delivered:
		return "delivered"
	case Held:
		return "held"
	case Duplicate:
		return "duplicate"
	case Late:
		return "late"
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

// Gap is a range of numbers that was given up. Each missing number is in exactly
// one Gap; one that turns up afterwards is Late.
type Gap struct {
	Key      string
	Epoch    uint64
	From, To uint64 // both included
	Reason   GapReason
}

// GapReason says why a gap was given up.
type GapReason uint8

const (
	TimedOut GapReason = iota + 1 // open for GapTimeout
	Full                          // too much was held behind it
	NewEpoch                      // the publisher started over
	Flushed                       // by Flush
)

// String returns the reason's name in lower case.
func (r GapReason) String() string {
	switch r {
	case TimedOut:
		return "timed out"
	case Full:
		return "full"
	case NewEpoch:
		return "new epoch"
	case Flushed:
		return "flushed"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Start says where an unknown key begins.
type Start uint8

const (
	// Adopt: with the first number seen. Lower ones that come afterwards are Late.
	Adopt Start = iota
	// FromOne: with 1 (or 0, if that is the first seen, for peers that count from
	// 0); anything missing from there is a gap. Right for a receiver whose session
	// is older than the publisher. A key that was evicted begins again.
	FromOne
)

// LatePolicy says what is done with a message that comes after it was given up.
type LatePolicy uint8

const (
	// DeliverLate: emitted out of order and counted, since nothing that was
	// accepted may be lost.
	DeliverLate LatePolicy = iota
	// DropLate: dropped and counted; for values of which only the newest matters.
	// Push answers Late and never emits it, so what the caller owes for it (an
	// acknowledgement, a claim) is due at once.
	DropLate
)

// Options sets up a Resequencer. The zero value is usable.
type Options struct {
	// MaxKeys is the number of streams remembered. When full, the least recently
	// used one that holds nothing is forgotten and begins anew when it is seen
	// again; if all hold something, the oldest gap of all is given up. Default
	// 65,536.
	MaxKeys int

	// MaxHeldPerKey and MaxHeld bound how many messages wait behind gaps, per
	// stream and in all. When full, the stream's first gap, or the oldest of all,
	// is given up: no message is lost. Defaults 1,024 and 65,536.
	MaxHeldPerKey int
	MaxHeld       int

	// MaxRanges bounds how many given-up ranges are remembered per stream. When
	// full, the lowest is forgotten, and every number up to its end counts as Late
	// when it comes, even if it was emitted before. Default 64.
	MaxRanges int

	// GapTimeout is how long a gap may stay open. Default 5 s.
	GapTimeout time.Duration

	Start Start
	Late  LatePolicy

	// OnGap and OnEpoch, if set, are told of given-up gaps and of streams whose
	// publisher started over; for one key in order with the emitted values, that
	// is after those before the gap and before those behind it. No lock is held.
	OnGap   func(Gap)
	OnEpoch func(key string, old, new uint64)
}

func (o Options) withDefaults() Options {
	set := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	set(&o.MaxKeys, defaultMaxKeys)
	set(&o.MaxHeldPerKey, 1024)
	set(&o.MaxHeld, 65_536)
	set(&o.MaxRanges, 64)
	if o.GapTimeout <= 0 {
		o.GapTimeout = 5 * time.Second
	}
	return o
}

// Stats counts since NewResequencer; Keys, Held and Waiting are gauges.
type Stats struct {
	Keys    int // streams remembered now
	Held    int // messages behind gaps now
	Waiting int // messages in order, waiting for an emitter of their key

	Delivered     uint64 // messages put in order
	Late          uint64 // Late messages, emitted or dropped
	Duplicates    uint64
	Gaps          uint64 // gaps given up
	Missing       uint64 // numbers in them; stays at 2^64-1 when it gets there
	Epochs        uint64 // times a publisher started over
	EvictedKeys   uint64
	RangesDropped uint64 // given-up ranges forgotten for MaxRanges
}
