package persistence

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

func (l *Log) Receipt(id [16]byte) (Receipt, bool, error) {
	l.mu.Lock()
	err := l.usable()
	if err == nil && (len(l.pipe.open.Locs) > 0 || len(l.pipe.flight) > 0) {
		ctx, stop := context.WithCancel(context.Background()) // WriteTimeout applies
		err = l.flush(ctx)
		stop()
	}
	if err != nil {
		l.mu.Unlock()
		return Receipt{}, false, err
	}
	candidates := l.state.catalog.ByPrint(index.Print(&id))
	l.mu.Unlock()
	for _, seq := range candidates {
		if r, ok, err := l.receiptFromLog(seq, id); ok || err != nil {
			return r, ok, err
		}
	}
	l.mu.Lock()
	files := slices.Clone(l.waste.receipts.Files) // results of messages whose segment was removed
	l.mu.Unlock()
	for _, f := range slices.Backward(files) {
		r, ok, err := f.Find(l.o.FS, l.folder.dir, id, func(off int64) {
			l.report(Corruption{File: receipts.Name(l.folder.dir, f.Segment), Offset: off, Length: receipts.Size, Err: receipts.ErrInvalid})
		})
		switch {
		case errors.Is(err, fs.ErrNotExist) || l.inline && errors.Is(err, io.ErrUnexpectedEOF): // removed meanwhile
		case err != nil:
			return Receipt{}, false, err
		case ok && r.At > 0 && r.At < l.receiptLimit():
			return Receipt{}, false, nil
		case ok:
			return receipt(r.Seq, r.Result, r.At), true, nil
		}
	}
	return Receipt{}, false, nil
}

func receipt(seq uint64, r record.Result, at int64) Receipt {
	x := Receipt{Seq: seq, Result: Result{ResultKind(r.Kind), r.Reason}}
	if at > 0 {
		x.At = record.Time(at)
	}
	return x
}

// mostReceipts returns how many receipts the log keeps.
func mostReceipts(l *Log) uint64 {
	return uint64(min(int64(l.o.Retention.MaxReceipts), max(l.o.Limits.MaxDiskBytes/4/receipts.Size, 1)))
}

// receiptLimit returns the time before which receipts are too old, in milliseconds.
func (l *Log) receiptLimit() int64 {
	return l.state.ledger.Clock.Now() - l.o.Retention.ReceiptAge.Milliseconds()
}

func (l *Log) receiptFromLog(seq uint64, id [16]byte) (Receipt, bool, error) {
	l.reader.Lock()
	defer l.reader.Unlock()
	l.mu.Lock()
	err, at := l.usable(), l.locate(seq)
	if err != nil || at.seq == 0 || at.lost || !l.state.keepsReceipts() && !l.state.alive(seq) {
		l.mu.Unlock()
		return Receipt{}, false, err
	}
	var e index.Extra
	if l.state.keepsReceipts() {
		e = *l.state.catalog.Committed(seq).Extra()
	}
	var kept Entry
	if l.folder.opening != nil && l.fromMemory(at, &kept) { // the message is not in a file yet
		l.mu.Unlock()
		x := receipt(seq, e.Result, e.At)
		x.Deferral = at.deferral
		return x, kept.ID == id, nil
	}
	l.mu.Unlock()
	var r record.Record
	err = l.reader.Message(&r, at.segment, seq, int64(at.loc.Off), at.size)
	if segment.Damaged(err) || errors.Is(err, fs.ErrNotExist) { // damaged, or removed meanwhile
		return Receipt{}, false, nil
	}
	if err != nil {
		return Receipt{}, false, &ReadError{Seq: seq, Err: err}
	}
	x := receipt(seq, e.Result, e.At)
	x.Deferral = at.deferral
	return x, r.MessageID == id, nil
}

// keepReceipts writes the results of the messages of a segment that is about to be removed. It
// reports whether the segment may be removed. If the disk has no space for the receipts,
// keepReceipts also returns true, and the receipts are lost. The caller holds mu, and keepReceipts
// releases mu for some time. The results do not change during this time, because all messages of
// the segment have ended.
func (l *Log) keepReceipts(s *index.Segment) bool {
	w := &l.waste
	if w.receipts.Has(s.Number) {
		return true // written by an earlier attempt to remove the segment
	}
	result := l.state.catalog.Results(s)
	l.pause()
	f, err := l.writeReceipts(s, result)
	l.resume()
	switch {
	case err == nil && f.Count > 0:
		w.receipts.Add(f)
		for _, number := range w.receipts.Trim(mostReceipts(l), l.receiptLimit()) {
			w.garbage = append(w.garbage, receipts.Name(l.folder.dir, number))
		}
	case err == nil || errors.Is(err, fs.ErrNotExist): // no receipts to write, or the segment was removed already
	case err == errNoRoom || w.size > l.o.Limits.MaxDiskBytes/2:
		l.state.stats.ReceiptsLost += uint64(s.Ended())
	default:
		return false
	}
	return true
}

// errNoRoom is returned by writeReceipts if the disk is full.
var errNoRoom = errors.New("no room for the receipts")

// writeReceipts makes the receipts of a segment durable.
func (l *Log) writeReceipts(s *index.Segment, result func(seq uint64, movedHere bool) (index.Extra, bool)) (f receipts.File, err error) {
	fsys, dir := l.o.FS, l.folder.dir
	file, err := fsys.Open(segment.Name(dir, s.Number))
	if err != nil {
		return f, err
	}
	list, err := receipts.Collect(file, s.Number, s.Size, result)
	if err = errors.Join(err, file.Close()); err != nil || len(list) == 0 {
		return f, err
	}
	f, content := receipts.Encode(s.Number, list)
	path := receipts.Name(dir, s.Number)
	err = l.stats.WriteFile(fsys, path, content)
	if errors.Is(err, fs.ErrExist) { // left by a failed attempt
		if err = fsys.Remove(path); err == nil {
			err = l.stats.WriteFile(fsys, path, content)
		}
	}
	if err != nil {
		_ = fsys.Remove(path) // a file without its segment would count as damage
		_ = fsys.SyncDir(dir)
		if errors.Is(err, syscall.ENOSPC) {
			err = errNoRoom
		}
		return f, err
	}
	return f, fsys.SyncDir(dir)
}
