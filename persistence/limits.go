package persistence

import (
	"cmp"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Limits bound what a store holds. Zero means the default.
type Limits struct {
	// MaxMessages bounds the pending messages: 1 to 1<<31-1. Default: 1,000,000.
	MaxMessages int
	// MaxBytes bounds the packet bytes of the pending messages. Default: 1 GiB.
	MaxBytes int64
	// MaxPacketBytes bounds one packet, up to 268,435,000. Default: 16 MiB.
	MaxPacketBytes int
	// MaxStreams bounds the named sequences: 1 to 65,536. Default: 1,024.
	MaxStreams int
	// MaxDiskBytes bounds the segments together, at least four times SegmentBytes.
	// Acknowledgements may exceed it. It is reached before MaxBytes if an old message
	// stays pending. Default: four times MaxBytes and four segments, and at most half of the partition.
	MaxDiskBytes int64
	// Reserved is the share of MaxMessages, MaxBytes and MaxDiskBytes, in percent, that only High and
	// Urgent messages use: 0 to 90. If it is set, they are never dropped to make room. Default: 0.
	Reserved int
	// MaxAge bounds the time of expiry of a message, from its acceptance. It stays
	// pending until the sender ends it as Expired. Default: 0, no bound.
	MaxAge   time.Duration
	WhenFull FullPolicy // default: Reject
}

// FullPolicy decides what Enqueue does when MaxMessages, MaxBytes or MaxDiskBytes is reached. A
// message that may have been sent is never dropped, nor one of a higher priority
// than the new message, nor one of High or Urgent if Limits.Reserved is set. MaxStreams always rejects.
type FullPolicy uint8

const (
	Reject FullPolicy = iota // return [ErrFull]
	// DropOldest drops the oldest messages of the lowest priority; at MaxDiskBytes so many that a
	// segment can be removed.
	DropOldest
	DropNewest // return [ErrFull] and count the new message
)

// Admit returns an error if the message is invalid, or if it does not fit beside this number of
// pending messages and of their packet bytes. It is a helper for a custom [Store]; [Log] and
// [Memory] apply it themselves. Errors: those of [Outbox].Enqueue except [ErrUnknownStream].
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

// room returns an error if a message of a priority has no room.
func (l *Limits) room(p Priority, size int64, pending int, bytes int64) error {
	switch {
	case int64(pending) >= l.share(p, int64(l.MaxMessages)):
		return &FullError{Limit: "MaxMessages", Max: l.share(p, int64(l.MaxMessages))}
	case bytes+size > l.share(p, l.MaxBytes):
		return &FullError{Limit: "MaxBytes", Max: l.share(p, l.MaxBytes)}
	}
	return nil
}

// share is how much of a limit messages of a priority may use, with all others.
func (l *Limits) share(p Priority, limit int64) int64 {
	if p > Normal || l.Reserved == 0 {
		return limit
	}
	return limit - limit/100*int64(l.Reserved) - limit%100*int64(l.Reserved)/100
}

// droppedFor is the highest priority of messages that are dropped for one of priority p.
func (l *Limits) droppedFor(p Priority) Priority {
	if l.Reserved > 0 {
		return Normal
	}
	return p
}

// WithDefaults replaces zeros by defaults, except MaxDiskBytes, which depends on Files.
func (l Limits) WithDefaults() Limits {
	l.MaxMessages = cmp.Or(l.MaxMessages, 1_000_000)
	l.MaxBytes = cmp.Or(l.MaxBytes, 1<<30)
	l.MaxPacketBytes = cmp.Or(l.MaxPacketBytes, 16<<20)
	l.MaxStreams = cmp.Or(l.MaxStreams, 1024)
	return l
}
