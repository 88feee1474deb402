package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"
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
	outcome Result
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
	r.outcome = Result{Kind: ResultKind(b[24]), Reason: b[25]}
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
		case err != nil || inUse || l.o.Retention.MaxReceipts == 0:
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
