package persistence

// Memory is the store without a disk: the log, with files in memory. The same
// behaviour, and nothing left when the process ends. What is recorded counts as
// durable at once. For tests, and for programs that can afford to lose what they
// accepted.
//
// Of the Options those about the disk have no effect. SegmentBytes, by default 1
// MiB, is the piece in which memory is given back, and BufferBytes is by default
// 64 KiB.
type Memory struct {
	*memoryLog
	files *memoryFS
}

// memoryLog keeps the embedded Log out of reach.
type memoryLog = Log

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store. With options outside their range every
// method of it returns the *OptionError.
func NewMemory(o Options) *Memory {
	return openMemory(o, &memoryFS{files: map[string]*memoryFile{}})
}

func openMemory(o Options, files *memoryFS) *Memory {
	invalid := o.Validate()
	if invalid != nil {
		o = Options{}
	}
	setDefault(&o.Files.SegmentBytes, 1<<20)
	setDefault(&o.Files.BufferBytes, 64<<10)
	o.Sync, o.FS = SyncNever, files
	l, err := openLog(&Log{o: o.withDefaults(), inline: true, dir: ".", lock: noLock{}})
	if err != nil {
		panic(err) // files in memory do not fail
	}
	if invalid != nil {
		l.failed = invalid
	}
	return &Memory{l, files}
}

// Reopen closes m and returns a store with the same state, as opening the folder
// of a log again would: the same epoch, the next boot.
func (m *Memory) Reopen() *Memory {
	_ = m.Close()
	return openMemory(m.o, m.files)
}

// Close implements [Store].
func (m *Memory) Close() error {
	m.mu.Lock()
	_, invalid := m.failed.(*OptionError)
	m.mu.Unlock()
	if invalid {
		return nil
	}
	return m.memoryLog.Close()
}

type noLock struct{}

func (noLock) Close() error { return nil }
