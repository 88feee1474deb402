package persistence

import (
	"cmp"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Options configure a store. A zero field selects the default. [Memory] uses only Limits,
// Retention, Files.SegmentBytes and Files.BufferBytes.
type Options struct {
	Sync     SyncPolicy    // when the log calls fsync; default: SyncEveryCommit
	Interval time.Duration // time between fsyncs under SyncInterval, at least 1 ms; default: 100 ms
	// WriteTimeout is how long Enqueue, Wait and Receipt wait for a disk that does not respond.
	// After that they return a [StalledError]. WriteTimeout has no effect if the context of the
	// call can never end, like context.Background(). A negative value means no timeout. Default: 30
	// s.
	WriteTimeout time.Duration
	Limits       Limits    // bounds for the content of the store
	Retention    Retention // bounds for the data of ended messages
	Files        Files     // sizes of files and buffers
	// OnCorruption is called for each damaged place in a file. It must not call the store. Default:
	// nil.
	OnCorruption func(Corruption)
	// OnDegraded is called when the disk begins to refuse writes. OnDegraded is called with nil
	// when the disk accepts writes again. It must not close the log. Default: nil.
	OnDegraded func(*DegradedError)
	// FS replaces the file system in tests of this module. Default: the file system of the
	// operating system.
	FS fsys.FS
}

// idleAfter is the time between two looks of the idle write at the open batch. The idle write
// commits a batch that was already open at the look before. A record is therefore in the file after
// at most twice this time.
const idleAfter = 50 * time.Millisecond

// idleTime returns idleAfter. Tests replace it: with a negative time there are no idle writes, and
// the operations on a file system do not depend on time.
var idleTime = func(fsys.FS) time.Duration { return idleAfter }

func (o *Options) reportOutage(err *DegradedError) {
	if o.OnDegraded != nil {
		o.OnDegraded(err)
	}
}

// Retention bounds how much data the store keeps about ended messages. A zero field selects the
// default.
type Retention struct {
	// MaxDeadLetters bounds the number of dead letters. It is at most 100,000. At the limit, a new
	// dead letter replaces the oldest one. -1 means that the store keeps no dead letters. A client
	// sets it from StoreConfig.DeadLetters, and creates no dead letters if that is 0. Default:
	// 1,000.
	MaxDeadLetters int
	// MaxReceipts bounds the number of receipts that the store keeps after the segments of their
	// messages were removed. It is at most 1<<31-1. Each receipt takes 36 bytes on disk. When the
	// receipts take a quarter of MaxDiskBytes, the store removes the oldest. Default: 0, which means
	// that the store keeps no receipts of ended messages.
	MaxReceipts int
	// ReceiptAge is how long the store keeps receipts. Receipts are removed one segment at a time.
	// Default: 7 days.
	ReceiptAge time.Duration
}

// Files sets the sizes of files and buffers. Zero means the default.
type Files struct {
	// SegmentBytes is the size at which a new segment file begins. Its range is 4 KiB to 1 GiB.
	// Disk space is freed one segment at a time. Default: 64 MiB, or 8 MiB if MaxReceipts is set,
	// but at most 1/16 of MaxDiskBytes. The default is lower with MaxReceipts, because receipts are
	// written when a segment is removed.
	SegmentBytes int64
	// BufferBytes bounds the size of each buffer of the log. Its range is 4 KiB to 64 MiB. The log
	// has up to five buffers. A packet that is larger than BufferBytes enlarges its buffer.
	// Default: 1 MiB, but at most SegmentBytes.
	BufferBytes int
	// PreallocateBytes is the number of zero bytes that the log writes to a segment in advance,
	// under SyncEveryCommit. It is at most 64 MiB. With preallocation, an fsync takes about half
	// the time, but the log writes twice as many bytes. Set -1 to disable preallocation on
	// copy-on-write file systems, which never overwrite data in place. Default: 256 KiB.
	PreallocateBytes int
}

// SyncPolicy selects when the log calls fsync. Under every policy, the log accepts a message only
// after the operating system has received the data. If the process is killed, no accepted message
// is lost. A power failure or a system crash loses the messages that were accepted since the last
// fsync. Their sequences are then reused in a new epoch.
type SyncPolicy uint8

const (
	// SyncEveryCommit calls fsync before Wait and Sync return, so no accepted message is lost.
	SyncEveryCommit SyncPolicy = iota
	SyncInterval               // calls fsync once per Options.Interval, and whenever BufferBytes were written
	SyncNever                  // calls fsync only when a segment is finished and when the log is closed
)

// Flash returns options for flash storage, which wears out with each written page. The options
// select SyncInterval and disable preallocation. The interval is window, but at least 1 ms. A power
// failure loses at most the messages that were accepted in the last interval. Stats.PageBytes
// measures the wear.
func Flash(window time.Duration) Options {
	return Options{Sync: SyncInterval, Interval: max(window, time.Millisecond), Files: Files{PreallocateBytes: -1}}
}

// Validate returns an *OptionError for the first option that is outside its range.
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

// segmentsInLimit is the least number of segments of the default size in MaxDiskBytes. DropOldest
// drops about one segment at a time, and 1/16 of the messages is a small part.
const segmentsInLimit = 16

func (o Options) withDefaults() Options {
	return o.on(0)
}

// on is like withDefaults, for a log on a disk partition of this size in bytes. The size is 0 if it
// is unknown.
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
			f.SegmentBytes = max(min(f.SegmentBytes, o.Limits.MaxDiskBytes/segmentsInLimit), 4<<10)
		}
	}
	o.Files.BufferBytes = cmp.Or(o.Files.BufferBytes, int(max(min(o.Files.SegmentBytes, 1<<20), 4<<10)))
	o.Files.PreallocateBytes = cmp.Or(o.Files.PreallocateBytes, 256<<10)
	o.Limits.MaxDiskBytes = cmp.Or(o.Limits.MaxDiskBytes, 4*o.Limits.MaxBytes+4*o.Files.SegmentBytes)
	o.FS = cmp.Or(o.FS, fsys.OS)
	return o
}

// room returns how many bytes of MaxDiskBytes the segments may use when a message is accepted. The
// rest is for moved messages, the records of results, the reserve, and preallocated zeros.
func (o *Options) room(onDisk bool) int64 {
	rest := o.Files.SegmentBytes
	if onDisk {
		rest += o.Files.SegmentBytes / 2
		if o.Sync == SyncEveryCommit {
			rest += max(min(int64(o.Files.PreallocateBytes), o.Files.SegmentBytes), 0)
		}
	}
	return o.Limits.MaxDiskBytes - rest
}
