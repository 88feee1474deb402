package persistence

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Open opens the log in a folder. It creates the folder and the log if they do not exist. The
// caller must call Close on the Log.
//
// Damage is not an error. Open reports it to Options.OnCorruption. If the disk refuses writes, Open
// still opens an existing log. The log is then degraded, see [DegradedError].
//
// Open returns these errors:
//
//   - *[LockedError] if another Log has the folder open.
//   - *[FolderError] if the folder cannot be used.
//   - *[VersionError] if a newer release wrote the folder.
//   - *[OptionError] if an option is out of range.
func Open(dir string, o Options) (*Log, error) { return openLog(dir, o, Continued) }

// openLog opens a log. The argument renewal is declared if DeclareCopy is the caller, and otherwise
// Continued.
func openLog(dir string, o Options, renewal Renewal) (*Log, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.FS = cmp.Or(o.FS, fsys.OS)
	if o.FS == fsys.OS { // the working directory may change
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, folderError(dir, err)
		}
		dir = abs
	}
	if err := o.FS.MkdirAll(dir); err != nil {
		return nil, folderError(dir, err)
	}
	o = o.on(fsys.PartitionOf(o.FS, dir))
	lock, err := o.FS.Lock(filepath.Join(dir, recovery.LockName))
	if err == nil {
		if err = lock.Guard(dir, dir); err != nil {
			_ = lock.Close()
		}
	}
	var locked *fsys.LockedError
	if errors.As(err, &locked) {
		return nil, &LockedError{Dir: dir, PID: locked.PID}
	}
	if err != nil {
		return nil, folderError(dir, err)
	}
	l := &Log{o: o, folder: folder{dir: dir, lock: lock, renewal: renewal}}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// open starts the log and its goroutines.
func (l *Log) open() error {
	l.work.stop, l.work.idle.after = make(chan struct{}), idleTime(l.o.FS)
	l.reader = segment.NewReader(l.o.FS, l.folder.dir, min(l.o.Files.BufferBytes, 256<<10))
	l.tail.Limit = l.o.Files.BufferBytes
	if err := l.start(); err != nil {
		if l.writer != nil {
			l.writer.Close()
		}
		l.folder.lock.Close()
		return folderError(l.folder.dir, err)
	}
	if l.o.Sync == SyncInterval {
		l.work.Go(l.syncAtIntervals)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if full := l.folder.reserve.full; full != nil {
		beginOutage(l, full)
	}
	l.noted() // dead letters that start has discarded
	return nil
}

// start reads the folder and begins a new segment. It never appends to an existing file, because
// that file may end with a write whose outcome is unknown.
func (l *Log) start() error {
	damage := uint32(0)
	r, err := recovery.Read(recovery.Config{
		FS: l.o.FS, Dir: l.folder.dir, DeadLetters: l.o.Retention.MaxDeadLetters > 0, Receipts: l.o.Retention.MaxReceipts > 0,
		Report: func(d recovery.Damage) {
			l.report(Corruption(d))
			hash := fnv.New32a()
			_, _ = fmt.Fprint(hash, filepath.Base(d.File), d.Offset, d.Length)
			damage += hash.Sum32()
		},
	})
	if err != nil {
		return err
	}
	defer r.Close()
	l.damage.tornTails = r.TornTails
	g := &r.Ledger
	l.begins(r, damage)
	g.Boot++
	g.EnsureKey()
	g.Clock.Begin(time.Now(), g.Latest, g.Pending > 0)
	if r.Newest+1 == segment.MaxNumber {
		return &FolderError{Dir: l.folder.dir, Fix: "remove that file, it does not belong to this log",
			Err: fmt.Errorf("%s has the highest possible segment number", segment.Name(l.folder.dir, r.Newest))}
	}
	if g.Pending == 0 && len(g.DeadLetters.List) == 0 && l.o.Retention.MaxReceipts == 0 {
		r.RemoveAll()
	}
	next, h, records, err := r.Carry(l.o.Files.SegmentBytes/16, int64(l.o.Files.BufferBytes))
	if err != nil {
		return err
	}
	if l.folder.renewal.Copied() {
		records = r.Disown(records)
	}
	l.state = state{o: &l.o, room: l.o.room(!l.inline), ledger: *g, catalog: r.Catalog}
	l.waste = waste{garbage: r.Garbage, receipts: r.Receipts}
	l.writer = l.newWriter(r.Newest)
	first := &opening{next: next, header: h, records: records, checkpoint: l.state.ledger.AppendCheckpoint(nil, h.Prev), found: len(r.Files) > 0}
	err = first.begin(l)
	refused := err != nil
	if !refused {
		next.Number, next.Size = l.writer.Number, l.writer.End
		err = l.fence(false)
		next.Size = l.writer.End
	}
	if err != nil && !mayPass(err, r) {
		return err
	}
	l.nextBatch()
	switch {
	case refused:
		first.later(l, err)
	case err != nil: // it is unknown whether the end of the segment was written
		l.folder.reserve.full, l.pipe.dry = err, true
	}
	for _, s := range l.state.catalog.Segments {
		l.waste.size += s.Size
	}
	// A crash may have happened after a dead letter was added, and before the oldest one was
	// discarded.
	l.state.boundDeadLetters(l.pipe.open)
	r.Close() // some systems cannot remove open files
	l.removeDone()
	return nil
}

// begins decides whether the epoch continues, and records which process writes to the log from now
// on. damage is a hash of the damaged places. If the last opening found the same damaged places,
// they are not new.
func (l *Log) begins(r *recovery.State, damage uint32) {
	g, host, now := &r.Ledger, fsys.HostOf(l.o.FS), time.Now().UnixMilli()
	if l.folder.renewal != declared {
		l.folder.renewal = Renewal(r.Renewal(host, now))
	}
	if g.Epoch == 0 || l.folder.renewal != Continued {
		g.Epoch = ledger.NextEpoch(now, g.Epoch)
	}
	g.SentLost = g.SentLost || l.folder.renewal == Damaged || l.folder.renewal == TailLost || damage != 0 && damage != g.Damage
	g.Damage = damage
	if host.Machine == 0 {
		host.Machine = g.Writer.Machine // keep the last known machine, to compare it in later openings
	}
	g.Writer = ledger.Writer{Known: true, Lossy: !l.inline && l.o.Sync != SyncEveryCommit, Boot: host.Boot, Machine: host.Machine}
}

func (l *Log) newWriter(last uint64) *segment.Writer {
	w := &segment.Writer{FS: l.o.FS, Dir: l.folder.dir, Epoch: l.state.ledger.Epoch, Last: last, SegmentBytes: l.o.Files.SegmentBytes, Stats: &l.stats}
	if !l.inline { // a folder in memory needs no lock
		w.Lock = l.folder.lock
	}
	switch l.o.Sync {
	case SyncEveryCommit:
		w.Preallocate = int64(l.o.Files.PreallocateBytes)
	case SyncInterval: // the tail keeps at most this many bytes, in case they have to be written again
		w.MaxUnsynced = int64(l.o.Files.BufferBytes)
	default:
		w.MaxUnsynced = math.MaxInt64
	}
	return w
}

// folderError converts an error of the opening of a folder to an error that contains advice.
func folderError(dir string, err error) error {
	var version *segment.VersionError
	if errors.As(err, &version) {
		return &VersionError{File: version.File, Version: version.Version}
	}
	var folder *FolderError
	if errors.As(err, &folder) {
		return err
	}
	return &FolderError{Dir: dir, Fix: fsys.Remedy(err) + ", then open it again", Err: err}
}
