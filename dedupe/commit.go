package dedupe

import (
	"context"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// batch is the content of one write.
type batch struct {
	keys []pending
	done chan struct{} // closed when the batch was written; err is valid after that
	err  error
}

// Commit implements [Cache]. With [SyncEach], Commit returns after the key is durable. If the disk
// fails, Commit returns [*CommitError]. The end of ctx does not interrupt a write. If ctx ends
// while Commit waits for the write of another goroutine, Commit returns the cause of ctx. If the
// write includes the key, the key becomes a Duplicate. If not, the caller still holds the claim.
func (f *File) Commit(ctx context.Context, c Claim) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return ErrClosed
	}
	held, err := f.table.beginCommit(&c)
	if !held {
		f.mu.Unlock()
		return err
	}
	if f.open == nil {
		f.open = &batch{done: make(chan struct{})}
	}
	b, p := f.open, pending{c.Key, c.Token}
	b.keys = append(b.keys, p)
	f.mu.Unlock()

	select {
	case f.writer <- struct{}{}: // write even if ctx has ended, because the message was handled
	default:
		select {
		case <-b.done:
			return b.err
		case f.writer <- struct{}{}:
		case <-ctx.Done():
			f.leave(b, p)
			return context.Cause(ctx)
		}
	}
	f.write()
	<-f.writer
	f.mu.Lock()
	f.unlock() // after writer is released, because OnEvict may call Commit
	<-b.done   // written by this call or by an earlier writer
	return b.err
}

// leave removes p from the batch, unless the batch is being written.
func (f *File) leave(b *batch, p pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open != b {
		return
	}
	i := slices.Index(b.keys, p)
	b.keys = slices.Delete(b.keys, i, i+1)
	if len(b.keys) == 0 {
		f.open = nil
	}
	f.table.slot(p.token).committing = false
}

// write writes the open batch. The caller holds writer.
func (f *File) write() {
	f.mu.Lock()
	b, now := f.open, f.clock.now()
	f.open = nil
	f.mu.Unlock()
	if b == nil {
		return
	}
	err := f.appendKeys(b.keys, now)

	f.mu.Lock()
	for _, p := range b.keys {
		f.table.commit(p, now)
	}
	f.records += int64(len(b.keys))
	if err != nil {
		f.table.stats.WriteErrors++
		f.broken = true
	}
	wasteful := f.records > max(f.compactAt, 2*int64(f.table.size())+minRecords)
	f.mu.Unlock()

	// The table contains the keys even if writing them failed, so the new log will contain them too.
	if f.broken {
		if again := f.rewrite(); again == nil {
			err = nil
		} else if err == nil {
			err = again
		}
	} else if wasteful {
		f.compact()
	}
	if err != nil {
		b.err = &CommitError{Path: f.path, Err: err}
	}
	close(b.done)
}

// compact rewrites the log. If the rewrite fails, no commit fails, because the last batch is
// already durable. compact is then called again when the log has doubled in size.
func (f *File) compact() {
	err := f.rewrite()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.table.stats.Compactions++
		return
	}
	f.table.stats.WriteErrors++
	f.compactAt = 2 * f.records
}

// minRecords prevents frequent rewrites of a small log.
const minRecords = 1024

// lookAfter is the time after which File checks again whether its log was removed or replaced.
const lookAfter = 100 * time.Millisecond

// look returns an error if the log was removed or replaced. It checks at most once per lookAfter. A
// sync always checks.
func (f *File) look() error {
	if time.Since(f.looked) < lookAfter {
		return nil
	}
	err := f.lock.Check()
	if err == nil {
		err = fsys.CheckFile(f.log)
	}
	if err == nil {
		f.looked = time.Now()
	}
	return err
}

func (f *File) appendKeys(keys []pending, now time.Duration) error {
	if f.broken {
		return nil // write then calls rewrite, which includes the keys
	}
	size := 0
	for _, p := range keys {
		size += recordHead + len(p.key)
	}
	buf := make([]byte, 0, size)
	wall := time.Now().UnixNano()
	for _, p := range keys {
		buf = appendRecord(buf, now, wall, p.key)
	}
	return f.append(buf, f.opts.Sync != SyncNever)
}

// append writes records at the end of the log. The caller holds writer.
func (f *File) append(records []byte, sync bool) error {
	if err := f.look(); err != nil {
		return err
	}
	if _, err := f.log.WriteAt(records, f.end); err != nil {
		return err
	}
	f.end += int64(len(records))
	f.mu.Lock()
	f.table.stats.LogBytes = f.end
	f.mu.Unlock()
	if !sync {
		return nil
	}
	return f.sync(f.log)
}

func (f *File) sync(l fsys.File) error {
	f.mu.Lock()
	f.table.stats.Syncs++
	f.mu.Unlock()
	return l.Sync()
}
