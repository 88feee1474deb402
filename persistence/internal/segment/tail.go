package segment

// Tail keeps the newest bytes that were written to the active segment. If messages are sent as fast
// as they are added, the log therefore never reads them from the disk. Tail also lets the log write
// unsynced bytes again. It keeps between Limit and 2*Limit bytes.
type Tail struct {
	Limit   int
	segment uint64
	off     int64 // offset of buf in the segment
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

// From returns the kept bytes of the segment from off on, or nil.
func (t *Tail) From(segment uint64, off int64) []byte {
	if segment != t.segment || off < t.off || off >= t.off+int64(len(t.buf)) {
		return nil
	}
	return t.buf[off-t.off:]
}
