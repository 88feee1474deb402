package persistence

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Log is a store on disk. [Open] finds again what Wait confirmed, after any crash that
// Options.Sync covers. [Store], [Receipts] and [DeadLetters] document it.
//
// Lock order: reader, then mu. Neither is held during a write or a sync. reader is
// held while Next reads the disk. The writer belongs to the one goroutine at a time
// that commits: the pipeline has a batch in flight.
type Log struct {
	o      Options
	inline bool // there is no disk to wait for: commits are made with mu held
	folder folder

	mu     sync.Mutex // guards the fields below
	closed bool
	failed error // *FailedError
	state  state
	pipe   pipeline
	tail   segment.Tail
	waste  waste
	room   notify.Broadcast // there may be more room, or the log is closed

	writer *segment.Writer
	reader *segment.Reader
	damage damageStats
	stats  segment.WriteStats
	work   work
}

// folder is where a log is, and why its opening began a new epoch.
type folder struct {
	dir     string
	lock    fsys.Held
	renewal Renewal
	reserve reserve
	opening *opening // in an outage: the first segment has not begun
}

// damageStats counts damage. The counters are final or atomic.
type damageStats struct {
	troubles    troubles
	tornTails   uint64
	corruptions atomic.Uint64
}

// work is the goroutines of a log: interval sync, unawaited commits, and compaction.
type work struct {
	sync.WaitGroup
	stop     chan struct{} // ends the interval sync, and the goroutine of commits
	commits  chan *batch   // see commitLater; nil: there was none; Log.mu guards the pointer
	flushing bool          // a goroutine commits the open batch because of its size; Log.mu guards it
}

var _ interface {
	Store
	Receipts
	DeadLetters
} = (*Log)(nil)

// usable returns the error that each method returns at once.
func (l *Log) usable() error {
	if l.closed {
		return ErrClosed
	}
	return l.failed
}

func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state.stats
	s.count(&l.state.ledger)
	s.DiskBytes, s.Segments = l.waste.size, len(l.state.catalog.Segments)
	s.Receipts = l.waste.receipts.Total
	s.BytesWritten, s.Syncs, s.PageBytes = l.stats.Bytes.Load(), l.stats.Syncs.Load(), l.stats.Pages.Load()*segment.PageSize
	s.Degraded = l.pipe.outage != nil
	s.TornTails, s.Corruptions = l.damage.tornTails, l.damage.corruptions.Load()
	return s
}

// Renewal returns why the opening of this log began a new epoch.
func (l *Log) Renewal() Renewal { return l.folder.renewal }

// SentLost reports whether messages that were sent may be missing from the log, because it lost its end
// or was damaged: the server may hold exchanges under packet identifiers that the log will give to other
// messages. It is true from the opening that found it until the first SetSent or ResetSession, across
// restarts: what the caller does about it comes before SetSent.
func (l *Log) SentLost() bool { return locked(l, func() bool { return l.state.ledger.SentLost }) }

// report counts and reports a damaged place. No lock is held.
func (l *Log) report(c Corruption) {
	l.damage.corruptions.Add(1)
	if l.o.OnCorruption != nil {
		l.o.OnCorruption(c)
	}
}

// Close implements [Store]. It waits for the goroutines of the log.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.work.stop)
	l.signalRoom()
	if l.pipe.outage != nil {
		mend(l) // a last try
	}
	l.pipe.open.force = true
	err := l.await(l.pipe.open)
	l.work.Wait()
	l.mu.Lock()
	l.settle() // the goroutine that led the last batch may still be finishing it
	l.mu.Unlock()
	if err == nil {
		err = l.fenceClosed()
	}
	if outage := (*DegradedError)(nil); errors.As(err, &outage) {
		err = outage.Err // nothing tries again
	}
	if err != nil {
		err = &FailedError{Op: "closing", Err: err}
	}
	l.reader.Close()
	if err == nil {
		l.writer.Trim()
	}
	return errors.Join(err, l.writer.Close(), l.folder.lock.Close())
}

// fenceClosed writes the last record of a log. Everything before it was synced.
func (l *Log) fenceClosed() error {
	l.mu.Lock()
	l.state.ledger.Writer.Closed = true
	l.mu.Unlock()
	return l.fence(true)
}

func (l *Log) syncAtIntervals() {
	tick := time.NewTicker(l.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-l.work.stop:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		if l.usable() != nil {
			l.mu.Unlock()
			return
		}
		l.pipe.open.force = true
		_ = l.await(l.pipe.open) // its callers learn of an error
	}
}
