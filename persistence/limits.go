package persistence

import (
	"cmp"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Limits bounds the content of a store. A zero field selects the default.
type Limits struct {
	// MaxMessages bounds the number of pending messages. Its range is 1 to 1<<31-1. Default:
	// 1,000,000.
	MaxMessages int
	// MaxBytes bounds the sum of the packet sizes of the pending messages. Default: 1 GiB.
	MaxBytes int64
	// MaxPacketBytes bounds the size of one packet. It is at most 268,435,000. Default: 16 MiB.
	MaxPacketBytes int
	// MaxStreams bounds the number of named sequences. Its range is 1 to 65,536. Default: 1,024.
	MaxStreams int
	// MaxDiskBytes bounds the total size of the files in the folder: segments with preallocated
	// zeros, receipts and RESERVE. Messages can use MaxDiskBytes - 1.5*SegmentBytes -
	// PreallocateBytes. The minimum is four times SegmentBytes. One pending message keeps its whole
	// segment on disk, so the log can reach MaxDiskBytes before MaxBytes. Three kinds of data can
	// exceed the limit. First, the log always records results and received QoS 2 messages. Second,
	// moving a message larger than SegmentBytes needs its size again for a moment. Third, copies of
	// damaged files (*.corrupt) stay until the operator removes them. Default: 4*MaxBytes +
	// 4*SegmentBytes, but at most half of the disk partition.
	MaxDiskBytes int64
	// Reserved is the percentage of MaxMessages, MaxBytes and MaxDiskBytes that is reserved for
	// messages with the priorities High and Urgent. Its range is 0 to 90. If Reserved is above 0,
	// the store never drops High and Urgent messages to make room. These messages use the other
	// part too. When it is full, a Normal message is accepted only if DropOldest can drop Normal
	// messages of at least its size. Default: 0.
	Reserved int
	// MaxAge bounds the time from the acceptance of a message to its expiry. An expired message
	// stays pending until the sender records the result Expired. Default: 0, which means no bound.
	MaxAge   time.Duration
	WhenFull FullPolicy // what Enqueue does at a limit; a client sets it from StoreConfig.WhenFull; default: Reject
}

// FullPolicy selects what Enqueue does when MaxMessages, MaxBytes or MaxDiskBytes is reached. At
// MaxStreams, the policy is always Reject. No policy drops any of these messages:
//
//   - A message that may have been sent.
//   - A message with a higher priority than the new message.
//   - A High or Urgent message, if Limits.Reserved is set.
type FullPolicy uint8

const (
	// Reject makes Enqueue return [ErrFull].
	Reject FullPolicy = iota
	// DropOldest makes Enqueue drop the oldest messages of the lowest priority. At MaxDiskBytes, it
	// drops the messages of the oldest segments until it can remove a segment.
	DropOldest
	// DropNewest makes Enqueue return [ErrFull], and count the new message in Stats.DroppedNewest.
	DropNewest
)

// Admit returns an error if a message is invalid or exceeds the limits. pending is the number of
// pending messages, and bytes is the sum of their packet sizes. Admit is for custom implementations
// of [Store]. [Log] and [Memory] check the limits themselves. Admit returns the errors of
// [Outbox].Enqueue, except [ErrUnknownStream].
func (l Limits) Admit(m *Message, pending int, bytes int64) error {
	l = l.WithDefaults()
	return cmp.Or(l.check(m), l.room(m.Priority, int64(len(m.Packet)), pending, bytes))
}

func (l *Limits) check(m *Message) error {
	switch size := int64(len(m.Packet)); {
	case size > int64(l.MaxPacketBytes):
		return &PacketTooLargeError{Size: size, Max: int64(l.MaxPacketBytes), Limit: "MaxPacketBytes"}
	case size > l.MaxBytes:
		return &PacketTooLargeError{Size: size, Max: l.MaxBytes, Limit: "MaxBytes"}
	case l.MaxDiskBytes > 0 && size > l.share(m.Priority, l.MaxDiskBytes)/2:
		return &PacketTooLargeError{Size: size, Max: l.share(m.Priority, l.MaxDiskBytes) / 2, Limit: "MaxDiskBytes"}
	case m.Priority >= Priorities:
		return ErrPriority
	case len(m.Key) > record.MaxKey:
		return ErrKey
	case m.OnSessionLost > FailInFlight:
		return ErrSessionLostPolicy
	}
	return nil
}

// room returns an error if there is no room for another message of priority p and this size.
func (l *Limits) room(p Priority, size int64, pending int, bytes int64) error {
	switch {
	case int64(pending) >= l.share(p, int64(l.MaxMessages)):
		return l.full(p, "MaxMessages", int64(l.MaxMessages))
	case bytes+size > l.share(p, l.MaxBytes):
		return l.full(p, "MaxBytes", l.MaxBytes)
	}
	return nil
}

// full returns the error for a message of priority p that does not fit into a limit.
func (l *Limits) full(p Priority, name string, limit int64) error {
	e := &FullError{Limit: name, Max: limit, Priority: p}
	if p == Normal {
		e.Reserved = l.Reserved
	}
	return e
}

// share returns the part of a limit that is available to messages of priority p.
func (l *Limits) share(p Priority, limit int64) int64 {
	if p > Normal || l.Reserved == 0 {
		return limit
	}
	return limit - limit/100*int64(l.Reserved) - limit%100*int64(l.Reserved)/100
}

// droppedFor returns the highest priority of messages that may be dropped for a message of priority
// p.
func (l *Limits) droppedFor(p Priority) Priority {
	if l.Reserved > 0 {
		return Normal
	}
	return p
}

// WithDefaults replaces zero fields with the defaults. It leaves MaxDiskBytes unchanged, because
// its default depends on Options.Files.
func (l Limits) WithDefaults() Limits {
	l.MaxMessages = cmp.Or(l.MaxMessages, 1_000_000)
	l.MaxBytes = cmp.Or(l.MaxBytes, 1<<30)
	l.MaxPacketBytes = cmp.Or(l.MaxPacketBytes, 16<<20)
	l.MaxStreams = cmp.Or(l.MaxStreams, 1024)
	return l
}
