package segment

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Writer appends to the active segment. Only one goroutine may use it at a time.
type Writer struct {
	FS           fsys.FS
	Lock         fsys.Held // of the folder; nil: it is not checked
	Dir          string
	Epoch        uint64
	MaxUnsynced  int64 // the most bytes that Append leaves unsynced
	Preallocate  int64 // how many bytes after the end are filled with zeros
	SegmentBytes int64
	Stats        *WriteStats
	Last         uint64 // the highest segment number in use or tried

	Number   uint64 // of the active segment
	End      int64
	Durable  int64    // the bytes up to here are durable
	Prev     Link     // in its header
	Leftover []string // paths of segments that could not be begun

	looked  time.Time // when look last checked
	file    fsys.File
	opening int64 // size of the header and the checkpoint
	filled  int64 // the bytes up to here were written: records, then zeros
}

// Full reports whether the next n bytes should go to a new segment. The size of the opening does
// not count, because with many streams the opening may be larger than SegmentBytes.
func (w *Writer) Full(n int) bool {
	return w.End > w.opening && n > 0 && w.End-w.opening+int64(n) > w.SegmentBytes
}

// Append seals and appends records. It syncs if force is set or if more than MaxUnsynced bytes are
// unsynced.
func (w *Writer) Append(records []byte, force bool) error {
	if force {
		return w.AppendUnsynced(records, -1)
	}
	return w.AppendUnsynced(records, w.MaxUnsynced)
}

// AppendUnsynced is like Append, but it syncs if more than most bytes are unsynced.
func (w *Writer) AppendUnsynced(records []byte, most int64) error {
	if len(records) > 0 {
		record.Seal(records, w.Number, w.End, w.Durable == w.End)
		if err := w.Stats.write(w.file, records, w.End); err != nil {
			return fmt.Errorf("writing segment %x: %w", w.Number, err)
		}
		w.End += int64(len(records))
		w.fill()
	}
	if w.End-w.Durable > most {
		return w.Sync()
	}
	return w.look()
}

// lookAfter is the time after which the writer checks again whether the folder was removed or
// replaced.
const lookAfter = 100 * time.Millisecond

// look returns an error if the folder or the active segment was removed or replaced. It checks at
// most once per lookAfter.
func (w *Writer) look() error {
	if w.Lock == nil || time.Since(w.looked) < lookAfter {
		return nil
	}
	err := w.Lock.Check()
	if err == nil {
		err = fsys.CheckFile(w.file)
	}
	if err == nil {
		w.looked = time.Now()
	}
	return err
}

// Sync makes the active segment durable.
func (w *Writer) Sync() error {
	if w.Durable == w.End {
		return nil
	}
	if err := w.look(); err != nil {
		return err
	}
	begin := time.Now()
	err := w.Stats.sync(w.file, w.Durable, w.End)
	w.Stats.SyncTook.Store(int64(time.Since(begin)))
	if err != nil {
		return fmt.Errorf("syncing segment %x: %w", w.Number, err)
	}
	w.Durable = w.End
	return nil
}

// ReadBack returns the records of the active segment that are not durable, up to the offset to. It
// returns an error if the file does not contain them all.
func (w *Writer) ReadBack(to int64) ([]byte, error) {
	buf := make([]byte, to-w.Durable)
	if n, err := w.file.ReadAt(buf, w.Durable); n < len(buf) {
		return nil, fmt.Errorf("reading segment %x again: %w", w.Number, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	for off := 0; off < len(buf); {
		size, ok := record.ParseTag(buf[off:])
		if !ok || off+size > len(buf) || !record.Valid(buf[off:off+size], w.Number, w.Durable+int64(off)) {
			return nil, fmt.Errorf("reading segment %x again: %w at %d", w.Number, record.ErrInvalid, w.Durable+int64(off))
		}
		off += size
	}
	return buf, nil
}

// Begin creates a segment with its opening, makes it durable including its name, and makes it the
// active segment. h has First and Prev. After an error, the old segment is still active.
func (w *Writer) Begin(h Header, records, checkpoint []byte) error {
	if w.Lock != nil { // do not create it in a folder that has replaced the locked one
		if err := w.Lock.Check(); err != nil {
			return err
		}
	}
	w.Last++
	h.Number, h.Epoch = w.Last, w.Epoch
	name := Name(w.Dir, h.Number)
	f, err := w.FS.Create(name)
	if err != nil {
		return fmt.Errorf("creating segment %x: %w", h.Number, err)
	}
	return w.begin(f, 0, h, records, checkpoint)
}

// BeginIn is like Begin, but it renames the reserve and uses it as the segment. The reserve is a
// file that contains size zeros. BeginIn needs no additional disk space. After an error, the file
// may no longer exist.
func (w *Writer) BeginIn(reserve string, size int64, h Header, records, checkpoint []byte) error {
	if need := int64(HeaderSize + len(records) + len(checkpoint)); need > size {
		return fmt.Errorf("beginning a segment of %d bytes in the reserve of %d: %w", need, size, syscall.ENOSPC)
	}
	w.Last++
	h.Number, h.Epoch = w.Last, w.Epoch
	name := Name(w.Dir, h.Number)
	f, err := w.FS.Open(reserve)
	if err == nil {
		err = errors.Join(clean(f, size), f.Close()) // some systems cannot rename open files
	}
	if err == nil {
		err = w.FS.Rename(reserve, name)
	}
	if err != nil {
		return fmt.Errorf("making the reserve segment %x: %w", h.Number, err)
	}
	if f, err = w.FS.Open(name); err != nil {
		w.Leftover = append(w.Leftover, name)
		return fmt.Errorf("opening segment %x: %w", h.Number, err)
	}
	return w.begin(f, size, h, records, checkpoint)
}

// clean overwrites all other bytes with zeros. A crash may have undone the renaming of a file that
// already contained records.
func clean(f fsys.File, size int64) error {
	buf := make([]byte, len(zeros))
	for off := int64(0); off < size; off += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), size-off)]
		if _, err := f.ReadAt(part, off); err != nil {
			return err
		}
		if !bytes.Equal(part, zeros[:len(part)]) {
			if _, err := f.WriteAt(zeros[:len(part)], off); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin makes f the active segment. size bytes of f are zeros.
func (w *Writer) begin(f fsys.File, size int64, h Header, records, checkpoint []byte) error {
	name := Name(w.Dir, h.Number)
	h.File = fsys.IdentityOf(f)
	buf := h.Append(make([]byte, 0, HeaderSize+len(records)+len(checkpoint)))
	buf = append(append(buf, records...), checkpoint...)
	record.Seal(buf[HeaderSize:], h.Number, HeaderSize, false)
	end := int64(len(buf))
	err := w.Stats.write(f, buf, 0)
	if err == nil {
		err = w.Stats.sync(f, 0, end)
	}
	if err == nil {
		err = w.FS.SyncDir(w.Dir)
	}
	if err != nil {
		f.Close()
		w.Leftover = append(w.Leftover, name)
		return fmt.Errorf("beginning segment %x: %w", h.Number, err)
	}
	_ = w.Close() // the used part of the old segment was synced
	w.file, w.Number, w.Prev, w.opening = f, h.Number, h.Prev, int64(HeaderSize+len(checkpoint))
	w.End, w.Durable, w.filled = end, end, max(size, end)
	return nil
}

// minFill is the number of zeros that are first added to a segment. Each later fill is twice as
// large, up to Preallocate. Small segments therefore stay small.
const minFill = 16 << 10

var zeros [64 << 10]byte

// fill preallocates zeros when the records have reached the end of the last zeros. If the size of a
// file did not change, a sync needs no write to the journal of the file system. Such a write would
// take as long as the sync itself. Recovery treats zeros up to the end of the file as the end of the
// log. If fill fails, the next write or sync returns the error.
func (w *Writer) fill() {
	if w.Preallocate <= 0 || w.End <= w.filled {
		return
	}
	begin := w.End
	w.filled = begin
	to := min((w.End+min(max(w.End, minFill), w.Preallocate))&^(PageSize-1), w.SegmentBytes)
	for w.filled < to {
		b := zeros[:min(to-w.filled, int64(len(zeros)))]
		if w.Stats.write(w.file, b, w.filled) != nil {
			return
		}
		w.filled += int64(len(b))
	}
	w.Stats.addPages(begin, to)
}

// Trim removes the preallocated zeros from a segment that is complete.
func (w *Writer) Trim() {
	if w.filled > w.End && w.file.Truncate(w.End) == nil {
		w.filled = w.End
	}
}

// Close closes the active segment, if any.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

// WriteStats counts writes and syncs. It is safe for concurrent use.
type WriteStats struct {
	Bytes, Syncs atomic.Uint64
	Pages        atomic.Uint64 // synced pages; a page counts as a whole even if few of its bytes are new
	SyncTook     atomic.Int64  // duration of the last sync of appended records, in nanoseconds
}

// WriteFile creates a file with this content. It makes the content durable, but not the name.
func (s *WriteStats) WriteFile(fs fsys.FS, name string, b []byte) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	if err = s.write(f, b, 0); err == nil {
		err = s.sync(f, 0, int64(len(b)))
	}
	return cmp.Or(err, f.Close())
}

func (s *WriteStats) write(f fsys.File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	s.Bytes.Add(uint64(n))
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// sync syncs a file. Only the bytes from from to to are new.
func (s *WriteStats) sync(f fsys.File, from, to int64) error {
	s.Syncs.Add(1)
	s.addPages(from, to)
	return f.Sync()
}

func (s *WriteStats) addPages(from, to int64) {
	if to > from {
		s.Pages.Add(uint64((to-1)/PageSize - from/PageSize + 1))
	}
}
