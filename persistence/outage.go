package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// During an outage the disk does not take what is written. The log accepts no messages then. It
// keeps in memory what it could not write, and goes on with what it has read or can read: messages
// are sent and end, and their records wait in the open batch. A goroutine tries again.

const (
	firstTry, lastTry = 50 * time.Millisecond, 5 * time.Second // bounds of the backoff of an outage
	maxHeldBytes      = 64 << 20                               // of the records that wait
)

// rewrite is called when a write or a sync failed. The batches in flight, and what has come since,
// are written to a new segment. If this fails too, the log is degraded.
func (l *Log) rewrite(cause error) {
	l.nextBatch()
	switch err := relocate(l); {
	case err == nil:
		l.finish(nil)
	case err == errTooMuch:
		l.fail(cause)
	default:
		degrade(l, fmt.Errorf("%w; then %w", cause, err))
	}
}

// errTooMuch is returned by relocate under SyncNever, if what is not synced exceeds the buffers.
var errTooMuch = errors.New("too much to keep in memory")

// relocate begins a new segment after a failure. The unsynced part of the active file cannot be
// trusted, nor made durable by another sync: it is written to the new segment, with the batches that
// are held and those in flight. The link of that segment voids the rest of the old one.
func relocate(l *Log) error {
	a := l.state.catalog.Active()
	prev := segment.Link{Number: a.Number, Size: l.writer.Durable}
	unsynced := a.Size - prev.Size
	records := slices.Clone(l.tail.From(a.Number, prev.Size))
	if int64(len(records)) != unsynced {
		return errTooMuch
	}
	batches := slices.Concat(l.pipe.held, l.pipe.flight)
	for _, b := range batches {
		records = append(records, b.buf...)
	}
	first := a.First + uint64(a.Split(prev.Size))
	checkpoint := l.state.ledger.AppendCheckpoint(nil, prev)
	l.pause()
	err := l.writer.Begin(segment.Header{First: first, Prev: prev}, records, checkpoint)
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
	if !isOutage(cause) {
		l.fail(cause)
		return
	}
	began := l.pipe.outage == nil
	since := time.Now()
	if !began {
		since = l.pipe.outage.Since
	}
	l.pipe.outage = &DegradedError{Since: since, Fix: remedy(cause), Err: cause}
	l.pipe.hold(safe.Unknown(l.pipe.outage))
	l.state.catalog.Open = l.pipe.messages(l.state.catalog.Open)
	l.waste.garbage = append(l.waste.garbage, l.writer.Leftover...)
	l.writer.Leftover = nil
	if began && !l.closed {
		l.state.stats.Outages++
		l.work.Go(func() { mendLater(l) })
	}
}

// writable reports whether the log is in use and can write.
func writable(l *Log) bool { return l.usable() == nil && l.pipe.outage == nil }

// isOutage reports whether an error may pass. A folder that was removed has taken the messages with it.
func isOutage(err error) bool { return !errors.Is(err, fs.ErrNotExist) }

// fail ends the log: nothing is accepted until it is opened again.
func (l *Log) fail(cause error) {
	l.failed, l.pipe.outage = &FailedError{Op: "writing", Err: cause}, nil
	l.finish(l.failed)
}

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
	l.pipe.open.led = true
	l.nextBatch()
	if err := relocate(l); err != nil {
		degrade(l, err)
		return false
	}
	l.pipe.outage = nil
	l.finish(nil)
	return true
}
