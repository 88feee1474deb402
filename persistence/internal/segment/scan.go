package segment

import (
	"slices"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Scanner reads the records of one segment. After damage it searches for the next valid record.
type Scanner struct {
	Window
	Number    uint64
	Most      uint64 // no sequence in the segment is higher; 0: unknown
	fence     int64  // offset of a known fence
	searching bool   // at is called for each byte
	wasted    int64  // bytes whose checksum was wrong while searching
}

// During a search, each byte of a payload can look like the beginning of a long record. The search
// counts the bytes of records whose checksum was wrong. When they exceed maxWasted times the size
// of the segment, the search considers only short records.
const (
	maxWasted   = 64
	shortRecord = 64
)

// at decodes the record at off. It returns false if there is no valid record.
func (s *Scanner) at(off int64, r *record.Record) (bool, error) {
	b, err := s.View(off, record.MaxPrefix)
	if err != nil {
		return false, err
	}
	size, ok := record.ParseTag(b)
	if !ok || off+int64(size) > s.Limit || s.searching && size > shortRecord && s.wasted > maxWasted*s.Limit {
		return false, nil
	}
	if s.Most > 0 { // avoids computing checksums over long ranges during a search
		if seq, ok := record.Sequence(b); !ok || seq > s.Most {
			return false, nil
		}
	}
	if b, err = s.View(off, size); err != nil {
		return false, err
	}
	if record.Valid(b, s.Number, off) {
		return r.Decode(b) == nil, nil
	}
	if s.searching {
		s.wasted += int64(size)
	}
	return false, nil
}

// resync returns the offset of the first valid record at or after off, or the limit.
func (s *Scanner) resync(off int64, r *record.Record) (int64, error) {
	s.searching = true
	defer func() { s.searching = false }()
	for ; off < s.Limit; off++ {
		if ok, err := s.at(off, r); ok || err != nil {
			return off, err
		}
	}
	return s.Limit, nil
}

// Fenced reports whether a fence after off proves that the bytes at off were synced.
func (s *Scanner) Fenced(off int64) (bool, error) {
	var r record.Record
	for at := off; s.fence <= off; at += int64(r.Size) {
		var err error
		if at, err = s.resync(at, &r); err != nil || at == s.Limit {
			return false, err
		}
		if r.Fence && at > off {
			s.fence = at
		}
	}
	return true, nil
}

// Blank reports whether all bytes from off on are preallocated zeros.
func (s *Scanner) Blank(off int64) (bool, error) {
	for off < s.Limit {
		b, err := s.View(off, min(s.Chunk, PageSize))
		if err != nil || slices.Max(b) != 0 {
			return false, err
		}
		off += int64(len(b))
	}
	return true, nil
}

// Scan calls each for each valid record from off on, until each returns false. It calls damaged for
// each unreadable range. It returns the end of the readable part. A segment is sealed if the next
// segment records its size. If a segment is not sealed, and no fence follows an unreadable place,
// the place is a torn write, and the log ends there.
func (s *Scanner) Scan(off int64, sealed bool, each func(off int64, r *record.Record) bool, damaged func(off, length int64)) (end int64, torn bool, err error) {
	var r record.Record
	for off < s.Limit {
		ok, err := s.at(off, &r)
		if err != nil {
			return off, false, err
		}
		if ok {
			at := off
			if off += int64(r.Size); !each(at, &r) {
				return off, false, nil
			}
			continue
		}
		if !sealed {
			if blank, err := s.Blank(off); err != nil || blank {
				return off, false, err
			}
			if known, err := s.Fenced(off); err != nil || !known {
				return off, err == nil, err
			}
		}
		to, err := s.resync(off+1, &r)
		if err != nil {
			return off, false, err
		}
		damaged(off, to-off)
		off = to
	}
	return off, false, nil
}
