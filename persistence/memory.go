package persistence

import (
	"cmp"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/memfs"
)

// Memory is a [Store] in memory. Its data is lost when the process ends. Every record counts as
// durable at once.
//
// The store frees memory in units of Files.SegmentBytes, which is 1 MiB by default. The default of
// Files.BufferBytes is 64 KiB. The options Sync, Interval and PreallocateBytes have no effect.
type Memory struct {
	*memoryLog
	files *memfs.FS
}

// memoryLog is an unexported name for the embedded Log.
type memoryLog = Log

// NewMemory returns an empty store in memory. If an option is out of range, every method that can
// return an error returns an *[OptionError]. This includes Close.
func NewMemory(o Options) *Memory { return openMemory(o, memfs.New()) }

func openMemory(o Options, files *memfs.FS) *Memory {
	invalid := o.Validate()
	if invalid != nil {
		o = Options{}
	}
	if o.Files.SegmentBytes == 0 {
		o.Files.SegmentBytes = 1 << 20
		if most := o.Limits.MaxDiskBytes; most > 0 {
			o.Files.SegmentBytes = max(min(o.Files.SegmentBytes, most/segmentsInLimit), 4<<10)
		}
	}
	o.Files.BufferBytes = cmp.Or(o.Files.BufferBytes, 64<<10)
	o.Sync, o.FS = SyncNever, files
	l := &Log{o: o.withDefaults(), inline: true, folder: folder{dir: ".", lock: fsys.Unlocked{}, renewal: Continued}}
	if err := l.open(); err != nil {
		panic(err) // files in memory do not fail
	}
	if invalid != nil {
		l.failed = invalid // no other goroutine uses the log yet
	}
	return &Memory{l, files}
}

// Reopen closes m and returns a store with the same state, like closing and opening a [Log]. The
// epoch stays the same, and the number that Boot returns increases by one.
func (m *Memory) Reopen() *Memory {
	_ = m.Close()
	return openMemory(m.o, m.files)
}
