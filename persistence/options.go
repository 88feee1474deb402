package persistence

import (
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// Options are the settings of a store. The zero value is ready for use.
// [Memory] heeds the limits only.
type Options struct {
	// Sync says when the log calls fsync. Default: SyncEveryCommit.
	Sync SyncPolicy
	// Interval is the time between two fsyncs under SyncInterval: 1 ms or more.
	// Default: 100 ms.
	Interval time.Duration

	// MaxMessages bounds the messages pending: 1 to 1<<31-1. Default: 1,000,000.
	// One more is refused with [ErrFull].
	MaxMessages int
	// MaxBytes bounds the packet bytes pending. Default: 1 GiB.
	MaxBytes int64
	// MaxPacket bounds one packet, in bytes, up to 268,435,000. Default: 16 MiB.
	MaxPacket int
	// MaxStreams bounds the named sequences: 1 to 65,536. Default: 1,024.
	MaxStreams int
	// MaxDiskBytes bounds the segments together, in bytes; acknowledgements may
	// exceed it. It is reached before MaxBytes when an old message stays pending
	// while newer ones come and go. At least four times SegmentBytes. Default: four times MaxBytes and four
	// segments.
	MaxDiskBytes int64

	// MaxAge bounds how long a message may wait, from its acceptance on: it lets
	// expire what does not expire before. The store only notes when; until whoever
	// sends ends the message as Expired it is pending and takes room. Default: 0,
	// without bound.
	MaxAge time.Duration
	// WhenFull says what happens when MaxMessages or MaxBytes is reached.
	// Default: Reject.
	WhenFull FullPolicy
	// MaxDeadLetters bounds the messages set aside as DeadLettered; for one more
	// the oldest is given up. Up to 100,000; -1: none is kept. Default: 1,000.
	MaxDeadLetters int
	// MaxReceipts bounds the outcomes that Receipt finds, beside those of messages
	// whose segment is still there: up to 1<<31-1. 36 bytes each on disk. Default:
	// 0, none, and Receipt finds nothing.
	MaxReceipts int
	// ReceiptAge bounds how old a receipt gets, to the segment. Default: 7 days.
	ReceiptAge time.Duration

	// SegmentBytes is the size at which a new segment is begun, in bytes: 4 KiB
	// to 1 GiB. Default: 64 MiB, with receipts 8 MiB (the commit that lets a segment
	// go writes its receipts), and at most a quarter of MaxDiskBytes. Disk space is
	// given back a segment at a time.
	SegmentBytes int64
	// BufferBytes bounds each of the log's buffers, in bytes: 4 KiB to 64 MiB.
	// Default: 1 MiB. There are up to five: filling, being written, the newest
	// records for Next (twice), and reading ahead. One packet may exceed it.
	BufferBytes int

	// FillBytes is how far, in bytes, SyncEveryCommit fills a segment with zeros
	// ahead of its end: a sync takes about half the time then, for twice the bytes
	// written. Up to 64 MiB. Default: 256 KiB; -1: not at all, for file systems
	// that never write in place.
	FillBytes int

	// OnDrop is told of each message that was dropped to make room, or whose place
	// a newer one with the same key took. It runs on the goroutine that calls
	// Enqueue, without any lock held, and may call the store.
	OnDrop func(Drop)
	// OnCorruption is told of each damaged place, without any lock held. It must
	// not call the store.
	OnCorruption func(Corruption)
	// FS replaces the file system, for tests of this module.
	FS fsys.FS
}

// SyncPolicy says when the log calls fsync. Under every policy a message is
// accepted only when the operating system has it, so a killed process loses
// nothing. The policies differ when the power goes, or the system crashes.
type SyncPolicy uint8

const (
	// SyncEveryCommit calls fsync before Wait and Sync return. A power cut loses
	// nothing that was accepted.
	SyncEveryCommit SyncPolicy = iota
	// SyncInterval calls fsync every Options.Interval, and whenever
	// Options.BufferBytes have been written since. A power cut loses what was
	// accepted since the last one; the sequences of lost messages are used again.
	SyncInterval
	// SyncNever calls fsync only when a segment is full and on Close. A power cut
	// can lose everything since, and their sequences are used again.
	SyncNever
)

// FullPolicy says what Enqueue does when MaxMessages or MaxBytes is reached.
// Messages that may have been sent are never dropped, nor those of a higher
// priority than the new one. MaxDiskBytes and MaxStreams always refuse.
type FullPolicy uint8

const (
	// Reject refuses the new message with [ErrFull]. Room waits until there is room.
	Reject FullPolicy = iota
	// DropOldest drops the oldest messages of the lowest priority.
	DropOldest
	// DropNewest refuses the new message with [ErrFull], and counts it.
	DropNewest
)

// The defaults and limits of Options.
const (
	defaultInterval            = 100 * time.Millisecond
	defaultMaxMessages         = 1_000_000
	defaultMaxBytes            = 1 << 30
	defaultMaxPacket           = 16 << 20
	defaultMaxStreams          = 1024
	defaultSegmentBytes        = 64 << 20
	defaultReceiptSegmentBytes = 8 << 20
	defaultMaxDeadLetters      = 1000
	defaultReceiptAge          = 7 * 24 * time.Hour
	defaultBufferBytes         = 1 << 20
	defaultFillBytes           = 256 << 10
	maxMaxPacket               = 268_435_000 // a record's length has 28 bits
	maxMaxStreams              = 65_536
	maxStreamName              = 1024
	maxKey                     = 1024
)

// Validate returns an *OptionError for the first option outside its range.
func (o Options) Validate() error {
	o = o.withDefaults()
	for _, c := range []struct {
		option        string
		value, lo, hi int64
	}{
		{"Sync", int64(o.Sync), 0, int64(SyncNever)},
		{"Interval", int64(o.Interval), int64(time.Millisecond), int64(24 * time.Hour)},
		{"MaxMessages", int64(o.MaxMessages), 1, 1<<31 - 1},
		{"MaxBytes", o.MaxBytes, 1, 1 << 50},
		{"MaxPacket", int64(o.MaxPacket), 1, maxMaxPacket},
		{"MaxStreams", int64(o.MaxStreams), 1, maxMaxStreams},
		{"MaxDiskBytes", o.MaxDiskBytes, 4 * o.SegmentBytes, 1 << 52},
		{"MaxAge", int64(o.MaxAge), 0, 1<<63 - 1},
		{"WhenFull", int64(o.WhenFull), 0, int64(DropNewest)},
		{"MaxDeadLetters", int64(o.MaxDeadLetters), -1, 100_000},
		{"MaxReceipts", int64(o.MaxReceipts), 0, 1<<31 - 1},
		{"ReceiptAge", int64(o.ReceiptAge), int64(time.Millisecond), 1<<63 - 1},
		{"SegmentBytes", o.SegmentBytes, 4 << 10, 1 << 30},
		{"BufferBytes", int64(o.BufferBytes), 4 << 10, 64 << 20},
		{"FillBytes", int64(o.FillBytes), -1, 64 << 20},
	} {
		if c.value < c.lo || c.value > c.hi {
			return &OptionError{Option: c.option, Value: c.value, Range: fmt.Sprintf("%d to %d", c.lo, c.hi)}
		}
	}
	return nil
}

// Admit returns an error if the message is invalid, or if it does not fit beside
// this number of pending messages and of their packet bytes. It is a helper for a
// custom [Store]; [Log] and [Memory] apply it themselves. Errors: those of
// [Outbox].Enqueue except [ErrUnknownStream].
func (o Options) Admit(m *Message, pending int, bytes int64) error {
	o = o.withDefaults()
	if err := o.check(m); err != nil {
		return err
	}
	return o.room(int64(len(m.Packet)), pending, bytes)
}

func (o *Options) check(m *Message) error {
	size := int64(len(m.Packet))
	switch {
	case size > int64(o.MaxPacket):
		return &PacketTooLargeError{Size: size, Max: int64(o.MaxPacket), Limit: "MaxPacket"}
	case size > o.MaxBytes:
		return &PacketTooLargeError{Size: size, Max: o.MaxBytes, Limit: "MaxBytes"}
	case m.Priority >= Priorities:
		return ErrPriority
	case len(m.Key) > maxKey:
		return ErrKey
	case m.OnSessionLost > FailInFlight:
		return ErrSessionLostPolicy
	}
	return nil
}

func (o *Options) room(size int64, pending int, bytes int64) error {
	switch {
	case pending >= o.MaxMessages:
		return &FullError{Limit: "MaxMessages", Max: int64(o.MaxMessages)}
	case bytes+size > o.MaxBytes:
		return &FullError{Limit: "MaxBytes", Max: o.MaxBytes}
	}
	return nil
}

func (o Options) withDefaults() Options {
	setDefault(&o.Interval, defaultInterval)
	setDefault(&o.MaxMessages, defaultMaxMessages)
	setDefault(&o.MaxBytes, defaultMaxBytes)
	setDefault(&o.MaxPacket, defaultMaxPacket)
	setDefault(&o.MaxStreams, defaultMaxStreams)
	setDefault(&o.MaxDeadLetters, defaultMaxDeadLetters)
	setDefault(&o.ReceiptAge, defaultReceiptAge)
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
		if o.MaxReceipts > 0 {
			o.SegmentBytes = defaultReceiptSegmentBytes
		}
		if o.MaxDiskBytes > 0 {
			o.SegmentBytes = max(min(o.SegmentBytes, o.MaxDiskBytes/4), 4<<10)
		}
	}
	setDefault(&o.BufferBytes, defaultBufferBytes)
	setDefault(&o.FillBytes, defaultFillBytes)
	setDefault(&o.MaxDiskBytes, 4*o.MaxBytes+4*o.SegmentBytes)
	if o.FS == nil {
		o.FS = fsys.OS
	}
	return o
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Corruption is a damaged place in a segment. What was readable around it is in
// use; messages that were in it are counted as Dropped and Lost.
type Corruption struct {
	File   string // the segment's path
	Offset int64  // where the damage begins
	Length int64  // how many bytes are unreadable; 0: the file is missing or too short
	Seq    uint64 // sequence of the message that was given up, when it was found while reading; 0 at opening
	Copy   string // path of a copy of the segment, for inspection; empty: none was made
	Err    error  // what was wrong
}
