package segment

import (
	"io"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Reader reads single records. It keeps one segment open and reads ahead, so that reading in order
// needs few system calls. The caller holds its lock during the calls of Message and Buffered, and
// while it uses their results.
type Reader struct {
	lock chan struct{} // capacity 1; locked while it contains an element
	fs   fsys.FS
	dir  string
	file fsys.File // the open segment
	scan Scanner   // of file; Number is 0 if no segment is open
}

// Lock, TryLock and Unlock work like those of a mutex.
func (r *Reader) Lock()   { r.lock <- struct{}{} }
func (r *Reader) Unlock() { <-r.lock }

func (r *Reader) TryLock() bool {
	select {
	case r.lock <- struct{}{}:
		return true
	default:
		return false
	}
}

// NewReader returns a Reader of the segments in a folder.
func NewReader(fs fsys.FS, dir string, chunk int) *Reader {
	return &Reader{lock: make(chan struct{}, 1), fs: fs, dir: dir, scan: Scanner{Window: Window{Chunk: chunk}}}
}

// Message decodes the record of a message at off in a segment with limit bytes in use. The fields
// of rec are valid until the next call. Errors: those of the file, and those for which Damaged
// returns true. A record of another message is also an error of the second kind.
func (r *Reader) Message(rec *record.Record, number, seq uint64, off, limit int64) error {
	if r.scan.Number != number {
		r.close()
		f, err := r.fs.Open(Name(r.dir, number))
		if err != nil {
			return err
		}
		r.file, r.scan.F, r.scan.Number = f, f, number
	}
	r.scan.Limit = limit
	ok, err := r.scan.at(off, rec)
	switch {
	case err == nil && (!ok || rec.Seq != seq):
		err = record.ErrInvalid
	case err != nil:
		r.close() // a new file descriptor may work
	}
	return err
}

// Damaged reports whether err of Message means damage, so that another attempt is useless.
func Damaged(err error) bool { return err == record.ErrInvalid || err == io.ErrUnexpectedEOF }

// Buffered returns the record at off if it was read ahead completely and is valid. Otherwise it
// returns nil.
func (r *Reader) Buffered(number uint64, off int64) []byte {
	w := &r.scan.Window
	if r.scan.Number != number || off < w.off || off >= w.off+int64(len(w.buf)) {
		return nil
	}
	b := w.buf[off-w.off:]
	size, ok := record.ParseTag(b)
	if !ok || size > len(b) || !record.Valid(b[:size], number, off) {
		return nil
	}
	return b[:size]
}

// Leave closes a segment that is about to be removed, because some systems cannot remove open files.
func (r *Reader) Leave(number uint64) {
	r.Lock()
	defer r.Unlock()
	if r.scan.Number == number {
		r.close()
	}
}

// Close closes the open segment. The Reader can be used again.
func (r *Reader) Close() {
	r.Lock()
	defer r.Unlock()
	r.close()
}

func (r *Reader) close() {
	if r.file != nil {
		r.file.Close()
	}
	r.file, r.scan.F, r.scan.Number, r.scan.buf = nil, nil, 0, r.scan.buf[:0]
}

// PageSize is the size of a flash page.
const PageSize = 4 << 10

// Window is a view of the first Limit bytes of a file. It reads Chunk bytes at a time.
type Window struct {
	F     io.ReaderAt
	Limit int64
	Chunk int
	off   int64 // offset of buf in the file
	buf   []byte
}

// View returns n bytes at off, or fewer at the limit. They are valid until the next call. Errors:
// those of the file, io.ErrUnexpectedEOF.
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
