package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// During an outage the disk does not take what is written. The log accepts no messages then. It
// keeps in memory what it could not write, and goes on with what it has read or can read: messages
// are sent and end, and their records wait in the open batch. A goroutine tries again.
//
// Where the disk is full, the log makes its reserve, a file of zeros, the next segment, and goes on to
// write small records into it: what is pending can be sent and ended, and whole segments are removed. The
// outage ends when there is room for a new reserve.

const (
	firstTry, lastTry = 50 * time.Millisecond, 5 * time.Second // bounds of the backoff of an outage
	maxHeldBytes      = 64 << 20                               // of the records that wait
)

const (
	minReserve = 64 << 10
	// reserveEach is the records of a message beside itself: sent, released, ended.
	reserveEach = 48
)

// rewrite is called when a write or a sync failed. The batches in flight, and what has come since,
// are written to a new segment. If this fails too, the log is degraded.
func (l *Log) rewrite(cause error) {
	l.nextBatch()
	switch full, err := relocateAnyhow(l); {
	case err == nil:
		l.finish(nil)
		if full != nil {
			beginOutage(l, full)
		}
	default:
		degrade(l, fmt.Errorf("%w; then %w", cause, err))
	}
}

// relocateAnyhow is relocate that takes the reserve on a full disk; full is why.
func relocateAnyhow(l *Log) (full, err error) {
	r := &l.folder.reserve
	if err = relocate(l, l.writer.Begin); err == nil || r.size == 0 || r.busy || !noSpace(err) {
		return nil, err
	}
	size, full := r.size, err
	r.size, r.given = 0, true
	err = relocate(l, func(h segment.Header, records, checkpoint []byte) error {
		return l.writer.BeginIn(filepath.Join(l.folder.dir, recovery.ReserveName), size, h, records, checkpoint)
	})
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed the reserve
		return nil, full
	}
	return full, err
}

// relocate begins a new segment after a failure. The unsynced part of the active file cannot be
// trusted, nor made durable by another sync: it is written to the new segment, with the batches that
// are held and those in flight. The link of that segment voids the rest of the old one.
func relocate(l *Log, begin func(h segment.Header, records, checkpoint []byte) error) error {
	a := l.state.catalog.Active()
	prev := segment.Link{Number: a.Number, Size: l.writer.Durable}
	unsynced := a.Size - prev.Size
	records := slices.Clone(l.tail.From(a.Number, prev.Size))
	if int64(len(records)) != unsynced { // under SyncNever it may exceed the buffers
		l.pause()
		var err error
		records, err = l.writer.ReadBack(a.Size)
		l.resume()
		if err != nil {
			return err
		}
	}
	batches := slices.Concat(l.pipe.held, l.pipe.flight)
	for _, b := range batches {
		records = append(records, b.buf...)
	}
	first := a.First + uint64(a.Split(prev.Size))
	checkpoint := l.state.ledger.AppendCheckpoint(nil, prev)
	l.pause()
	err := begin(segment.Header{First: first, Prev: prev}, records, checkpoint)
	l.resume()
	if err != nil {
		return err
	}
	next := &index.Segment{Number: l.writer.Number, Size: l.writer.End, Index: index.Index{First: first, Keep: a.Keep, Emptied: a.Emptied}}
	tail := a.Cut(prev.Size)
	next.AddAll(&tail, segment.HeaderSize-prev.Size)
	l.state.catalog.RehomeFrom(a, prev.Size, next, segment.HeaderSize)
	l.waste.size += next.Size - unsynced
	a.Size = prev.Size
	l.state.catalog.Segments = append(l.state.catalog.Segments, next)
	off := segment.HeaderSize + unsynced
	for _, b := range batches {
		l.install(next, off, b)
		off += int64(len(b.buf))
	}
	return nil
}

// degrade begins an outage, or goes on with it. The batches in flight could not be written: those
// who wait for them are told that the outcome is unknown, and their records are kept.
func degrade(l *Log, cause error) {
	beginOutage(l, cause)
	l.pipe.dry = true
	l.pipe.hold(safe.Unknown(l.pipe.outage))
	l.state.catalog.Open = l.pipe.messages(l.state.catalog.Open)
	l.waste.garbage = append(l.waste.garbage, l.writer.Leftover...)
	l.writer.Leftover = nil
}

// beginOutage notes why no message is accepted, and has it tried again.
func beginOutage(l *Log, cause error) {
	e := &DegradedError{Since: time.Now(), Fix: fsys.Remedy(cause), Err: cause}
	before := l.pipe.outage
	if l.pipe.outage = e; before != nil {
		e.Since = before.Since
	} else if !l.closed {
		l.state.stats.Outages++
		l.work.Go(func() { mendLater(l) })
	}
}

// writable reports whether the log is in use and can write.
func writable(l *Log) bool { return l.usable() == nil && l.pipe.outage == nil }

// mendLater tries to write until that succeeds, or the log is closed.
func mendLater(l *Log) {
	begun := locked(l, func() *DegradedError { return l.pipe.outage })
	l.o.reportOutage(begun)
	for wait := firstTry; ; wait = min(2*wait, lastTry) {
		select {
		case <-l.work.stop:
			return
		case <-time.After(wait):
		}
		l.mu.Lock()
		mended := l.closed || mend(l)
		closed := l.closed
		l.mu.Unlock()
		l.removeDone()
		if closed {
			return
		}
		if mended {
			l.o.reportOutage(nil)
			return
		}
	}
}

// mend writes what could not be written, with mu held before and after. It reports whether the
// outage has ended.
func mend(l *Log) bool {
	l.settle()
	if l.pipe.outage == nil || l.failed != nil {
		return true
	}
	if l.pipe.dry {
		l.pipe.open.led = true
		l.nextBatch()
		err := beginLater(l)
		if err == nil {
			_, err = relocateAnyhow(l)
		}
		if err != nil {
			degrade(l, err)
			return false
		}
		l.pipe.dry = false
		l.finish(nil)
	}
	if !l.folder.reserve.given || l.closed || keepReserve(l) == nil {
		l.pipe.outage, l.folder.reserve.given = nil, false
	}
	return l.pipe.outage == nil
}

// reserve is a file that keeps space on the disk. Log.mu guards it.
type reserve struct {
	size  int64
	given bool  // it was given up, and no message is accepted until there is another one
	busy  bool  // it is being written
	full  error // why the opening took it; nil: it did not
}

// noSpace reports whether a file less may help.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// beginFirst begins the segment of an opening. On a full disk that is the reserve.
func beginFirst(l *Log, h segment.Header, records, checkpoint []byte) error {
	r, name := &l.folder.reserve, filepath.Join(l.folder.dir, recovery.ReserveName)
	if f, err := l.o.FS.Open(name); err == nil {
		r.size, _ = f.Size()
		f.Close()
	}
	err := l.writer.Begin(h, records, checkpoint)
	if err != nil && r.size > 0 && noSpace(err) {
		size := r.size
		r.full, r.given, r.size = err, true, 0
		err = errors.Join(removeLeftover(l), l.writer.BeginIn(name, size, h, records, checkpoint))
	}
	if err != nil {
		err = errors.Join(err, removeLeftover(l))
	}
	return err
}

// removeLeftover removes segments that could not be begun.
func removeLeftover(l *Log) (err error) {
	for _, name := range l.writer.Leftover {
		err = errors.Join(err, l.o.FS.Remove(name))
	}
	l.writer.Leftover = nil
	return err
}

// wanted is how large the reserve should be: enough to end all messages of the largest segment, so
// that it can be removed.
func (r *reserve) wanted(l *Log) int64 {
	most := 0
	for _, s := range l.state.catalog.Segments {
		most = max(most, int(s.End()-s.First))
	}
	if len(l.state.catalog.Segments) < 2 {
		return 0 // nothing could be removed
	}
	return min(minReserve+int64(most)*reserveEach, l.o.Files.SegmentBytes/2)
}

// keepReserve writes a reserve, or a larger one, if one is wanted. mu is held before and after.
func keepReserve(l *Log) error {
	r := &l.folder.reserve
	size := r.wanted(l)
	if l.inline || r.busy || r.size >= size {
		return nil
	}
	r.busy = true
	l.pause()
	err := writeReserve(l, size)
	l.resume()
	if r.busy, r.size = false, size; err != nil {
		r.size = 0
	}
	return err
}

// writeReserve replaces the reserve by one of this size.
func writeReserve(l *Log, size int64) error {
	name := filepath.Join(l.folder.dir, recovery.ReserveName)
	if err := l.o.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := l.o.FS.Create(name)
	if err != nil {
		return err
	}
	zeros := make([]byte, min(size, 256<<10))
	for off := int64(0); off < size && err == nil; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(size-off, int64(len(zeros)))], off)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = l.o.FS.Remove(name)
	}
	return err
}
