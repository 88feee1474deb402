package ordering

import (
	"cmp"
	"fmt"
	"time"
)

// Result describes what Push did with a message.
type Result uint8

const (
	// Delivered: the message was in order, or a gap before it was given up. It has been emitted, or
	// the goroutine that is emitting for its key will emit it.
	Delivered Result = iota + 1
	// Held: an earlier message is missing. The message will be emitted later.
	Held
	// Duplicate: a message with the same ID was emitted or is held. The message is dropped. If the
	// first copy is only held, acknowledging the second one could lose the message in a crash. A
	// dedupe cache before the Resequencer distinguishes the two cases.
	Duplicate
	// Late: the number was given up, is before the start of the stream, or belongs to an older
	// epoch. With DeliverLate the message is emitted out of order. With DropLate it is dropped.
	Late
	// NumberReused: a message with the same number was emitted or is held, but the ID is new, so it
	// is another message. The counter of the publisher has restarted or wrapped, or two publishers
	// use one name. The message is emitted out of order, even with DropLate.
	NumberReused
	// NumberRepeated: a message with the same number was emitted or is held, and this one has no
	// ID. It may be a copy or another message. It is dropped.
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

// Gap is a range of numbers that was given up. Each missing number is in exactly one Gap. If its
// message arrives later, it is Late.
type Gap struct {
	Key      string
	Epoch    uint64
	From, To uint64 // including both
	Reason   GapReason
}

// GapReason is the reason why a gap was given up.
type GapReason uint8

const (
	TimedOut GapReason = iota + 1 // it was open for GapTimeout
	Full                          // MaxHeldPerKey, MaxHeld, MaxKeys or MaxStreamBytes was reached
	NewEpoch                      // the publisher has started a new epoch
	Flushed                       // Flush was called
)

// String returns the name of the reason in lower case.
func (r GapReason) String() string {
	if r < TimedOut || r > Flushed {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return [...]string{TimedOut: "timed out", Full: "full", NewEpoch: "new epoch", Flushed: "flushed"}[r]
}

// Start selects the first number of an unknown key.
type Start uint8

const (
	// Adopt starts with the number of the first message that arrives. Messages with lower numbers
	// are Late.
	Adopt Start = iota
	// FromOne starts with 1. For peers that count from 0, it starts with 0 if that arrives first.
	// Missing numbers from there on are a gap. FromOne suits a receiver whose session is older than
	// the publisher. It also applies to a key that was evicted and arrives again.
	FromOne
)

// LatePolicy selects what happens to a message that arrives after its number was given up.
type LatePolicy uint8

const (
	// DeliverLate emits the message out of order and counts it.
	DeliverLate LatePolicy = iota
	// DropLate drops the message and counts it. It suits values of which only the newest matters.
	// Push returns Late, so the caller can acknowledge the message at once. DropLate does not apply
	// to NumberReused.
	DropLate
)

// Options configure a Resequencer. Zero means the default.
type Options struct {
	// MaxKeys limits the number of streams. At the limit, the least recently used stream without
	// held messages is removed; its key starts again when it arrives again. If all streams hold
	// messages, the oldest gap is given up. Default: 65,536.
	MaxKeys int
	// MaxStreamBytes limits the memory of all streams, in the same way as MaxKeys. A stream takes
	// 256 bytes, its key, and 16 bytes for each given-up range. It matters because publishers
	// choose the keys. Default: 64 MiB.
	MaxStreamBytes int64
	// MaxHeldPerKey limits the held messages of a stream. At the limit, the first gap of the stream
	// is given up. No message is lost. Default: 1,024.
	MaxHeldPerKey int
	// MaxHeld limits the held messages of all streams. At the limit, the oldest gap of all streams
	// is given up. No message is lost. Default: 65,536.
	MaxHeld int
	// MaxRanges limits the given-up ranges that are recorded per stream. At the limit, the lowest
	// range is removed, and every number up to its end is Late. Default: 64.
	MaxRanges int
	// MaxIDs limits the IDs that are kept per stream, which are those of the last emitted messages.
	// A copy of an older message is emitted again, as NumberReused. MaxIDs should be at least the
	// number of messages that can be redelivered at once. Default: 1,024.
	MaxIDs int
	// MaxIDBytes limits the memory of all IDs, which take 16 bytes each. It is allocated as
	// messages arrive. At the limit, the least recently used streams forget their IDs. Default: 16
	// MiB.
	MaxIDBytes int64
	GapTimeout time.Duration // how long a gap can stay open; default: 5 s
	Start      Start         // the first number of an unknown key; default: Adopt
	Late       LatePolicy    // what happens to a message whose number was given up; default: DeliverLate
	// OnGap is called for each gap that is given up. For one key, the calls of OnGap and OnEpoch
	// are in order with the emitted messages: after those before the gap and before those after it.
	// They may call the Resequencer. Default: none.
	OnGap func(Gap)
	// OnEpoch is called for each new epoch of a publisher, in the same order as OnGap. Default:
	// none.
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

// Stats are counters since NewResequencer. Keys, StreamBytes, Held, Waiting and IDBytes are present
// values. If Forget was not called, the number of pushed messages is the sum of Delivered, Late,
// NumbersReused, Duplicates, NumbersRepeated and Held.
type Stats struct {
	Keys        int   // number of streams
	StreamBytes int64 // memory of the streams, see Options.MaxStreamBytes
	Held        int   // messages that are held because an earlier one is missing
	Waiting     int   // messages that are next in their order and are not emitted yet
	IDBytes     int64 // memory of the IDs

	Delivered       uint64 // messages in order
	Late            uint64 // Late messages, emitted or dropped
	NumbersReused   uint64 // messages whose number was used before, and that were emitted because their ID was new
	Duplicates      uint64 // messages dropped because their ID was known
	NumbersRepeated uint64 // messages dropped under a known number, because they had no ID
	Gaps            uint64 // gaps given up
	Missing         uint64 // numbers in these gaps; at most 2^64-1
	Epochs          uint64 // new epochs
	EvictedKeys     uint64 // streams removed because of MaxKeys or MaxStreamBytes
	RangesDropped   uint64 // ranges removed because of MaxRanges
	ForgottenIDs    uint64 // IDs removed because of MaxIDBytes
}
