package persistence

import (
	"cmp"
	"fmt"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Options configure a store. Zero means the default. [Memory] uses only Limits, Retention and two
// of Files.
type Options struct {
	Sync     SyncPolicy    // when the log calls fsync; default: SyncEveryCommit
	Interval time.Duration // time between fsyncs under SyncInterval, at least 1 ms; default: 100 ms
	// WriteTimeout is how long Enqueue, Wait and Receipt wait for a disk that does not respond, see
	// [StalledError]. It does not apply to a call whose context is never canceled, such as
	// context.Background(). A negative value means no timeout. Default: 30 s.
	WriteTimeout time.Duration
	Limits       Limits    // how much is stored
	Retention    Retention // what is kept of ended messages
	Files        Files     // sizes of files and buffers
	// OnCorruption is called for each damaged place. It must not call the store. Default: none.
	OnCorruption func(Corruption)
	// OnDegraded is called when the disk begins to refuse writes, and with nil when it accepts them
	// again. It must not close the log. Default: none.
	OnDegraded func(*DegradedError)
	// FS replaces the file system, for tests of this module. Default: that of the system.
	FS fsys.FS
}

func (o *Options) reportOutage(err *DegradedError) {
	if o.OnDegraded != nil {
		o.OnDegraded(err)
	}
}

// Retention bounds what is kept of ended messages. Zero means the default.
type Retention struct {
	// MaxDeadLetters bounds the number of dead letters, up to 100,000. At the limit, a new dead
	// letter discards the oldest. -1 keeps no dead letters. Default: 1,000. A client keeps
	// dead letters only if this field or its StoreConfig.DeadLetters is set.
	MaxDeadLetters int
	// MaxReceipts bounds the number of receipts of messages whose segment was removed, up to
	// 1<<31-1. Each receipt takes 36 bytes on disk. Default: 0, which keeps no receipts of ended
	// messages.
	MaxReceipts int
	ReceiptAge  time.Duration // how long receipts are kept; removed one segment at a time; default: 7 days
}

// Files sets the sizes of files and buffers. Zero means the default.
type Files struct {
	// SegmentBytes is the size at which a new segment begins: 4 KiB to 1 GiB. Disk space is freed
	// one segment at a time. Default: 64 MiB, or 8 MiB if MaxReceipts is set, because receipts are
	// written when a segment is removed. The default is at most a quarter of MaxDiskBytes.
	SegmentBytes int64
	// BufferBytes bounds each buffer of the log: 4 KiB to 64 MiB. The log has up to five buffers. A
	// packet larger than BufferBytes enlarges its buffer. Default: 1 MiB.
	BufferBytes int
	// PreallocateBytes is the number of zero bytes that SyncEveryCommit writes to a segment in
	// advance, up to 64 MiB. An fsync then takes about half the time, for twice the bytes written.
	// -1 disables it, for file systems that never write in place. Default: 256 KiB.
	PreallocateBytes int
}

// SyncPolicy selects when the log calls fsync. Under every policy, a message is accepted only after
// the operating system has taken it, so a killed process loses nothing. A power failure or a system
// crash loses the messages accepted since the last fsync. Their sequences are then reused in a new
// epoch.
type SyncPolicy uint8

const (
	SyncEveryCommit SyncPolicy = iota // before Wait and Sync return: no accepted message is lost
	SyncInterval                      // every Options.Interval, and after every BufferBytes written
	SyncNever                         // only when a segment is finished and when the log is closed
)

// Flash returns options for storage that wears with each written page. They are SyncInterval with
// the interval window, which is at least 1 ms, and no preallocation. A power failure loses at most
// the messages accepted in the last window. Stats.PageBytes measures the wear.
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

// on is withDefaults for a disk partition of this size in bytes; 0: unknown.
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
