package segment

import "io"

// PageSize is the unit in which flash is written.
const PageSize = 4 << 10

// Window is a view of the first Limit bytes of a file, which reads Chunk bytes at a
// time.
type Window struct {
	F     io.ReaderAt
	Limit int64
	Chunk int

	off int64
	buf []byte
}

// View returns n bytes at off, fewer only at the limit. They are valid until the
// next call. Errors: those of the file, io.ErrUnexpectedEOF.
func (w *Window) View(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.Limit-off))
	if n <= 0 {
		return nil, nil
	}
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		size := int(min(int64(max(n, w.Chunk)), w.Limit-off))
		if cap(w.buf) < size || cap(w.buf) > 2*max(size, w.Chunk) {
			w.buf = make([]byte, size)
		}
		w.buf, w.off = w.buf[:size], off
		got, err := w.F.ReadAt(w.buf, off)
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

// buffered returns the bytes from off on that View would not have to read.
func (w *Window) buffered(off int64) []byte {
	if off < w.off || off >= w.off+int64(len(w.buf)) {
		return nil
	}
	return w.buf[off-w.off:]
}
