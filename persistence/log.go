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

// Log is a [Store] on disk. It also implements [Receipts] and [DeadLetters].
//
// After Wait has returned nil for a message, the next [Open] finds the message again. This is true
// after every kind of crash that the policy in Options.Sync covers.
type Log struct {
	// The lock order is: reader, then mu. Neither lock is held during a write or a sync. Next holds
	// reader while it reads the disk. Only the goroutine that commits uses writer. Only one
	// goroutine commits at a time, and the pipeline then has a batch in flight.
	o      Options
	inline bool // files are in memory: commits are made with mu held
	folder folder

	mu     sync.Mutex // guards the fields below
	closed bool
	failed error // *FailedError
	state  state
	pipe   pipeline
	tail   segment.Tail
	waste  waste
	room   notify.Broadcast // notified when there may be more room, and when the log is closed

	writer *segment.Writer
	reader *segment.Reader
	damage damageStats
	stats  segment.WriteStats
	work   work
}

// folder is the folder of a log, and the reason why its opening began a new epoch.
type folder struct {
	dir     string
	lock    fsys.Held
	renewal Renewal
	reserve reserve
	opening *opening // not nil: the log was opened during an outage and has no first segment yet
}

// damageStats counts damage. A counter that is not atomic does not change after the opening.
type damageStats struct {
	troubles    troubles
	tornTails   uint64
	corruptions atomic.Uint64
}

// work contains the background work of a log: the interval sync, the commits that no caller makes,
// and compaction.
type work struct {
	sync.WaitGroup
	stop     chan struct{} // closed to end interval sync and commitThem
	commits  chan *batch   // for commitThem, nil until commitLater is first called; Log.mu guards it
	flushing bool          // a goroutine commits the open batch because of its size; Log.mu guards it
	idle     idleWrite     // Log.mu guards it
}

var _ interface {
	Store
	Receipts
	DeadLetters
} = (*Log)(nil)

// usable returns an error if the log is closed or has failed. Every method then returns this error.
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
	s.DiskBytes = l.waste.size + l.waste.receipts.Bytes + l.folder.reserve.size
	s.Segments = len(l.state.catalog.Segments)
	s.Receipts = l.waste.receipts.Total
	s.BytesWritten, s.Syncs, s.PageBytes = l.stats.Bytes.Load(), l.stats.Syncs.Load(), l.stats.Pages.Load()*segment.PageSize
	s.Degraded = l.pipe.outage != nil
	s.TornTails, s.Corruptions = l.damage.tornTails, l.damage.corruptions.Load()
	return s
}

// Renewal returns the reason why the opening of this log began a new epoch.
func (l *Log) Renewal() Renewal { return l.folder.renewal }

// SentLost reports whether the log may have lost messages that were sent. This is possible if the
// log was damaged or its end is missing. The server may then have unfinished QoS 2 exchanges with
// packet identifiers that the log will assign to other messages. End these exchanges before you
// call SetSent. SentLost stays true, also after restarts, until SetSent or ResetSession is called.
func (l *Log) SentLost() bool { return locked(l, func() bool { return l.state.ledger.SentLost }) }

// report counts a damaged place and reports it to OnCorruption. The caller must hold no lock.
func (l *Log) report(c Corruption) {
	l.damage.corruptions.Add(1)
	if l.o.OnCorruption != nil {
		l.o.OnCorruption(c)
	}
}

// Close implements [Store]. It waits for the background work of the log to end.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.work.stop)
	l.work.idle.stop()
	l.signalRoom()
	if l.pipe.outage != nil {
		mend(l) // a final attempt
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
		err = outage.Err // no further attempt follows
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

// fenceClosed writes the last record of a log. All records before it have been synced.
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
		_ = l.await(l.pipe.open) // the callers that wait for the batch return the error
	}
}

// noted is called after records were added to the open batch, because it may be that no caller
// waits for the batch, for example for results of messages. noted starts a commit if the batch is
// large, or else sets the timer of the idle write. If no commit follows, the idle write writes the
// batch without a sync. A killed process therefore loses at most the records of the last moment. A
// power failure can still lose all records since the last sync. mu must be held.
func (l *Log) noted() {
	b := l.pipe.open
	switch {
	case b.led, l.pipe.dry: // a goroutine is going to write the batch
	case len(b.buf) >= l.o.Files.BufferBytes/2:
		if !l.work.flushing {
			l.work.flushing = true
			l.work.Go(func() {
				l.mu.Lock()
				l.work.flushing = false
				_ = l.await(l.pipe.open) // every method returns the error from now on
			})
		}
	case l.work.idle.timer == nil && len(b.buf) > 0 && !l.inline && l.work.idle.after > 0:
		idle := &l.work.idle
		idle.timer, idle.batch = time.AfterFunc(idle.after, func() { lookIdle(l) }), b.id
	}
}

// lookIdle commits the open batch if it was already open when the timer was set. If it is a newer
// batch, lookIdle sets the timer again.
func lookIdle(l *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.work.idle.batch
	l.work.idle.timer = nil
	if l.usable() != nil {
		return
	}
	if before != l.pipe.open.id {
		l.noted()
		return
	}
	if b := takeIdle(l); b != nil {
		commitLater(l, b)
	}
}

// takeIdle reserves the open batch for the idle write. It returns nil if there is nothing to write,
// or if another goroutine is going to write it. mu must be held.
func takeIdle(l *Log) *batch {
	b := l.pipe.open
	if len(b.buf) == 0 || b.led || l.pipe.dry {
		return nil
	}
	b.idle = true
	take(l, b)
	return b
}
