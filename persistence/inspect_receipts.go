package persistence

import (
	"errors"
	"io/fs"
)

// setReceipts lists the receipts and looks at each: an opening leaves that to the
// moment when one is asked for.
func (in *Inspection) setReceipts(l *Log) error {
	for _, f := range l.receipts.files {
		name := receiptName(in.Dir, f.segment)
		in.Receipts = append(in.Receipts, ReceiptsFile{
			Segment: f.segment, File: name, Size: headerSize + int64(f.count)*receiptSize,
			Count: f.count, Newest: fromMillis(f.newest),
		})
		err := in.scanReceipts(f.segment, f.count, func(*receipt) bool { return true }, func(off int64) {
			l.report(Corruption{File: name, Offset: off, Length: receiptSize, Err: errReceipt})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// EachReceipt calls yield for each outcome in the receipts files, the oldest file
// first and by message ID within one, until it returns false. The outcomes of
// messages that segments still hold are not among them, see Messages. Errors:
// those of the disk, [ErrClosed].
func (in *Inspection) EachReceipt(yield func(id [16]byte, r Receipt) bool) error {
	more := true
	for _, f := range in.Receipts {
		err := in.scanReceipts(f.Segment, f.Count, func(r *receipt) bool {
			more = yield(r.id, r.extra.receipt(r.seq))
			return more
		}, func(int64) {})
		if errors.Is(err, fs.ErrClosed) {
			return ErrClosed
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (in *Inspection) scanReceipts(segment, count uint64, each func(*receipt) bool, damaged func(off int64)) error {
	file, err := in.files.Open(receiptName(in.Dir, segment))
	if err != nil {
		return err
	}
	end := headerSize + int64(count)*receiptSize
	w := window{f: file, limit: end, chunk: 256 << 10}
	var r receipt
	for off := int64(headerSize); off < end; off += receiptSize {
		b, err := w.view(off, receiptSize)
		if err != nil {
			return err
		}
		if r.decode(b) != nil {
			damaged(off)
		} else if !each(&r) {
			break
		}
	}
	return nil
}
