package dedupe

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// recover reads the log back, or begins one, and leaves it open for appending.
func (f *File) recover() error {
	data, err := f.disk.ReadFile(f.path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return fmt.Errorf("dedupe: cannot read the log: %w", err)
	}
	// Left by a crash while rewriting. The log itself is whole.
	if err := f.disk.Remove(f.path + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dedupe: cannot remove an unfinished log: %w", err)
	}
	s := scan(data)
	headless := !strings.HasPrefix(string(data), header)
	if headless && len(s.records) == 0 && !strings.HasPrefix(header, string(data)) {
		return fmt.Errorf("%w: %s", ErrFormat, f.path)
	}
	rebased := rebase(s.records)
	f.clock = resume(s.records, f.opts.TTL, time.Now())
	f.load(s.records)
	f.table.stats.TornBytes = uint64(len(data) - s.good)
	if headless && len(s.records) > 0 {
		s.corrupt = max(s.corrupt, 1)
	}
	f.table.stats.Corrupt = uint64(s.corrupt)
	if s.corrupt > 0 {
		if err := f.setAside(data); err != nil {
			f.table.stats.AsideRefused++
		}
	}
	if s.corrupt > 0 || headless || rebased {
		if err := f.rewrite(); err != nil {
			return fmt.Errorf("dedupe: cannot write the log: %w", err)
		}
		return nil
	}
	return f.reopen(int64(s.good), int64(len(data)))
}

// load fills the table from records, oldest first.
func (f *File) load(records []record) {
	var last time.Duration
	for _, r := range records {
		last = max(last, r.clock) // the order in the log is the order of commits
		if r.key != "" {
			f.table.put(r.key, last)
			f.records++
		}
	}
	f.table.expire(f.clock.now())
	f.table.stats.Recovered = uint64(f.table.size())
}

// setAside keeps a copy of a damaged log for whoever wants to know why.
func (f *File) setAside(data []byte) error {
	return f.replace(f.path+".corrupt", data, func() {})
}

// reopen continues the log behind its last whole record.
func (f *File) reopen(good, size int64) error {
	l, err := f.disk.OpenAppend(f.path)
	if err != nil {
		return fmt.Errorf("dedupe: cannot open the log: %w", err)
	}
	f.log = l
	if good < size {
		if err := l.Truncate(good); err != nil {
			return fmt.Errorf("dedupe: cannot cut the torn tail off: %w", err)
		}
	}
	// Also without a tail to cut: what was just read as committed may still be
	// in the system's cache only, and will from now on be answered Duplicate.
	if err := f.sync(l); err != nil {
		return fmt.Errorf("dedupe: cannot sync the log: %w", err)
	}
	f.table.stats.LogBytes = good
	return nil
}

const newSuffix = ".new"

// rewrite replaces the log by one that holds only what the table holds. The
// caller is the writer. If it fails before it touches the old log, that one
// stays in use; if it fails later, or the old one was broken, the log is broken.
func (f *File) rewrite() error {
	f.mu.Lock()
	buf := []byte(header)
	wall := time.Now().UnixNano()
	live := int64(0)
	f.table.each(func(key string, at time.Duration) {
		buf = appendRecord(buf, at, wall, key)
		live++
	})
	// The last record tells the time: keys may be older than the clock now.
	buf = appendRecord(buf, f.clock.now(), wall, "")
	f.mu.Unlock()

	err := f.replace(f.path, buf, func() {
		// Windows renames over no open file. From here on the old log may be
		// gone, or come back after a power cut: nothing may be appended to it.
		f.broken = true
		f.closeLog() // its content is superseded, and so is its error
	})
	if err != nil {
		return err
	}
	if f.log, err = f.disk.OpenAppend(f.path); err != nil {
		return err
	}
	f.broken = false

	f.mu.Lock()
	f.records = live
	f.compactAt = 0
	f.table.stats.LogBytes = int64(len(buf))
	f.mu.Unlock()
	return nil
}

func (f *File) closeLog() error {
	if f.log == nil {
		return nil
	}
	err := f.log.Close()
	f.log = nil
	return err
}

// replace puts data at path at once: nobody ever sees half of it, not even
// after a power cut.
func (f *File) replace(path string, data []byte, beforeRename func()) error {
	l, err := f.disk.Create(path + newSuffix)
	if err != nil {
		return err
	}
	_, err = l.Write(data)
	if err == nil {
		err = f.sync(l)
	}
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	beforeRename()
	if err := f.disk.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return f.disk.SyncDir(filepath.Dir(path))
}
