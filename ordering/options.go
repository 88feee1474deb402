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
	// Duplicate: its ID was emitted or is held. The message is dropped. If the first
	// copy is held, acknowledging the second one could lose the message in a crash. A
	// dedupe cache before the Resequencer tells the two cases apart.
	Duplicate
	// Late: its number was given up, is before the start of the stream, or belongs to
	// an older epoch. It is emitted out of order with DeliverLate, else dropped.
	Late
	// NumberReused: its number was emitted or is held, and its ID is new: it is another
	// message. The publisher's counter started again or wrapped, or two publishers use
	// one name. It is emitted out of order, also with DropLate.
	NumberReused
	// NumberRepeated: its number was emitted or is held, and it has no ID. It may be a
	// copy or another message. It is dropped.
	NumberRepeated
)

// String returns the name of the result in lower case.
func (r Result) String() string {
	if r < Delivered || r > NumberRepeated {
		return fmt.Sprintf("result(%d)", uint8(r))
	}
	return [...]string{Delivered: "delivered", Held: "held", Duplicate: "duplicate", Late: "late",
		NumberReused: "number reused", NumberRepeated: "number repeated"}[r]
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
	Full                          // MaxHeldPerKey, MaxHeld, MaxKeys or MaxStreamBytes was reached
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
	// matters. Push returns Late, and the caller acknowledges the message at once. It
	// does not apply to NumberReused.
	DropLate
)

// Options configures a Resequencer. The zero value is usable.
type Options struct {
	// MaxKeys limits the number of streams. Beyond it, the least recently used stream
	// without held messages is removed, and starts again when it is seen again. If all
	// streams hold messages, the oldest gap is given up. Default 65,536.
	MaxKeys int
	// MaxStreamBytes limits the memory of all streams, in the same way as MaxKeys: 256 bytes each,
	// their keys, and 16 bytes for each given-up range. Publishers choose the keys. Default 64 MiB.
	MaxStreamBytes int64
	// MaxHeldPerKey and MaxHeld limit the messages that wait after a gap, per stream
	// and in total. Beyond them, the first gap of the stream, or the oldest gap of
	// all, is given up. No message is lost. Defaults 1,024 and 65,536.
	MaxHeldPerKey, MaxHeld int
	// MaxRanges limits the given-up ranges that are recorded per stream. Beyond it, the
	// lowest is removed, and every number up to its end is Late. Default 64.
	MaxRanges int
	// MaxIDs limits the IDs that are kept per stream: those of the messages emitted
	// last. An older copy under a known number is emitted again, as NumberReused. At
	// least the number of messages that can be redelivered at once. Default 1,024.
	MaxIDs int
	// MaxIDBytes limits the memory of all IDs, 16 bytes each. It is used as messages
	// arrive. Beyond it, the least recently used streams forget theirs. Default 16 MiB.
	MaxIDBytes int64
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
	o.MaxStreamBytes = cmp.Or(max(o.MaxStreamBytes, 0), 64<<20)
	o.MaxHeldPerKey = cmp.Or(max(o.MaxHeldPerKey, 0), 1024)
	o.MaxHeld = cmp.Or(max(o.MaxHeld, 0), 65_536)
	o.MaxRanges = cmp.Or(max(o.MaxRanges, 0), 64)
	o.MaxIDs = cmp.Or(max(o.MaxIDs, 0), 1024)
	o.MaxIDBytes = cmp.Or(max(o.MaxIDBytes, 0), 16<<20)
	o.GapTimeout = cmp.Or(max(o.GapTimeout, 0), 5*time.Second)
	return o
}

// Stats counts since NewResequencer; Keys, StreamBytes, Held, Waiting and IDBytes are gauges. The sum of
// Delivered, Late, NumbersReused, Duplicates, NumbersRepeated and Held is the number of
// messages that were pushed, if Forget was not called.
type Stats struct {
	Keys        int   // streams
	StreamBytes int64 // memory of the streams, see Options.MaxStreamBytes
	Held        int   // messages that wait after gaps
	Waiting     int   // messages in order that are not emitted yet
	IDBytes     int64 // memory of the IDs that are kept

	Delivered       uint64 // messages put in order
	Late            uint64 // Late messages, emitted or dropped
	NumbersReused   uint64 // emitted under a known number, since their ID was new
	Duplicates      uint64
	NumbersRepeated uint64 // dropped under a known number, since they had no ID
	Gaps            uint64 // gaps given up
	Missing         uint64 // numbers in them; at most 2^64-1
	Epochs          uint64 // new epochs
	EvictedKeys     uint64 // streams removed for MaxKeys or MaxStreamBytes
	RangesDropped   uint64 // ranges removed for MaxRanges
	ForgottenIDs    uint64 // IDs removed for MaxIDBytes
}
