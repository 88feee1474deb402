package persistence

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// keepReceipts writes what became of the messages of a segment that is about to
// be removed. It is entered and left with mu held. All its messages are done, so
// nothing of what it reads meanwhile changes. It reports whether the segment may
// go: also when there is no room for its receipts, which are lost then.
func (l *Log) keepReceipts(s *segment) bool {
	if n := len(l.receipts.files); n > 0 && l.receipts.files[n-1].segment == s.number {
		return true // done, but the segment could not be removed
	}
	ended := map[uint64]extra{}
	for _, m := range l.moved {
		if m.seg == s {
			ended[m.seq] = m.extra
		}
	}
	l.pause()
	f, err := l.makeReceipts(s, ended)
	l.resume()
	switch {
	case err == nil && f.count > 0:
		l.addReceipts(f)
	case err == nil || errors.Is(err, fs.ErrNotExist): // there are none, or the segment is gone already
	case err == errNoRoom || l.diskSize > l.o.Limits.MaxDiskBytes/2:
		l.receiptsLost += uint64(s.ended())
	default:
		return false
	}
	return true
}

func (l *Log) makeReceipts(s *segment, ended map[uint64]extra) (f receiptFile, err error) {
	file, err := l.o.FS.Open(segmentName(l.dir, s.number))
	if err != nil {
		return f, err
	}
	list, err := collectReceipts(file, s, ended)
	if err = errors.Join(err, file.Close()); err != nil || len(list) == 0 {
		return f, err
	}
	f = receiptFile{segment: s.number, count: uint64(len(list))}
	slices.SortFunc(list, func(a, b receipt) int { return compareReceipts(&a, &b) })
	buf := make([]byte, headerSize, headerSize+receiptSize*len(list))
	for i := range list {
		f.newest = max(f.newest, list[i].at)
		buf = list[i].append(buf)
	}
	copy(buf, f.header())
	return f, l.writeReceipts(f, buf)
}

func compareReceipts(a, b *receipt) int {
	if c := slices.Compare(a.id[:], b.id[:]); c != 0 {
		return c
	}
	switch {
	case a.seq < b.seq:
		return -1
	case a.seq > b.seq:
		return 1
	}
	return 0
}

func collectReceipts(file fsys.File, s *segment, ended map[uint64]extra) (list []receipt, err error) {
	list = make([]receipt, 0, len(s.extras)+len(ended))
	scan := &scanner{window: window{f: file, limit: s.size, chunk: 256 << 10}, number: s.number}
	_, _, err = scan.scan(headerSize, true, func(_ int64, rec *record) bool {
		if rec.kind != kindMessage {
			return true
		}
		e, ok := extra{}, false
		if rec.message.moved {
			e, ok = ended[rec.seq]
		} else if rec.seq >= s.first && rec.seq < s.end() && s.states[rec.seq-s.first]&stateMask == stateDone {
			e, ok = s.extras[rec.seq-s.first], true
		}
		if ok && e.outcome.Kind != 0 {
			list = append(list, receipt{rec.message.id, rec.seq, e})
		}
		return true
	}, func(int64, int64) {})
	return list, err
}

// writeReceipts makes the file durable.
func (l *Log) writeReceipts(f receiptFile, buf []byte) error {
	path := receiptName(l.dir, f.segment)
	file, err := l.o.FS.Create(path)
	if errors.Is(err, fs.ErrExist) { // of an attempt that failed
		if err = l.o.FS.Remove(path); err == nil {
			file, err = l.o.FS.Create(path)
		}
	}
	if err != nil {
		return noRoom(err)
	}
	if err = l.put(file, buf, 0); err == nil {
		l.wear.add(0, int64(len(buf)), l.ledger.clock.now())
		l.syncs.Add(1)
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		_ = l.o.FS.Remove(path) // without its segment it would look damaged
		_ = l.o.FS.SyncDir(l.dir)
		return noRoom(err)
	}
	return l.o.FS.SyncDir(l.dir)
}

// errNoRoom: a file cannot be made because the disk is full.
var errNoRoom = errors.New("no room for the receipts")

func noRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return errNoRoom
	}
	return err
}

// addReceipts enters a new file and gives up the oldest ones.
func (l *Log) addReceipts(f receiptFile) {
	r := &l.receipts
	r.files = append(r.files, f)
	r.total += f.count
	for len(r.files) > 1 {
		oldest := r.files[0]
		if r.total-oldest.count < uint64(l.o.Retention.MaxReceipts) && oldest.newest >= l.receiptLimit() {
			break
		}
		l.garbage = append(l.garbage, receiptName(l.dir, oldest.segment))
		r.files = r.files[1:]
		r.total -= oldest.count
	}
}

// receiptLimit is the time before which receipts are given up.
func (l *Log) receiptLimit() int64 {
	return l.ledger.clock.now() - l.o.Retention.ReceiptAge.Milliseconds()
}
