package segment

// Tail keeps the newest bytes written to the active segment, so that a queue that is
// drained as fast as it is filled never reads the disk, and so that unsynced bytes
// can be written again. Between Limit and twice as many bytes are kept.
type Tail struct {
	Limit   int
	segment uint64
	off     int64 // of buf in the segment
	buf     []byte
}

// Add adds bytes that were written at off.
func (t *Tail) Add(segment uint64, off int64, b []byte) {
	if segment != t.segment || off != t.off+int64(len(t.buf)) || len(b) > t.Limit {
		t.segment, t.off, t.buf = segment, off, t.buf[:0]
		if len(b) > t.Limit {
			t.off += int64(len(b)) // too long to keep
			return
		}
	}
	if len(t.buf)+len(b) > 2*t.Limit {
		drop := len(t.buf) - (t.Limit - len(b))
		t.buf = append(t.buf[:0], t.buf[drop:]...)
		t.off += int64(drop)
	}
	t.buf = append(t.buf, b...)
}

// From returns what is kept of the segment from off on, or nil.
func (t *Tail) From(segment uint64, off int64) []byte {
	if segment != t.segment || off < t.off || off >= t.off+int64(len(t.buf)) {
		return nil
	}
	return t.buf[off-t.off:]
}
