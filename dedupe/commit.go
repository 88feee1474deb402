package dedupe

import (
	"fmt"
	"time"
)

// batch is what one write carries.
type batch struct {
	keys []string
	done chan struct{} // closed when written, then err is valid
	err  error
}

// CommitError says that the effect's key did not become durable. Within this
// process the key is a Duplicate all the same; the next Commit that succeeds
// makes it durable too. It unwraps to the file system's error.
type CommitError struct {
	Path string
	Err  error
}

// Error says what failed and what to do.
func (e *CommitError) Error() string {
	return fmt.Sprintf("dedupe: commit not durable in %s, a restart now would handle the message again; check the disk: %v", e.Path, e.Err)
}

// Unwrap returns the file system's error.
func (e *CommitError) Unwrap() error { return e.Err }

// Commit implements [Cache]. With [SyncEach] it returns when key is on disk.
// Errors: [ErrNoClaim], [ErrClosed], [*CommitError].
func (f *File) Commit(key string) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return ErrClosed
	}
	switch at, ok := f.table.keys[key]; {
	case !ok, at == committing: // the second: another caller used the claim up
		f.mu.Unlock()
		return ErrNoClaim
	case at != claimed:
		f.mu.Unlock()
		return nil
	}
	f.table.keys[key] = committing
	if f.open == nil {
		f.open = &batch{done: make(chan struct{})}
	}
	b := f.open
	b.keys = append(b.keys, key)
	f.mu.Unlock()

	select {
	case <-b.done:
	case f.writer <- struct{}{}:
		gone := f.write()
		<-f.writer
		f.opts.tell(gone) // it may commit, so not as the writer
		<-b.done          // by us, or by the writer before us
	}
	return b.err
}

// write writes the batch that is open and returns what OnEvict must be told. The
// caller is the writer.
func (f *File) write() []departure {
	f.mu.Lock()
	b := f.open
	f.open = nil
	if b == nil {
		f.mu.Unlock()
		return nil
	}
	now := f.clock.now()
	f.mu.Unlock()

	err := f.append(b.keys, now)

	f.mu.Lock()
	for _, key := range b.keys {
		f.table.commit(key, now)
	}
	f.records += int64(len(b.keys))
	if err != nil {
		f.table.stats.WriteErrors++
		f.broken = true
	}
	wasteful := f.records > max(f.compactAt, 2*int64(f.table.size())+minRecords)
	gone := f.table.departures()
	f.mu.Unlock()

	// The table has the keys of this batch now, also when writing them failed:
	// then the new file is their second chance.
	if f.broken {
		if again := f.rewrite(); again == nil {
			err = nil
		} else if err == nil {
			err = again
		}
	} else if wasteful {
		// The batch is durable already, so failing to shrink the log fails no
		// commit; it is tried again when the log has doubled once more.
		if f.rewrite() != nil {
			f.compactionFailed()
		} else {
			f.compacted()
		}
	}
	if err != nil {
		b.err = &CommitError{Path: f.path, Err: err}
	}
	close(b.done)
	return gone
}

// minRecords keeps small logs from being rewritten all the time.
const minRecords = 1024

func (f *File) append(keys []string, now time.Duration) error {
	if f.broken {
		return nil // write goes on to rewrite, which carries them
	}
	size := 0
	for _, key := range keys {
		size += recordSize(key)
	}
	buf := make([]byte, 0, size)
	wall := time.Now().UnixNano()
	for _, key := range keys {
		buf = appendRecord(buf, now, wall, key)
	}
	if _, err := f.log.Write(buf); err != nil {
		return err
	}
	f.grew(int64(len(buf)))
	if f.opts.Sync == SyncNever {
		return nil
	}
	return f.sync(f.log)
}

func (f *File) sync(l logFile) error {
	f.mu.Lock()
	f.table.stats.Syncs++
	f.mu.Unlock()
	return l.Sync()
}

func (f *File) grew(n int64) {
	f.mu.Lock()
	f.table.stats.LogBytes += n
	f.mu.Unlock()
}

func (f *File) compacted() {
	f.mu.Lock()
	f.table.stats.Compactions++
	f.mu.Unlock()
}

func (f *File) compactionFailed() {
	f.mu.Lock()
	f.table.stats.WriteErrors++
	f.compactAt = 2 * f.records
	f.mu.Unlock()
}
