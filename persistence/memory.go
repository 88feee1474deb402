package persistence

import (
	"cmp"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/memfs"
)

// Memory is a [Store] in memory. Its data is lost when the process ends. Records count as durable at
// once.
//
// Memory is freed in units of Files.SegmentBytes, by default 1 MiB. The default of Files.BufferBytes
// is 64 KiB. Sync, Interval and PreallocateBytes have no effect.
type Memory struct {
	*memoryLog
	files *memfs.FS
}

// memoryLog keeps the embedded Log unexported.
type memoryLog = Log

// NewMemory returns an empty store in memory. If an option is out of range, every method that can
// return an error returns the *[OptionError], including Close.
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
		l.failed = invalid // no other goroutine uses the log yet
	}
	return &Memory{l, files}
}

// Reopen closes m and returns a store with the same state, as if a folder were opened again. The
// epoch stays the same, and Boot increases by one.
func (m *Memory) Reopen() *Memory {
	_ = m.Close()
	return openMemory(m.o, m.files)
}
