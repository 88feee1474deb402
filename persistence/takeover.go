package persistence

import (
	"io"
	"slices"
)

// takeOverFrom returns where in the last segment the part begins that is to be
// written again, to the new one; 0: nowhere. It is
//   - all of a small segment, so that many restarts do not make many files;
//   - of a larger one what no fence vouches for. The process that wrote it may
//     have ended because its fsync failed, and then the system shows data that it
//     will never write, and reports success for the next fsync.
func (r *recovery) takeOverFrom(last *segment) int64 {
	small := r.log.o.Files.SegmentBytes / 16
	if r.last.broken || last.end() != r.ledger.next || slices.ContainsFunc(last.locs, func(at loc) bool { return at.off == 0 }) {
		return 0
	}
	if last.size <= small {
		return headerSize
	}
	// Without a fence, nothing vouches for its opening either.
	if from := max(r.last.fence, headerSize); last.size-from <= max(small, 4*int64(r.log.o.Files.BufferBytes)) {
		return from
	}
	return 0 // under SyncNever fences are rare
}

// takeOver returns the records of the last segment from there on, without the
// checkpoints, for the opening of the next one, and moves their messages there.
func (r *recovery) takeOver(last *segment, from int64, next *segment) ([]byte, error) {
	data := make([]byte, last.size-from)
	if n, err := r.last.file.ReadAt(data, from); err != nil && (err != io.EOF || n < len(data)) {
		return nil, err
	}
	tail := last.cut(from)
	next.first = tail.first
	n := 0 // messages of tail that are in next
	records := make([]byte, 0, len(data))
	var rec record
	for off := from; off < last.size; off += int64(rec.size) {
		b := data[off-from:]
		if err := rec.decode(b); err != nil {
			return nil, err
		}
		if le32(b) != checksum(last.number, off, b[checksumSize:rec.size]) {
			return nil, errRecord // it was valid a moment ago
		}
		if rec.kind == kindCheckpoint || rec.kind == kindCheckpoint1 {
			continue
		}
		to := uint32(headerSize + len(records))
		if n < len(tail.locs) && int64(tail.locs[n].off) == off {
			tail.locs[n].off = to
			n++
		}
		if rec.message.moved {
			r.rehome(rec.seq, last, off, next, to)
		}
		records = append(records, b[:rec.size]...)
	}
	next.addFrom(&tail, 0, 0)
	return records, nil
}
