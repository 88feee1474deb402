package persistence

import (
	"errors"
	"io/fs"
	"time"

	"github.com/mooring-mqtt/mooring/internal/safe"
)

// During an outage the disk does not take what is written. The log accepts no messages then. It
// keeps in memory what it could not write, and goes on with what it has read or can read: messages
// are sent and end, and their records wait in the open batch. A goroutine tries again.

const (
	firstTry, lastTry = 50 * time.Millisecond, 5 * time.Second // bounds of the backoff of an outage
	maxHeldBytes      = 64 << 20                               // of the records that wait
)

// degrade begins an outage, or goes on with it. The batches in flight could not be written: those
// who wait for them are told that the outcome is unknown, and their records are kept.
func (l *Log) degrade(cause error) {
	if !isOutage(cause) {
		l.fail(cause)
		return
	}
	began := l.outage == nil
	since := time.Now()
	if !began {
		since = l.outage.Since
	}
	l.outage = &DegradedError{Since: since, Fix: remedy(cause), Err: cause}
	l.pipe.hold(safe.Unknown(l.outage))
	l.state.catalog.Open = l.pipe.messages(l.state.catalog.Open)
	l.waste.garbage = append(l.waste.garbage, l.writer.Leftover...)
	l.writer.Leftover = nil
	if began && !l.closed {
		l.state.stats.Outages++
		l.work.Go(l.mendLater)
	}
}

// isOutage reports whether an error may pass. A folder that was removed has taken the messages with it.
func isOutage(err error) bool { return !errors.Is(err, fs.ErrNotExist) }

// fail ends the log: nothing is accepted until it is opened again.
func (l *Log) fail(cause error) {
	l.failed, l.outage = &FailedError{Op: "writing", Err: cause}, nil
	l.finish(l.failed)
}

// mendLater tries to write until that succeeds, or the log is closed.
func (l *Log) mendLater() {
	begun := locked(l, func() *DegradedError { return l.outage })
	l.reportOutage(begun)
	for wait := firstTry; ; wait = min(2*wait, lastTry) {
		select {
		case <-l.work.stop:
			return
		case <-time.After(wait):
		}
		l.mu.Lock()
		mended := l.closed || l.mend()
		closed := l.closed
		l.mu.Unlock()
		l.removeDone()
		if closed {
			return
		}
		if mended {
			l.reportOutage(nil)
			return
		}
	}
}

func (l *Log) reportOutage(err *DegradedError) {
	if l.o.OnDegraded != nil {
		l.o.OnDegraded(err)
	}
}

// mend writes what could not be written, with mu held before and after. It reports whether the
// outage has ended.
func (l *Log) mend() bool {
	l.settle()
	if l.outage == nil || l.failed != nil {
		return true
	}
	l.pipe.open.led = true
	l.nextBatch()
	if err := l.relocate(); err != nil {
		l.degrade(err)
		return false
	}
	l.outage = nil
	l.finish(nil)
	return true
}
