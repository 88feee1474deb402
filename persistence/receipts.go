package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// receipts are the outcomes of messages whose segment is gone. When a segment is
// removed, what became of its messages is written to a file of its own first, so
// an acknowledgement costs no more than its record in the log. Files go in the
// order they came.
type receipts struct {
	files []receiptFile // oldest first
	total uint64
}

type receiptFile struct {
	segment uint64 // whose messages they are
	count   uint64
	newest  int64 // when the last of them ended
}

// A receipts file has a header
//
//	 0  magic     8 bytes
//	 8  version   2
//	10  zero      2
//	12  segment   8
//	20  count     8
//	28  newest    8
//	36  zero      24
//	60  checksum  4   CRC-32C of the bytes before
//
// and then, sorted by ID and sequence, for each message
//
//	 0  ID        16
//	16  sequence  8
//	24  outcome   1
//	25  reason    1
//	26  when      6   Unix milliseconds
//	32  checksum  4   CRC-32C of the bytes before
const (
	receiptSuffix = ".mrcp"
	receiptSize   = 36
)

var receiptMagic = [8]byte{'M', 'O', 'O', 'R', 'R', 'C', 'P', 0}

var errReceipt = errors.New("not a valid receipt")

// extra is what an index keeps beside, where receipts are asked for.
type extra struct {
	print   uint32 // of the ID, to find it by
	outcome Outcome
	at      int64
}

func fingerprint(id *[16]byte) uint32 { return crc32.Checksum(id[:], castagnoli) }

func receiptName(dir string, segment uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", segment, receiptSuffix))
}

type receipt struct {
	id  [16]byte
	seq uint64
	extra
}

func (r *receipt) append(b []byte) []byte {
	start := len(b)
	b = append(b, r.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, r.seq)
	b = append(b, byte(r.outcome.Kind), r.outcome.Reason)
	at := binary.LittleEndian.AppendUint64(nil, uint64(r.at))
	b = append(b, at[:6]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func (r *receipt) decode(b []byte) error {
	if len(b) < receiptSize || le32(b[32:]) != crc32.Checksum(b[:32], castagnoli) {
		return errReceipt
	}
	*r = receipt{id: [16]byte(b), seq: binary.LittleEndian.Uint64(b[16:])}
	r.outcome = Outcome{Kind: OutcomeKind(b[24]), Reason: b[25]}
	r.at = int64(binary.LittleEndian.Uint64(append(slices.Clone(b[26:32]), 0, 0)))
	if r.outcome.Kind < Acked || r.outcome.Kind > DeadLettered || r.seq == 0 || r.seq > maxSequence {
		return errReceipt
	}
	return nil
}

func (f *receiptFile) header() []byte {
	b := append(make([]byte, 0, headerSize), receiptMagic[:]...)
	b = binary.LittleEndian.AppendUint16(b, FormatVersion)
	b = append(b, 0, 0)
	for _, v := range []uint64{f.segment, f.count, uint64(f.newest), 0, 0, 0} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseReceiptHeader takes a file of size bytes that begins with b.
func parseReceiptHeader(b []byte, size int64) (f receiptFile, err error) {
	if len(b) < headerSize || [8]byte(b) != receiptMagic || le32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return f, errReceipt
	}
	u := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	f = receiptFile{segment: u(12), count: u(20), newest: int64(u(28))}
	if v := binary.LittleEndian.Uint16(b[8:]); v > FormatVersion {
		return f, &VersionError{Version: v}
	}
	if f.count > uint64(size) || int64(f.count)*receiptSize+headerSize != size {
		return f, errReceipt
	}
	return f, nil
}

// loadReceipts reads which files there are. One whose segment is still in use is
// removed: it was not finished, or will be made again. So is one that is not
// readable, after a copy was kept, and, where no receipts are wanted, each.
func (l *Log) loadReceipts() error {
	names, err := l.o.FS.ReadDir(l.dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		hex, ours := strings.CutSuffix(name, receiptSuffix)
		number := parseSegmentName(hex + segmentSuffix)
		if !ours || number == 0 {
			continue
		}
		path := filepath.Join(l.dir, name)
		inUse := slices.ContainsFunc(l.segments, func(s *segment) bool { return s.number == number })
		f, err := l.readReceiptHeader(path, number, inUse)
		var version *VersionError
		if errors.As(err, &version) {
			version.File = path
			return version
		}
		switch {
		case err != nil && !errors.Is(err, errReceipt):
			return err
		case err != nil || inUse || l.o.MaxReceipts == 0:
			l.garbage = append(l.garbage, path)
		default:
			l.receipts.files = append(l.receipts.files, f)
			l.receipts.total += f.count
		}
	}
	return nil
}

// readReceiptHeader returns errReceipt, and keeps a copy, when it is not valid and
// was once.
func (l *Log) readReceiptHeader(path string, number uint64, inUse bool) (receiptFile, error) {
	file, err := l.o.FS.Open(path)
	if err != nil {
		return receiptFile{}, err
	}
	defer file.Close()
	size, err := file.Size()
	if err != nil {
		return receiptFile{}, err
	}
	b := make([]byte, headerSize)
	n, err := file.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return receiptFile{}, err
	}
	f, err := parseReceiptHeader(b[:n], size)
	if err == nil && f.segment != number {
		err = errReceipt
	}
	if err == errReceipt && !inUse {
		l.report(Corruption{File: path, Length: size, Copy: l.keepCopy(file, path), Err: err})
	}
	return f, err
}

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
	case err == errNoRoom || l.diskSize > l.o.MaxDiskBytes/2:
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

func collectReceipts(file File, s *segment, ended map[uint64]extra) (list []receipt, err error) {
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
		if r.total-oldest.count < uint64(l.o.MaxReceipts) && oldest.newest >= l.receiptLimit() {
			break
		}
		l.garbage = append(l.garbage, receiptName(l.dir, oldest.segment))
		r.files = r.files[1:]
		r.total -= oldest.count
	}
}

// receiptLimit is the time before which receipts are given up.
func (l *Log) receiptLimit() int64 { return l.ledger.clock.now() - l.o.ReceiptAge.Milliseconds() }

// Receipt implements [Store].
func (l *Log) Receipt(id [16]byte) (Receipt, bool, error) {
	l.mu.Lock()
	err := l.usable()
	if err != nil || l.o.MaxReceipts == 0 {
		l.mu.Unlock()
		return Receipt{}, false, err
	}
	if len(l.cur.locs) > 0 || len(l.flight) > 0 {
		if err := l.flush(); err != nil {
			l.mu.Unlock()
			return Receipt{}, false, err
		}
	}
	candidates := l.candidates(fingerprint(&id))
	l.mu.Unlock()
	for _, seq := range candidates {
		if r, ok, err := l.receiptFromLog(seq, id); ok || err != nil {
			return r, ok, err
		}
	}
	l.mu.Lock()
	files := slices.Clone(l.receipts.files) // what became of messages that are not in the log any more
	l.mu.Unlock()
	for _, f := range slices.Backward(files) {
		r, ok, err := l.receiptFromFile(f, id)
		if errors.Is(err, fs.ErrNotExist) || l.inline && errors.Is(err, io.ErrUnexpectedEOF) {
			continue // given up meanwhile
		}
		if ok && !r.At.IsZero() && r.At.UnixMilli() < l.receiptLimit() {
			return Receipt{}, false, nil
		}
		if ok || err != nil {
			return r, ok, err
		}
	}
	return Receipt{}, false, nil
}

// candidates returns the messages in the segments whose ID has that fingerprint,
// the newest first.
func (l *Log) candidates(print uint32) (seqs []uint64) {
	for _, s := range l.segments {
		for i := range s.extras {
			if s.extras[i].print == print && s.states[i]&stateMask != stateMoved {
				seqs = append(seqs, s.first+uint64(i))
			}
		}
	}
	for i := range l.moved {
		if m := &l.moved[i]; m.seg != nil && m.extra.print == print {
			seqs = append(seqs, m.seq)
		}
	}
	slices.Sort(seqs)
	slices.Reverse(seqs)
	return seqs
}

func (l *Log) receiptFromLog(seq uint64, id [16]byte) (Receipt, bool, error) {
	f := &l.reading
	f.mu.Lock()
	defer f.mu.Unlock()
	l.mu.Lock()
	r := l.catalog.find(seq)
	if err := l.usable(); err != nil || !r.ok() || r.state() == stateLost {
		l.mu.Unlock()
		return Receipt{}, false, err
	}
	s := l.holder(seq, r)
	at, number, limit, e := r.loc(), s.number, s.size, *r.extra()
	l.mu.Unlock()
	b, err := f.record(number, int64(at.off), limit)
	var rec record
	if err == nil {
		err = rec.decode(b)
	}
	if damaged(err) || errors.Is(err, fs.ErrNotExist) { // damaged, or removed meanwhile
		return Receipt{}, false, nil
	}
	if err != nil {
		return Receipt{}, false, &ReadError{Seq: seq, Err: err}
	}
	return e.receipt(seq), rec.message.id == id, nil
}

func (e *extra) receipt(seq uint64) Receipt {
	r := Receipt{Seq: seq, Outcome: e.outcome}
	if e.at > 0 {
		r.At = fromMillis(e.at)
	}
	return r
}

// receiptFromFile finds the newest message with an ID in a file.
func (l *Log) receiptFromFile(f receiptFile, id [16]byte) (Receipt, bool, error) {
	file, err := l.o.FS.Open(receiptName(l.dir, f.segment))
	if err != nil {
		return Receipt{}, false, err
	}
	defer file.Close()
	w := window{f: file, limit: headerSize + int64(f.count)*receiptSize, chunk: pageSize}
	read := func(i int64, r *receipt) error {
		b, err := w.view(headerSize+i*receiptSize, receiptSize)
		if err != nil {
			return err
		}
		return r.decode(b)
	}
	// The last one that is not above the ID and any sequence.
	want := receipt{id: id, seq: maxSequence}
	var r, found receipt
	lo, hi := int64(0), int64(f.count)
	for lo < hi && err == nil {
		mid := (lo + hi) / 2
		if err = read(mid, &r); err != nil {
			break
		}
		if compareReceipts(&r, &want) <= 0 {
			lo, found = mid+1, r
		} else {
			hi = mid
		}
	}
	if errors.Is(err, errReceipt) { // damaged: look at each
		l.report(Corruption{File: receiptName(l.dir, f.segment), Offset: headerSize + (lo+hi)/2*receiptSize, Length: receiptSize, Err: err})
		found, err = receipt{}, nil
		for i := int64(0); i < int64(f.count); i++ {
			if read(i, &r) == nil && r.id == id {
				found = r
			}
		}
	}
	if err != nil || found.seq == 0 || found.id != id {
		return Receipt{}, false, err
	}
	return found.extra.receipt(found.seq), true, nil
}
