package segment

import (
	"io"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Reader reads single records. It keeps one segment open and reads ahead, so that
// reading in order needs few system calls. The caller holds its lock during the
// calls of Record and Buffered, and as long as it uses their results.
type Reader struct {
	sync.Mutex
	fs     fsys.FS
	dir    string
	number uint64 // of the open segment; 0: none
	file   fsys.File
	window Window
}

// NewReader returns a Reader of the segments in a folder.
func NewReader(fs fsys.FS, dir string, chunk int) *Reader {
	return &Reader{fs: fs, dir: dir, window: Window{Chunk: chunk}}
}

// Record returns the bytes of the record at off of a segment, of which limit bytes
// count. Errors: those of the file, and those for which Damaged is true.
func (r *Reader) Record(number uint64, off, limit int64) ([]byte, error) {
	if r.number != number {
		r.close()
		f, err := r.fs.Open(Name(r.dir, number))
		if err != nil {
			return nil, err
		}
		r.number, r.file, r.window.F = number, f, f
	}
	r.window.Limit = limit
	b, err := r.window.View(off, record.MaxPrefix)
	if err != nil {
		return nil, err
	}
	size, ok := record.ParseTag(b)
	if !ok {
		return nil, record.ErrInvalid
	}
	if b, err = r.window.View(off, size); err != nil {
		return nil, err
	}
	if len(b) < size || !record.Valid(b, number, off) {
		return nil, record.ErrInvalid
	}
	return b, nil
}

// Message decodes the record of a message. Errors: as Record; it is damaged if it is
// of another message. The fields of rec are valid as long as the bytes of Record.
func (r *Reader) Message(rec *record.Record, number, seq uint64, off, limit int64) error {
	b, err := r.Record(number, off, limit)
	if err == nil {
		err = rec.Decode(b)
	}
	if err == nil && rec.Seq != seq {
		err = record.ErrInvalid
	}
	return err
}

// Damaged reports whether err of Record means damage: another try does not help.
func Damaged(err error) bool { return err == record.ErrInvalid || err == io.ErrUnexpectedEOF }

// Buffered returns the record at off if all of it was read ahead and it is valid.
func (r *Reader) Buffered(number uint64, off int64) []byte {
	if r.number != number {
		return nil
	}
	b := r.window.buffered(off)
	size, ok := record.ParseTag(b)
	if !ok || size > len(b) || !record.Valid(b[:size], number, off) {
		return nil
	}
	return b[:size]
}

// Leave closes a segment that is to be removed: some systems do not remove open files.
func (r *Reader) Leave(number uint64) {
	r.Lock()
	defer r.Unlock()
	if r.number == number {
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
	r.number, r.file, r.window.F, r.window.buf = 0, nil, nil, r.window.buf[:0]
}

// PageSize is the unit in which flash is written.
const PageSize = 4 << 10

// Window is a view of the first Limit bytes of a file. It reads Chunk bytes at a time.
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
