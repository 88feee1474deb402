package persistence

import (
	"cmp"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Options configure a store; zero is the default. [Memory] applies Limits and Retention.
type Options struct {
	Sync     SyncPolicy    // when the log calls fsync; default: SyncEveryCommit
	Interval time.Duration // of fsync under SyncInterval, at least 1 ms; default: 100 ms
	// WriteTimeout is how long Enqueue, Wait and Receipt wait for a disk that does not answer, see
	// [StalledError]. It does not apply to a call whose context cannot end, such as
	// context.Background(). A negative value means no limit. Default: 30 s.
	WriteTimeout time.Duration
	Limits       Limits    // how much is stored
	Retention    Retention // what is kept of messages that have ended
	Files        Files     // sizes of files and buffers
	// OnCorruption is called for each damaged place. It must not call the store.
	OnCorruption func(Corruption)
	// OnDegraded is called when the disk refuses to take what is written, and with nil when it
	// accepts it again. It runs on a goroutine of the log and must not close it.
	OnDegraded func(*DegradedError)
	// FS replaces the file system, for tests of this module.
	FS fsys.FS
}

func (o *Options) reportOutage(err *DegradedError) {
	if o.OnDegraded != nil {
		o.OnDegraded(err)
	}
}

// Retention bounds what is kept of ended messages. Zero means the default.
type Retention struct {
	// MaxDeadLetters bounds the dead letters, up to 100,000. One more discards the
	// oldest. -1 keeps none. Default: 1,000.
	MaxDeadLetters int
	// MaxReceipts bounds the receipts of messages whose segment was removed, up to
	// 1<<31-1. Each takes 36 bytes on disk. Default: 0, no receipts of ended messages.
	MaxReceipts int
	ReceiptAge  time.Duration // receipts are removed by the segment; default: 7 days
}

// Files are the sizes of files and buffers. Zero means the default.
type Files struct {
	// SegmentBytes is the size at which a new segment begins: 4 KiB to 1 GiB. Disk
	// space is freed by the segment. Default: 64 MiB, or 8 MiB with receipts, which are
	// written when a segment is removed, and at most a quarter of MaxDiskBytes.
	SegmentBytes int64
	// BufferBytes bounds each buffer of the log: 4 KiB to 64 MiB. There are up to
	// five. A single packet may exceed it. Default: 1 MiB.
	BufferBytes int
	// PreallocateBytes is how far SyncEveryCommit fills a segment with zeros, up to 64
	// MiB. fsync then takes about half the time, for twice the bytes written. -1, for
	// file systems that never write in place, disables it. Default: 256 KiB.
	PreallocateBytes int
}

// SyncPolicy decides when the log calls fsync. Under every policy a message is accepted only when
// the operating system has it, so a killed process loses nothing. A power failure or a system crash
// loses what was accepted since the last fsync. The sequences are then used again, in a new epoch.
type SyncPolicy uint8

const (
	SyncEveryCommit SyncPolicy = iota // before Wait and Sync return: no accepted message is lost
	SyncInterval                      // every Options.Interval, and when BufferBytes were written since
	SyncNever                         // only when a segment is finished and when the log is closed
)

// Flash returns options for storage that wears by the page: SyncInterval with this
// window, which is at least 1 ms, and no preallocation. A power failure loses at most
// what was accepted in the last window. Stats.PageBytes counts the wear.
func Flash(window time.Duration) Options {
	return Options{Sync: SyncInterval, Interval: max(window, time.Millisecond), Files: Files{PreallocateBytes: -1}}
}

// Validate returns an *OptionError for the first option outside its range.
func (o Options) Validate() error {
	o = o.withDefaults()
	for _, c := range []struct {
		option        string
		value, lo, hi int64
	}{
		{"Sync", int64(o.Sync), 0, int64(SyncNever)},
		{"Interval", int64(o.Interval), int64(time.Millisecond), int64(24 * time.Hour)},
		{"Limits.MaxMessages", int64(o.Limits.MaxMessages), 1, 1<<31 - 1},
		{"Limits.MaxBytes", o.Limits.MaxBytes, 1, 1 << 50},
		{"Limits.MaxPacketBytes", int64(o.Limits.MaxPacketBytes), 1, record.MaxPacketBytes},
		{"Limits.MaxStreams", int64(o.Limits.MaxStreams), 1, record.MaxStreams},
		{"Limits.MaxDiskBytes", o.Limits.MaxDiskBytes, 4 * o.Files.SegmentBytes, 1 << 52},
		{"Limits.MaxAge", int64(o.Limits.MaxAge), 0, 1<<63 - 1},
		{"Limits.Reserved", int64(o.Limits.Reserved), 0, 90},
		{"Limits.WhenFull", int64(o.Limits.WhenFull), 0, int64(DropNewest)},
		{"Retention.MaxDeadLetters", int64(o.Retention.MaxDeadLetters), -1, 100_000},
		{"Retention.MaxReceipts", int64(o.Retention.MaxReceipts), 0, 1<<31 - 1},
		{"Retention.ReceiptAge", int64(o.Retention.ReceiptAge), int64(time.Millisecond), 1<<63 - 1},
		{"Files.SegmentBytes", o.Files.SegmentBytes, 4 << 10, 1 << 30},
		{"Files.BufferBytes", int64(o.Files.BufferBytes), 4 << 10, 64 << 20},
		{"Files.PreallocateBytes", int64(o.Files.PreallocateBytes), -1, 64 << 20},
	} {
		if c.value < c.lo || c.value > c.hi {
			return &OptionError{Option: c.option, Value: c.value, Range: fmt.Sprintf("%d to %d", c.lo, c.hi)}
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	return o.on(0)
}

// on is withDefaults for a partition of this size; 0: unknown.
func (o Options) on(partition int64) Options {
	o.Interval = cmp.Or(o.Interval, 100*time.Millisecond)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 30*time.Second)
	o.Limits = o.Limits.WithDefaults()
	o.Retention.MaxDeadLetters = cmp.Or(o.Retention.MaxDeadLetters, 1000)
	o.Retention.ReceiptAge = cmp.Or(o.Retention.ReceiptAge, 7*24*time.Hour)
	if most := partition / 2; o.Limits.MaxDiskBytes == 0 && most > 0 && most < 4*o.Limits.MaxBytes+256<<20 {
		o.Limits.MaxDiskBytes = max(most, 4*max(o.Files.SegmentBytes, 4<<10))
	}
	if f := &o.Files; f.SegmentBytes == 0 {
		f.SegmentBytes = 64 << 20
		if o.Retention.MaxReceipts > 0 {
			f.SegmentBytes = 8 << 20
		}
		if o.Limits.MaxDiskBytes > 0 {
			f.SegmentBytes = max(min(f.SegmentBytes, o.Limits.MaxDiskBytes/4), 4<<10)
		}
	}
	o.Files.BufferBytes = cmp.Or(o.Files.BufferBytes, 1<<20)
	o.Files.PreallocateBytes = cmp.Or(o.Files.PreallocateBytes, 256<<10)
	o.Limits.MaxDiskBytes = cmp.Or(o.Limits.MaxDiskBytes, 4*o.Limits.MaxBytes+4*o.Files.SegmentBytes)
	o.FS = cmp.Or(o.FS, fsys.OS)
	return o
}
