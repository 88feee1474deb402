package persistence

import (
	"errors"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// Log is the store on disk. What Append or Wait confirmed is there after any
// crash that Options.Sync covers; [Open] finds it again.
type Log struct {
	// Lock order: reading.mu, then mu. Neither is held during a write or an fsync;
	// reading.mu is held while Next reads the disk. What the comment says belongs to
	// the committer is used by the one goroutine at a time for which flight is set.

	o       Options
	inline  bool // there is no disk to wait for: commits are made with mu held
	dir     string
	lock    io.Closer
	epoch   uint64
	boot    uint64
	reading reader
	copies  int // of damaged files in the folder

	mu     sync.Mutex
	closed bool
	failed error // *FailedError
	ledger ledger
	catalog
	receipts   receipts
	garbage    []string // files that do not count and are to be removed
	flight     []*batch // being committed, in order
	cur        *batch   // takes records
	written    uint64   // ID of the newest batch that was committed
	durable    uint64   // ID of the newest batch that was synced
	spare      batch    // buffers for the next batch
	tail       tail
	diskSize   int64
	crowd      int  // how many waited for the last commit, its leader included
	flushing   bool // a goroutine commits cur because of its size
	removing   bool
	compacting bool
	round      uint64             // compaction has gone round when it comes to a segment above
	floor      int64              // what was left when it had
	squeezed   uint64             // the newest segment when there was last no room
	room       chan struct{}      // closed when there may be more room; nil while nobody waits
	counts                        // of this opening
	victims    [Priorities]uint64 // none that can be dropped is before
	marked     [Priorities]uint64 // ID of the batch that carries the last SetSent

	// The committer's.
	file     fsys.File // the active segment's
	number   uint64    // the highest segment number in use or tried
	end      int64     // its size
	opening  int64     // how much of it is header and checkpoint
	synced   int64     // how much of it is known to be durable
	filled   int64     // how far it was written: records, then zeros
	prev     link      // the link in its header
	leftover []string  // files that could not be begun, on their way to garbage

	bytesWritten, syncs, tornTails, corruptions atomic.Uint64
	syncTook                                    atomic.Int64 // the last fsync, in nanoseconds
	wear                                        wear

	stop chan struct{}  // ends the interval goroutine
	wg   sync.WaitGroup // the interval goroutine, flushes and removals
}

var (
	_ Store       = (*Log)(nil)
	_ Receipts    = (*Log)(nil)
	_ DeadLetters = (*Log)(nil)
)

// Open opens the log in a folder, or creates both. It fails with
// *LockedError when another Log has the folder open, *FolderError when it cannot
// be used, *VersionError when a newer release wrote it, *OptionError; damage is
// no failure, see Options.OnCorruption. The caller owns the Log and must Close it.
func Open(dir string, o Options) (*Log, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if err := o.FS.MkdirAll(dir); err != nil {
		return nil, folderError(dir, err)
	}
	lock, err := o.FS.Lock(filepath.Join(dir, lockName))
	var locked *fsys.LockedError
	if errors.As(err, &locked) {
		return nil, &LockedError{Dir: dir, PID: locked.PID}
	}
	if err != nil {
		return nil, folderError(dir, err)
	}
	return openLog(&Log{o: o, dir: dir, lock: lock})
}

func openLog(l *Log) (*Log, error) {
	o := l.o
	l.stop = make(chan struct{})
	l.reading = reader{fs: o.FS, dir: l.dir, window: window{chunk: min(o.Files.BufferBytes, 256<<10)}}
	l.tail.limit = o.Files.BufferBytes
	if err := l.start(); err != nil {
		if l.file != nil {
			l.file.Close()
		}
		l.lock.Close()
		return nil, folderError(l.dir, err)
	}
	if o.Sync == SyncInterval {
		l.wg.Go(l.syncAtIntervals)
	}
	return l, nil
}

// usable returns what a method has to return at once.
func (l *Log) usable() error {
	if l.closed {
		return ErrClosed
	}
	return l.failed
}

// Release implements [Store].
func (l *Log) Release(seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.ledger.checkSeq(seq); err != nil {
		return err
	}
	r := l.find(seq)
	if !r.ok() || r.state() != statePending {
		return nil
	}
	r.set(stateReleased)
	l.cur.buf = appendReleased(l.cur.buf, seq, l.ledger.releases.add(seq))
	l.noted()
	return nil
}

// Done implements [Store].
func (l *Log) Done(seq uint64, o Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.ledger.checkDone(seq, o); err != nil {
		return err
	}
	l.done(seq, o)
	return nil
}

func (l *Log) done(seq uint64, o Result) {
	r := l.find(seq)
	if !r.alive() {
		return
	}
	size, released := int(r.loc().size), r.state() == stateReleased
	l.ledger.settle(r.priority(), o.Kind, size)
	r.x.emptied = l.cur.id
	at := int64(0)
	if l.o.Retention.MaxReceipts > 0 {
		at = l.ledger.clock.now()
	}
	l.cur.buf = appendDone(l.cur.buf, seq, o, at)
	r.end(o, at)
	if o.Kind == DeadLettered && l.o.Retention.MaxDeadLetters > 0 {
		r.set(stateDead)
		l.bury(seq, size, o.Reason)
	} else {
		r.set(stateDone)
	}
	if released {
		l.ledger.releases.done(l.released)
	}
	l.signalRoom()
	l.noted()
}

// find returns where the state of a message is kept.
func (l *Log) find(seq uint64) ref {
	if seq >= l.cur.first && seq < l.cur.end() {
		return ref{x: &l.cur.index, i: int(seq - l.cur.first)}
	}
	for _, b := range l.flight {
		if seq >= b.first && seq < b.end() {
			return ref{x: &b.index, i: int(seq - b.first)}
		}
	}
	return l.catalog.find(seq)
}

// Seen implements [Store].
func (l *Log) Seen(id uint16) error { return l.identifier(kindSeen, id, l.ledger.seen.add) }

// Cleared implements [Store].
func (l *Log) Cleared(id uint16) error { return l.identifier(kindCleared, id, l.ledger.seen.remove) }

func (l *Log) identifier(kind uint8, id uint16, change func(uint16) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if id == 0 {
		return ErrPacketID
	}
	if change(id) {
		l.cur.buf = appendIdentifier(l.cur.buf, kind, id)
		l.noted()
	}
	return nil
}

// SeenIDs implements [Store].
func (l *Log) SeenIDs() []uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.seen.list()
}

// ResetSession implements [Store].
func (l *Log) ResetSession(clientID string) error {
	l.mu.Lock()
	err := l.usable()
	if err == nil && len(clientID) > maxClientID {
		err = ErrClientID
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	l.ledger.seen.clear()
	l.ledger.releases.clear()
	l.ledger.session, l.ledger.owner = true, clientID
	l.ledger.sent, l.victims = [Priorities]uint64{}, [Priorities]uint64{}
	l.catalog.unrelease()
	for _, b := range l.flight {
		b.unrelease()
	}
	l.cur.unrelease()
	l.cur.buf = appendReset(l.cur.buf, clientID)
	return l.await(l.cur)
}

// Session implements [Store].
func (l *Log) Session() (clientID string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.owner, l.ledger.session
}

// Stream implements [Store].
func (l *Log) Stream(name string) (uint32, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, 0, err
	}
	id, last, added, err := l.ledger.stream(&l.o.Limits, name)
	if added {
		l.cur.buf = appendStream(l.cur.buf, id, name)
		l.noted()
	}
	return id, last, err
}

// LastSeq implements [Store].
func (l *Log) LastSeq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.next - 1
}

// Epoch implements [Store]. It is renewed when damage may have taken counters.
func (l *Log) Epoch() uint64 { return l.epoch }

// Now implements [Store].
func (l *Log) Now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fromMillis(l.ledger.clock.now())
}

// Boot returns how many times the log was opened, this time included.
func (l *Log) Boot() uint64 { return l.boot }

// Stats implements [Store].
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.ledger.stats()
	s.DiskBytes, s.Segments = l.diskSize, len(l.segments)
	l.counts.into(&s)
	s.Receipts = l.receipts.total
	s.BytesWritten, s.Syncs = l.bytesWritten.Load(), l.syncs.Load()
	s.TornTails, s.Corruptions = l.tornTails.Load(), l.corruptions.Load()
	s.PageBytes, s.PageBytesDay = l.wear.read(l.ledger.clock.now())
	return s
}

// Close implements [Store]. It waits for the log's goroutines. A second Close
// returns nil.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.stop)
	l.cur.force = true
	err := l.await(l.cur)
	l.wg.Wait()
	l.idle()
	if err == nil {
		if err = l.mark(true); err != nil {
			err = &FailedError{Op: "closing", Err: err}
		}
	}
	l.reading.mu.Lock()
	l.reading.close()
	l.reading.mu.Unlock()
	if err == nil {
		l.trim()
	}
	return errors.Join(err, l.file.Close(), l.lock.Close())
}

// idle waits until no commit is under way: the one that led the last batch may
// still be finishing it.
func (l *Log) idle() {
	l.mu.Lock()
	for len(l.flight) > 0 {
		l.flight[0].await(&l.mu)
		l.mu.Lock()
	}
	l.mu.Unlock()
}

func (l *Log) syncAtIntervals() {
	tick := time.NewTicker(l.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		if l.usable() != nil {
			l.mu.Unlock()
			return
		}
		l.cur.force = true
		_ = l.await(l.cur) // a failure is what every method returns from now on
	}
}
