package dedupe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// recover reads the log, or creates it. The log is then open for appending.
func (f *File) recover() error {
	data, err := fsys.ReadFile(f.fs, f.path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return cannot("read the log", err)
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
	if s.corrupt > 0 && f.replace(f.path+".corrupt", data, func() error { return nil }) != nil { // keep a copy for inspection
		f.table.stats.AsideRefused++
	}
	if s.corrupt == 0 && !headless && !rebased {
		err = f.reopen(int64(s.good), int64(len(data)))
	} else if err = f.rewrite(); err != nil {
		err = cannot("write the log", err)
	}
	var gone *fsys.GoneError
	if err == nil || fresh || errors.As(err, &gone) || !f.tokensByTime() {
		return err
	}
	// The disk refuses writes. The keys are known, and the next commit writes a new log.
	f.table.stats.WriteErrors++
	f.broken = true
	f.closeLog() // close it, because the offset of its end is unknown
	return nil
}

// tokensByTime makes the tokens begin at the present time in nanoseconds. A process uses it if it
// cannot write its baseToken to the log. The tokens of the next process are still greater, because
// no process makes one claim per nanosecond. tokensByTime returns false if the baseToken is ahead
// of the present time. This can happen if an earlier process called tokensByTime, and the log was
// then opened again within minutes.
func (f *File) tokensByTime() bool {
	now := uint64(time.Now().UnixNano())
	if now <= f.baseToken {
		return false
	}
	f.baseToken, f.table.token = now, now
	return true
}

// load fills the table from the records, oldest first.
func (f *File) load(records []record) {
	var last time.Duration
	for _, r := range records {
		last = max(last, r.clock) // the order in the log is the order of commits
		f.baseToken = max(f.baseToken, r.base)
		if r.key != "" {
			if older, ok := f.table.keys[r.key]; ok {
				*f.table.at(older) = entry{}
			}
			f.table.put(r.key, last, 0)
			f.records++
		}
	}
	f.baseToken += tokensPerOpen
	f.table.token = f.baseToken
	f.table.expire(f.clock.now())
	f.table.stats.Recovered = uint64(f.table.size())
}

// reopen continues the log after its last valid record.
func (f *File) reopen(good, size int64) error {
	// A crash during a rewrite has left this file. The log itself is complete.
	if err := f.fs.Remove(f.path + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cannot("remove an unfinished log", err)
	}
	l, err := f.fs.Open(f.path)
	if err != nil {
		return cannot("open the log", err)
	}
	f.log, f.end = l, good
	if good < size {
		if err := l.Truncate(good); err != nil {
			return cannot("remove the unfinished tail", err)
		}
	}
	// The sync also makes the keys durable that were just read. An earlier process may not have
	// synced them, but from now on these keys are Duplicates.
	if err := f.append(appendOpenRecord(nil, f.clock.now(), time.Now().UnixNano(), f.baseToken), true); err != nil {
		return cannot("write the log", err)
	}
	return nil
}

const newSuffix = ".new"

// rewrite replaces the log with a new one that only contains the keys of the table. The caller
// holds writer. If rewrite fails before it changes the old log, the old log stays in use. If
// rewrite fails after that, or if the old log was already broken, it marks the log as broken.
func (f *File) rewrite() error {
	// If the log was removed, write it again. If another file has replaced the log, do not change
	// that file.
	var gone *fsys.GoneError
	if err := f.lock.Check(); err != nil && !(errors.As(err, &gone) && gone.Name == f.path && !gone.Replaced) {
		return err
	}
	f.mu.Lock()
	buf := []byte(header)
	wall := time.Now().UnixNano()
	live := int64(0)
	f.table.each(func(key string, at time.Duration) {
		buf = appendRecord(buf, at, wall, key)
		live++
	})
	// The last record stores the present time, which may be later than the time of any key.
	buf = appendOpenRecord(buf, f.clock.now(), wall, f.baseToken)
	f.mu.Unlock()

	err := f.replace(f.path, buf, func() error {
		if err := f.lock.Guard(f.path, f.path+newSuffix); err != nil {
			return err
		}
		// Windows cannot rename over an open file. From now on, the old log may be gone, or a power
		// failure may restore it, so nothing may be appended to it.
		f.broken = true
		f.closeLog() // the log is replaced, so the error does not matter
		return nil
	})
	if err != nil {
		return err
	}
	if f.log, err = f.fs.Open(f.path); err != nil {
		return err
	}
	f.broken, f.end = false, int64(len(buf))

	f.mu.Lock()
	f.records, f.compactAt, f.table.stats.LogBytes = live, 0, f.end
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

// replace writes data to path. The replacement is atomic, even in a power failure.
func (f *File) replace(path string, data []byte, beforeRename func() error) error {
	if err := f.fs.Remove(path + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := f.fs.Create(path + newSuffix)
	if err != nil {
		return err
	}
	if _, err = l.WriteAt(data, 0); err == nil {
		err = f.sync(l)
	}
	if err = cmp.Or(err, l.Close()); err != nil {
		return err
	}
	if err := beforeRename(); err != nil {
		return err
	}
	if err := f.fs.Rename(path+newSuffix, path); err != nil {
		return err
	}
	return f.fs.SyncDir(filepath.Dir(path))
}
