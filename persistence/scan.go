package persistence

import (
	"io"
	"slices"
)

// window is a view on the first limit bytes of a file, read a chunk at a time.
type window struct {
	f     io.ReaderAt
	limit int64
	chunk int
	off   int64
	buf   []byte
}

// view returns n bytes at off, fewer only at the limit. They are valid until
// the next call.
func (w *window) view(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.limit-off))
	if n <= 0 {
		return nil, nil
	}
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		size := int(min(int64(max(n, w.chunk)), w.limit-off))
		if cap(w.buf) < size || cap(w.buf) > 2*max(size, w.chunk) {
			w.buf = make([]byte, size)
		}
		w.buf, w.off = w.buf[:size], off
		got, err := w.f.ReadAt(w.buf, off)
		w.buf = w.buf[:got]
		if got < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return w.buf[off-w.off:][:n], nil
}

// scanner reads the records of one segment and finds its way around damage.
type scanner struct {
	window
	number uint64
	most   uint64 // no sequence above it can be in the segment; 0: unknown
	fence  int64  // a fence is known to stand here

	searching bool  // records are looked for at each byte
	wasted    int64 // bytes of which a checksum was taken in vain meanwhile
}

// A payload can be made to look like the beginning of a long record at each byte.
// When that has cost the checksums of this many times the segment, only short
// records are looked for.
const (
	maxWasted   = 64
	shortRecord = 64
)

// at decodes the record at off, if there is a valid one.
func (s *scanner) at(off int64, r *record) (bool, error) {
	b, err := s.view(off, checksumSize+maxTagSize+10)
	if err != nil {
		return false, err
	}
	kind, body, size, ok := parseTag(b)
	if !ok || off+int64(size) > s.limit {
		return false, nil
	}
	if (kind <= kindDone || kind == kindExtended || kind == kindDoneAt) && s.most > 0 {
		// Saves checksums over long stretches when looking for the next record.
		d := decoder{b: b[body:]}
		if seq := d.sequence(); d.bad || seq > s.most {
			return false, nil
		}
	}
	if s.searching && size > shortRecord && s.wasted > maxWasted*s.limit {
		return false, nil
	}
	if b, err = s.view(off, size); err != nil {
		return false, err
	}
	if le32(b) != checksum(s.number, off, b[checksumSize:]) {
		if s.searching {
			s.wasted += int64(size)
		}
		return false, nil
	}
	return r.decode(b) == nil, nil
}

// resync returns where the first valid record at or behind off is, or the limit.
func (s *scanner) resync(off int64, r *record) (int64, error) {
	s.searching = true
	defer func() { s.searching = false }()
	for ; off < s.limit; off++ {
		if ok, err := s.at(off, r); ok || err != nil {
			return off, err
		}
	}
	return s.limit, nil
}

// fenced reports whether a fence stands behind off: whether what lies at off had
// been synced.
func (s *scanner) fenced(off int64) (bool, error) {
	var r record
	for at := off; s.fence <= off; at += int64(r.size) {
		var err error
		if at, err = s.resync(at, &r); err != nil || at == s.limit {
			return false, err
		}
		if r.fence && at > off {
			s.fence = at
		}
	}
	return true, nil
}

// blank reports whether there are only zeros from off on: the part of the file
// that was filled ahead.
func (s *scanner) blank(off int64) (bool, error) {
	for off < s.limit {
		b, err := s.view(off, min(s.chunk, pageSize))
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) {
			return false, nil
		}
		off += int64(len(b))
	}
	return true, nil
}

// scan hands each valid record to each, until it returns false, and each
// unreadable range to damaged. It returns where the readable part ends. Unless
// the segment is sealed (its size is known from the next one), an unreadable
// place with no fence behind it is a torn write, where the log ends.
func (s *scanner) scan(off int64, sealed bool, each func(off int64, r *record) bool, damaged func(off, length int64)) (end int64, torn bool, err error) {
	var r record
	for off < s.limit {
		ok, err := s.at(off, &r)
		if err != nil {
			return off, false, err
		}
		if ok {
			size := int64(r.size)
			if !each(off, &r) {
				return off + size, false, nil
			}
			off += size
			continue
		}
		if !sealed {
			if blank, err := s.blank(off); err != nil || blank {
				return off, false, err
			}
			if known, err := s.fenced(off); err != nil || !known {
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
