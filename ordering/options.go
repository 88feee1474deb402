package ordering

import (
	"cmp"
	"fmt"
	"time"
)

// Result is what Push did with a message.
type Result uint8

const (
	// Delivered: the message was in order, or a gap before it was given up. It has
	// been emitted, or the goroutine that emits for its key will emit it.
	Delivered Result = iota + 1
	// Held: a message before it is missing. It is emitted later.
	Held
	// Duplicate: its number was emitted or is held. The message is dropped. If the
	// first copy is held, acknowledging the second one could lose the message in a
	// crash. A dedupe cache before the Resequencer tells the two cases apart.
	Duplicate
	// Late: its number was given up, is before the start of the stream, or belongs to
	// an older epoch. It is emitted out of order with DeliverLate, else dropped.
	Late
)

// String returns the name of the result in lower case.
func (r Result) String() string {
	if r < Delivered || r > Late {
		return fmt.Sprintf("result(%d)", uint8(r))
	}
	return [...]string{Delivered: "delivered", Held: "held", Duplicate: "duplicate", Late: "late"}[r]
}

// Gap is a range of numbers that was given up. Each missing number is in exactly one
// Gap. If its message arrives afterwards, it is Late.
type Gap struct {
	Key      string
	Epoch    uint64
	From, To uint64 // both included
	Reason   GapReason
}

// GapReason is why a gap was given up.
type GapReason uint8

const (
	TimedOut GapReason = iota + 1 // open for GapTimeout
	Full                          // MaxHeldPerKey, MaxHeld or MaxKeys was reached
	NewEpoch                      // the publisher started a new epoch
	Flushed                       // by Flush
)

// String returns the name of the reason in lower case.
func (r GapReason) String() string {
	if r < TimedOut || r > Flushed {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return [...]string{TimedOut: "timed out", Full: "full", NewEpoch: "new epoch", Flushed: "flushed"}[r]
}

// Start is the number with which an unknown key starts.
type Start uint8

const (
	// Adopt starts with the first number that is seen. Lower numbers are Late.
	Adopt Start = iota
	// FromOne starts with 1, or with 0 if that is seen first, for peers that count
	// from 0. Missing numbers from there on are a gap. It suits a receiver whose
	// session is older than the publisher. A key that was evicted starts again.
	FromOne
)

// LatePolicy is what happens to a message that arrives after it was given up.
type LatePolicy uint8

const (
	// DeliverLate emits the message out of order and counts it.
	DeliverLate LatePolicy = iota
	// DropLate drops the message and counts it; for values of which only the newest
	// matters. Push returns Late, and the caller acknowledges the message at once.
	DropLate
)

// Options configures a Resequencer. The zero value is usable.
type Options struct {
	// MaxKeys limits the number of streams. Beyond it, the least recently used stream
	// without held messages is removed, and starts again when it is seen again. If all
	// streams hold messages, the oldest gap is given up. Default 65,536.
	MaxKeys int
	// MaxHeldPerKey and MaxHeld limit the messages that wait after a gap, per stream
	// and in total. Beyond them, the first gap of the stream, or the oldest gap of
	// all, is given up. No message is lost. Defaults 1,024 and 65,536.
	MaxHeldPerKey, MaxHeld int
	// MaxRanges limits the given-up ranges that are recorded per stream. Beyond it, the
	// lowest is removed, and every number up to its end is Late. Default 64.
	MaxRanges  int
	GapTimeout time.Duration // how long a gap can stay open; default 5 s
	Start      Start
	Late       LatePolicy
	// OnGap is called for each gap that is given up, OnEpoch for each new epoch of a
	// publisher, if set. For one key they are in order with the emitted messages:
	// between those before and those after the gap. No lock is held.
	OnGap   func(Gap)
	OnEpoch func(key string, old, new uint64)
}

func (o Options) withDefaults() Options {
	o.MaxKeys = cmp.Or(max(o.MaxKeys, 0), 65_536)
	o.MaxHeldPerKey = cmp.Or(max(o.MaxHeldPerKey, 0), 1024)
	o.MaxHeld = cmp.Or(max(o.MaxHeld, 0), 65_536)
	o.MaxRanges = cmp.Or(max(o.MaxRanges, 0), 64)
	o.GapTimeout = cmp.Or(max(o.GapTimeout, 0), 5*time.Second)
	return o
}

// Stats counts since NewResequencer; Keys, Held and Waiting are gauges.
type Stats struct {
	Keys    int // streams
	Held    int // messages that wait after gaps
	Waiting int // messages in order that are not emitted yet

	Delivered     uint64 // messages put in order
	Late          uint64 // Late messages, emitted or dropped
	Duplicates    uint64
	Gaps          uint64 // gaps given up
	Missing       uint64 // numbers in them; at most 2^64-1
	Epochs        uint64 // new epochs
	EvictedKeys   uint64 // streams removed for MaxKeys
	RangesDropped uint64 // ranges removed for MaxRanges
}
