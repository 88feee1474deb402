package persistence

import (
	"cmp"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/memfs"
)

// Memory is a store without a disk: a [Log] with files in memory, which end with the
// process. What is recorded counts as durable at once.
//
// Files.SegmentBytes (default 1 MiB) is the unit in which memory is freed. BufferBytes
// is by default 64 KiB. Sync, Interval and PreallocateBytes have no effect.
type Memory struct {
	*memoryLog
	files *memfs.FS
}

// memoryLog keeps the embedded Log unexported.
type memoryLog = Log

// NewMemory returns an empty store. If an option is outside its range, each method
// that returns an error, Close included, returns the *OptionError.
func NewMemory(o Options) *Memory { return openMemory(o, memfs.New()) }

func openMemory(o Options, files *memfs.FS) *Memory {
	invalid := o.Validate()
	if invalid != nil {
		o = Options{}
	}
	if o.Files.SegmentBytes == 0 {
		o.Files.SegmentBytes = 1 << 20
		if most := o.Limits.MaxDiskBytes; most > 0 {
			o.Files.SegmentBytes = max(min(o.Files.SegmentBytes, most/4), 4<<10)
		}
	}
	o.Files.BufferBytes = cmp.Or(o.Files.BufferBytes, 64<<10)
	o.Sync, o.FS = SyncNever, files
	l := &Log{o: o.withDefaults(), inline: true, folder: folder{dir: ".", lock: fsys.Unlocked{}, renewal: Continued}}
	if err := l.open(); err != nil {
		panic(err) // files in memory do not fail
	}
	if invalid != nil {
		l.failed = invalid // a new log with default options: no goroutine reads it yet
	}
	return &Memory{l, files}
}

// Reopen closes m and returns a store with its state, as opening a folder again
// does: the epoch is the same, and Boot is one higher.
func (m *Memory) Reopen() *Memory {
	_ = m.Close()
	return openMemory(m.o, m.files)
}
