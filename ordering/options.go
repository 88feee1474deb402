package ordering

import (
	"cmp"
	"fmt"
	"time"
)

// Result describes what Push did with a message.
type Result uint8

const (
	// Delivered means that the message was in order, or that a gap before it was given up. The
	// message has been emitted, or the goroutine that currently emits messages of this key will
	// emit it.
	Delivered Result = iota + 1
	// Held means that an earlier message is missing. The Resequencer will emit this message later.
	Held
	// Duplicate means that a message with the same ID was emitted or is held. This message is
	// dropped. If the first copy is still held, do not acknowledge the second copy, because a crash
	// could then lose the message. To distinguish the two cases, use a dedupe cache before the
	// Resequencer.
	Duplicate
	// Late means that the number was given up, is lower than the start of the stream, or belongs to
	// an older epoch. With DeliverLate, the message is emitted out of order. With DropLate, the
	// message is dropped.
	Late
	// NumberReused means that the number is known but the ID is new, so this is a different
	// message. The counter of the publisher has restarted or overflowed, or two publishers use the
	// same name. The message is emitted out of order, even with DropLate.
	NumberReused
	// NumberRepeated means that the number is known and this message has no ID. It may be a
	// duplicate or a different message. It is dropped.
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

// Gap is a range of numbers whose messages did not arrive in time. The Resequencer has given them
// up, and no longer waits for them. Each missing number is in exactly one Gap. If a message of a
// Gap arrives later, it is Late.
type Gap struct {
	Key      string
	Epoch    uint64
	From, To uint64 // the range includes both numbers
	Reason   GapReason
}

// GapReason is the reason why the Resequencer gave up a gap.
type GapReason uint8

const (
	TimedOut GapReason = iota + 1 // the gap was open for GapTimeout
	Full                          // MaxHeldPerKey, MaxHeld, MaxKeys or MaxStreamBytes was reached
	NewEpoch                      // the publisher has started a new epoch
	Flushed                       // the application called Flush
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
	// Adopt starts a stream with the number of the first message that arrives. Messages with lower
	// numbers are Late.
	Adopt Start = iota
	// FromOne starts a stream with 1. If the first message has the number 0, the stream starts with
	// 0, for publishers that count from 0. Missing numbers from the start on are a gap. FromOne
	// suits a receiver whose session began before the publisher started. It also applies when a key
	// arrives again after it was evicted.
	FromOne
)

// LatePolicy selects what happens to a message that arrives after the Resequencer gave up its
// number.
type LatePolicy uint8

const (
	// DeliverLate emits the message out of order and counts it.
	DeliverLate LatePolicy = iota
	// DropLate drops the message and counts it. It suits streams in which only the newest value
	// matters. Push returns Late, so the caller can acknowledge the message at once. DropLate does
	// not apply to NumberReused.
	DropLate
)

// Options configure a Resequencer. A zero field selects the default.
type Options struct {
	// MaxKeys limits the number of streams. At the limit, the least recently used stream without
	// held messages is removed. If the key of this stream arrives again, a new stream starts. If
	// all streams hold messages, the oldest gap is given up. Default: 65,536.
	MaxKeys int
	// MaxStreamBytes limits the memory of all streams, in the same way as MaxKeys. A stream takes
	// 256 bytes, the length of its key, and 16 bytes for each range of given-up numbers. Without
	// this limit, publishers could fill the memory with long keys. Default: 64 MiB.
	MaxStreamBytes int64
	// MaxHeldPerKey limits the number of held messages of a stream. At the limit, the first gap of
	// the stream is given up. No message is lost. Default: 1,024.
	MaxHeldPerKey int
	// MaxHeld limits the number of held messages of all streams together. At the limit, the oldest
	// gap of all streams is given up. No message is lost. Default: 65,536.
	MaxHeld int
	// MaxRanges limits how many ranges of given-up numbers are recorded per stream. At the limit,
	// the lowest range is removed. Every number up to the end of that range is then Late. Default:
	// 64.
	MaxRanges int
	// MaxIDs limits how many IDs are kept per stream. They are the IDs of the last emitted
	// messages. The Resequencer does not recognize a copy of an older message, and emits it with
	// the result NumberReused. MaxIDs should be at least the number of messages that the server can
	// redeliver at once. Default: 1,024.
	MaxIDs int
	// MaxIDBytes limits the memory of all IDs. Each ID takes 16 bytes. The memory is allocated as
	// messages arrive. At the limit, the least recently used streams forget their IDs. Default: 16
	// MiB.
	MaxIDBytes int64
	GapTimeout time.Duration // how long a gap can stay open; default: 5 s
	Start      Start         // how the first number of an unknown key is chosen; default: Adopt
	Late       LatePolicy    // what happens to a message whose number was given up; default: DeliverLate
	// OnGap is called for each gap that is given up. For one key, the call comes after the messages
	// before the gap were emitted, and before the messages after the gap are emitted. OnGap may
	// call the Resequencer. Default: nil.
	OnGap func(Gap)
	// OnEpoch is called for each new epoch of a publisher. For one key, the call comes after the
	// messages of the old epoch were emitted, and before the messages of the new epoch are emitted.
	// OnEpoch may call the Resequencer. Default: nil.
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

// Stats contains counters that start at zero in NewResequencer. Keys, StreamBytes, Held, Waiting
// and IDBytes are not counters but present values. If Forget was not called, the number of pushed
// messages is the sum of Delivered, Late, NumbersReused, Duplicates, NumbersRepeated and Held.
type Stats struct {
	Keys        int   // number of streams
	StreamBytes int64 // memory of the streams, as limited by Options.MaxStreamBytes
	Held        int   // messages that are held because an earlier one is missing
	Waiting     int   // messages whose turn has come, but that are not yet emitted
	IDBytes     int64 // memory of all IDs

	Delivered uint64 // messages emitted in order
	Late      uint64 // messages with the result Late, emitted or dropped
	// NumbersReused counts the messages that were emitted because their ID was new, although their
	// number was known.
	NumbersReused   uint64
	Duplicates      uint64 // messages that were dropped because their ID was known
	NumbersRepeated uint64 // messages that were dropped because their number was known and they had no ID
	Gaps            uint64 // gaps that were given up
	Missing         uint64 // missing numbers in all gaps that were given up; the counter stops at 2^64-1
	Epochs          uint64 // new epochs
	EvictedKeys     uint64 // streams that were removed because of MaxKeys or MaxStreamBytes
	RangesDropped   uint64 // ranges that were removed because of MaxRanges
	ForgottenIDs    uint64 // IDs that were removed because of MaxIDBytes
}
