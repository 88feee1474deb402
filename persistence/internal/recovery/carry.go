package recovery

import (
	"io"
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Carry returns the segment with which the log continues, its header with First and Prev, and the
// records at its beginning. These records are the part of the last segment that must be written
// again, see carryFrom. Carry changes the state.
func (s *State) Carry(small, buffer int64) (next *index.Segment, h segment.Header, records []byte, err error) {
	next = &index.Segment{Number: s.Newest + 1, Index: index.Index{First: s.Ledger.Next, Keep: s.c.Receipts}}
	if n := len(s.Catalog.Segments); n > 0 {
		last := s.Catalog.Segments[n-1]
		h.Prev = segment.Link{Number: last.Number, Size: last.Size}
		if from := s.carryFrom(last, small, buffer); from > 0 {
			if records, err = s.carry(last, from, next); err != nil {
				return nil, h, nil, err
			}
			last.Size, h.Prev.Size = from, from
			if from == segment.HeaderSize {
				s.Garbage = append(s.Garbage, s.name(last.Number))
				h.Prev = s.last.header.Prev
				s.Catalog.Segments = s.Catalog.Segments[:n-1]
			}
		}
	}
	s.Catalog.Segments = append(s.Catalog.Segments, next)
	h.First = next.First
	return next, h, records, nil
}

// carryFrom returns the offset of the part of the last segment that is written again to the new
// segment, or 0 if no part is. It is
//   - all of a small segment, so that many restarts do not create many files;
//   - of a larger segment, the part after the last fence. The process that wrote it may have ended
//     because its fsync failed. The system then returns data that it will never write, and reports
//     success for the next fsync.
func (s *State) carryFrom(last *index.Segment, small, buffer int64) int64 {
	lost := slices.ContainsFunc(last.Locs, func(at index.Loc) bool { return at.Off == 0 })
	if s.last.reported || lost || last.End() != s.Ledger.Next {
		return 0
	}
	if last.Size <= small {
		return segment.HeaderSize
	}
	// Without a fence, it is not certain that the opening was synced either.
	if from := max(s.last.fence, segment.HeaderSize); last.Size-from <= max(small, 4*buffer) {
		return from
	}
	return 0 // under SyncNever, fences are rare
}

// carry returns the records of the last segment from the offset from on, without checkpoints, for the
// opening of the next segment. It moves their messages there.
func (s *State) carry(last *index.Segment, from int64, next *index.Segment) ([]byte, error) {
	file, err := s.open(s.last)
	if err != nil {
		return nil, err
	}
	data := make([]byte, last.Size-from)
	if n, err := file.ReadAt(data, from); err != nil && (err != io.EOF || n < len(data)) {
		return nil, err
	}
	tail := last.Cut(from)
	next.First = tail.First
	n := 0 // messages of tail that are in next
	records := make([]byte, 0, len(data))
	var r record.Record
	for off := from; off < last.Size; off += int64(r.Size) {
		b := data[off-from:]
		if r.Decode(b) != nil || !record.Valid(b[:r.Size], last.Number, off) {
			return nil, record.ErrInvalid // the file has changed since it was read
		}
		if r.Kind == record.KindCheckpoint {
			continue
		}
		to := uint32(segment.HeaderSize + len(records))
		if n < len(tail.Locs) && int64(tail.Locs[n].Off) == off {
			tail.Locs[n].Off = to
			n++
		}
		if r.Moved {
			s.Catalog.Rehome(r.Seq, last, off, next, to)
		}
		records = append(records, b[:r.Size]...)
	}
	next.AddAll(&tail, 0)
	return records, nil
}
