// Package receipts keeps the results of messages whose segment was removed. The results are written
// to a file before the segment is removed, so an acknowledgement costs no more than its record in
// the log. The oldest files are removed first.
package receipts

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Receipt is the result of a message:
//
//	 0  ID        16
//	16  sequence  8
//	24  result    1
//	25  reason    1
//	26  at        6   Unix milliseconds
//	32  checksum  4   CRC-32C of the bytes before
type Receipt struct {
	ID     [16]byte
	Seq    uint64
	Result record.Result
	At     int64
}

// File describes a file of receipts. Its header contains the three fields. The receipts follow,
// sorted by ID and sequence.
type File struct {
	Segment uint64 // the segment that contained the messages
	Count   uint64
	Newest  int64 // time of the last result
}

const (
	Suffix = ".mrcp" // suffix of the file names
	Size   = 36      // size of a receipt, in bytes
)

var magic = [8]byte{'M', 'O', 'O', 'R', 'R', 'C', 'P', 0}

// ErrInvalid is returned for bytes that are not a receipt or a header.
var ErrInvalid = errors.New("not a valid receipt")

// Name returns the path of the file with the receipts of a segment.
func Name(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, Suffix))
}

// ParseName returns the segment number in the name of a receipts file, and 0 for any other file.
func ParseName(name string) uint64 {
	if hex, ok := strings.CutSuffix(name, Suffix); ok {
		return segment.ParseName(hex + segment.Suffix)
	}
	return 0
}

// Bytes returns the size of the file.
func (f File) Bytes() int64 { return segment.HeaderSize + int64(f.Count)*Size }

func (r *Receipt) append(b []byte) []byte {
	start := len(b)
	b = append(b, r.ID[:]...)
	b = binary.LittleEndian.AppendUint64(b, r.Seq)
	b = append(b, r.Result.Kind, r.Result.Reason)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.At))[:start+Size-4]
	return binary.LittleEndian.AppendUint32(b, record.CRC(b[start:]))
}

// read reads receipt i of a file.
func (r *Receipt) read(w *segment.Window, i int64) error {
	b, err := w.View(segment.HeaderSize+i*Size, Size)
	if err != nil {
		return err
	}
	if len(b) < Size || binary.LittleEndian.Uint32(b[32:]) != record.CRC(b[:32]) {
		return ErrInvalid
	}
	*r = Receipt{ID: [16]byte(b), Seq: binary.LittleEndian.Uint64(b[16:]), Result: record.Result{Kind: b[24], Reason: b[25]}}
	r.At = int64(binary.LittleEndian.Uint64(b[26:]) & (1<<48 - 1))
	if !record.IsResult(r.Result.Kind) || r.Seq == 0 || r.Seq > record.MaxSequence {
		return ErrInvalid
	}
	return nil
}

func (r *Receipt) compare(b *Receipt) int {
	return cmp.Or(bytes.Compare(r.ID[:], b.ID[:]), cmp.Compare(r.Seq, b.Seq))
}

// Encode sorts the receipts of a segment. It returns the description and the content of their file.
func Encode(number uint64, list []Receipt) (File, []byte) {
	slices.SortFunc(list, func(a, b Receipt) int { return a.compare(&b) })
	f := File{Segment: number, Count: uint64(len(list))}
	buf := make([]byte, segment.HeaderSize, f.Bytes())
	for i := range list {
		f.Newest = max(f.Newest, list[i].At)
		buf = list[i].append(buf)
	}
	segment.AppendHeader(buf[:0], magic, [6]uint64{f.Segment, f.Count, uint64(f.Newest)})
	return f, buf
}
