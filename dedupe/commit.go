package dedupe

import (
	"context"
	"slices"
	"time"
)

// batch is what one write carries.
type batch struct {
	keys []pending
	done chan struct{} // closed when written; err is valid from then on
	err  error
}

// Commit implements [Cache]. With [SyncEach] it returns after the key is on
// disk. An error of the disk is a [*CommitError]. If ctx ends while another
// Commit is being written, the claim is held as before, or, if it is part of
// that write, becomes a Duplicate with it. A write itself is not interrupted.
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
	case f.writer <- struct{}{}: // also if ctx has ended: the effect has happened
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
	f.unlock() // OnEvict may call Commit, so not while holding writer
	<-b.done   // written by this call, or by the writer before it
	return b.err
}

// leave takes p out of the batch unless it is being written.
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
	err := f.append(b.keys, now)

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

	// The table has the keys even if writing them failed: the new log contains them.
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

// compact rewrites the log. The last batch is durable already, so a failure fails no
// commit. It is tried again when the log has doubled.
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

// minRecords keeps small logs from being rewritten often.
const minRecords = 1024

func (f *File) append(keys []pending, now time.Duration) error {
	if f.broken {
		return nil // write calls rewrite next, which contains the keys
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
	if _, err := f.log.Write(buf); err != nil {
		return err
	}
	f.mu.Lock()
	f.table.stats.LogBytes += int64(len(buf))
	f.mu.Unlock()
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
