package persistence

import (
	"errors"
	"io"
	"io/fs"
	"slices"
)

// Receipt implements [Receipts].
func (l *Log) Receipt(id [16]byte) (Receipt, bool, error) {
	l.mu.Lock()
	err := l.usable()
	if err != nil || l.o.Retention.MaxReceipts == 0 {
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
	r := Receipt{Seq: seq, Result: e.outcome}
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
