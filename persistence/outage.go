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

// An outage begins when the disk refuses writes. During an outage, the log accepts no messages. It
// keeps in memory the records that it could not write. It still returns messages that are in memory
// or readable, so the client can send them and record their results. The records of these results
// wait in the open batch. A goroutine retries the write.
//
// The log has a reserve, which is a file of zeros. If the disk is full, the log uses this file as
// the next segment. It then continues to write small records, so that pending messages can be sent
// and can end, and whole segments can be removed. The outage ends when the disk has space for a new
// reserve.

const (
	firstTry, lastTry = 50 * time.Millisecond, 5 * time.Second // bounds of the backoff during an outage
	maxHeldBytes      = 64 << 20                               // bound of the records that wait in memory
)

const (
	minReserve = 64 << 10
	// reserveEach is the size of the small records of one message: sent, released, done.
	reserveEach = 48
)

// rewrite is called after a write or a sync failed. It writes the batches in flight and all later
// records to a new segment. If this fails too, the log becomes degraded.
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

// relocateAnyhow calls relocate, and uses the reserve if the disk is full. In this case, full is
// the error of the disk.
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
	if errors.Is(err, fs.ErrNotExist) { // another process has removed the reserve
		return nil, full
	}
	return full, err
}

// relocate begins a new segment after a failure. It is unknown whether the unsynced part of the
// active file was written, and another sync cannot make that part durable. relocate therefore
// writes this part to the new segment. After it come the batches that were held in memory during an
// outage, and then the batches in flight. The link of the new segment marks the unsynced part of
// the old segment as invalid.
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

// degrade begins or continues an outage, because the batches in flight could not be written. The
// callers that wait for these batches get an error, and do not know the outcome. The log keeps the
// records.
func degrade(l *Log, cause error) {
	beginOutage(l, cause)
	l.pipe.dry = true
	l.pipe.hold(safe.Unknown(l.pipe.outage))
	l.state.catalog.Open = l.pipe.messages(l.state.catalog.Open)
	l.waste.garbage = append(l.waste.garbage, l.writer.Leftover...)
	l.writer.Leftover = nil
}

// beginOutage records why no message is accepted, and starts the goroutine that retries.
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

// writable reports whether the log is usable and the disk accepts writes.
func writable(l *Log) bool { return l.usable() == nil && l.pipe.outage == nil }

// mendLater retries until a write succeeds or the log is closed.
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

// mend writes the records that could not be written, and reports whether the outage has ended. mu
// is held before and after.
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
		l.noted() // records that were buffered meanwhile
	}
	if !l.folder.reserve.given || l.closed || keepReserve(l) == nil {
		l.pipe.outage, l.folder.reserve.given = nil, false
	}
	return l.pipe.outage == nil
}

// reserve is a file that reserves disk space. Log.mu guards it.
type reserve struct {
	size  int64
	given bool  // the file is used as a segment; no message is accepted until there is a new reserve
	busy  bool  // it is being written
	full  error // the error that made the opening use the reserve; nil if it did not use the reserve
}

// noSpace reports whether err means that the disk is full, so that the removal of a file may help.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// beginFirst begins the first segment of an opening. On a full disk it uses the reserve.
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

// removeLeftover removes the files of segments that could not be begun.
func removeLeftover(l *Log) (err error) {
	for _, name := range l.writer.Leftover {
		err = errors.Join(err, l.o.FS.Remove(name))
	}
	l.writer.Leftover = nil
	return err
}

// wanted returns the size that the reserve should have. With this size, the log can record the
// results of all messages of the largest segment, so that it can remove the segment.
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

// keepReserve writes a reserve file if the log has no file of the wanted size. mu is held
// before and after.
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

// writeReserve replaces the reserve file with one of this size.
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
