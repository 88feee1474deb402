package persistence

// tail keeps the newest written bytes of the active segment, so that draining
// at the speed of accepting never reads the disk, and so that what was written
// and not synced can be written again.
type tail struct {
	segment uint64
	off     int64 // where buf begins in the segment
	buf     []byte
	limit   int
}

// add takes bytes just written; between the limit and twice of it are kept.
func (t *tail) add(segment uint64, off int64, b []byte) {
	if segment != t.segment || off != t.off+int64(len(t.buf)) || len(b) > t.limit {
		t.segment, t.off, t.buf = segment, off, t.buf[:0]
		if len(b) > t.limit {
			t.off += int64(len(b)) // too long to keep
			return
		}
	}
	if len(t.buf)+len(b) > 2*t.limit {
		drop := len(t.buf) - (t.limit - len(b))
		t.buf = append(t.buf[:0], t.buf[drop:]...)
		t.off += int64(drop)
	}
	t.buf = append(t.buf, b...)
}

// from returns what is kept of the segment from off on; nil when that place is
// not kept.
func (t *tail) from(segment uint64, off int64) []byte {
	if segment != t.segment || off < t.off || off >= t.off+int64(len(t.buf)) {
		return nil
	}
	return t.buf[off-t.off:]
}
