package segment

import (
	"fmt"
	"io"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// WriterConfig configures a Writer.
type WriterConfig struct {
	FS    fsys.FS
	Dir   string
	Epoch uint64
	// MaxUnsynced is how many bytes Append leaves unsynced. 0: each Append syncs.
	MaxUnsynced int64
	// Preallocate is how far the file is filled with zeros beyond its end, at most up
	// to SegmentBytes. 0: not at all.
	Preallocate  int64
	SegmentBytes int64
	Stats        *WriteStats
}

// Writer appends to the active segment. One goroutine at a time uses it.
type Writer struct {
	c    WriterConfig
	file fsys.File

	number  uint64 // of the active segment
	last    uint64 // the highest number in use or tried
	opening int64  // the bytes of header and checkpoint
	end     int64
	synced  int64 // up to here it is known to be durable
	filled  int64 // up to here it was written: records, then zeros
	prev    Link  // in the header

	leftover []string
}

// NewWriter returns a Writer without an active segment. last is the highest segment
// number in the folder.
func NewWriter(c WriterConfig, last uint64) *Writer { return &Writer{c: c, last: last} }

// Number returns the number of the active segment.
func (w *Writer) Number() uint64 { return w.number }

// End returns the size of the active segment.
func (w *Writer) End() int64 { return w.end }

// SyncedTo returns the size of the durable part of the active segment.
func (w *Writer) SyncedTo() int64 { return w.synced }

// Synced reports whether the active segment is durable.
func (w *Writer) Synced() bool { return w.synced == w.end }

// Prev returns the link to the segment before the active one.
func (w *Writer) Prev() Link { return w.prev }

// Full reports whether n more bytes belong into a new segment. The opening does not
// count: with many streams it may be longer than SegmentBytes.
func (w *Writer) Full(n int) bool {
	return w.end > w.opening && n > 0 && w.end-w.opening+int64(n) > w.c.SegmentBytes
}

// Append appends sealed records, and syncs them if force is set or MaxUnsynced
// demands it.
func (w *Writer) Append(records []byte, force bool) error {
	if len(records) > 0 {
		record.Seal(records, w.number, w.end, w.Synced())
		if err := w.c.Stats.write(w.file, records, w.end); err != nil {
			return fmt.Errorf("writing segment %x: %w", w.number, err)
		}
		w.end += int64(len(records))
		w.fill()
	}
	if force || w.end-w.synced > w.c.MaxUnsynced {
		return w.Sync()
	}
	return nil
}

// Sync makes the active segment durable.
func (w *Writer) Sync() error {
	if w.Synced() {
		return nil
	}
	begin := time.Now()
	err := w.c.Stats.sync(w.file, w.synced, w.end)
	w.c.Stats.appendSync.Store(int64(time.Since(begin)))
	if err != nil {
		return fmt.Errorf("syncing segment %x: %w", w.number, err)
	}
	w.synced = w.end
	return nil
}

// Begin creates a segment with its opening and makes it the active one, durably,
// its name included. h has First and Prev. After an error the old one is active.
func (w *Writer) Begin(h Header, records, checkpoint []byte) error {
	w.last++
	h.Number, h.Epoch = w.last, w.c.Epoch
	buf := h.Append(make([]byte, 0, HeaderSize+len(records)+len(checkpoint)))
	buf = append(append(buf, records...), checkpoint...)
	record.Seal(buf[HeaderSize:], h.Number, HeaderSize, false)
	name := Name(w.c.Dir, h.Number)
	f, err := w.c.FS.Create(name)
	if err != nil {
		return fmt.Errorf("creating segment %x: %w", h.Number, err)
	}
	if err = w.c.Stats.write(f, buf, 0); err == nil {
		err = w.c.Stats.sync(f, 0, int64(len(buf)))
	}
	if err == nil {
		err = w.c.FS.SyncDir(w.c.Dir)
	}
	if err != nil {
		f.Close()
		w.leftover = append(w.leftover, name)
		return fmt.Errorf("beginning segment %x: %w", h.Number, err)
	}
	if w.file != nil {
		w.file.Close() // everything that counts in it was synced
	}
	w.number, w.prev, w.opening = h.Number, h.Prev, int64(HeaderSize+len(checkpoint))
	w.file, w.end, w.synced, w.filled = f, int64(len(buf)), int64(len(buf)), int64(len(buf))
	return nil
}

// TakeLeftover returns the paths of segments that could not be begun.
func (w *Writer) TakeLeftover() []string {
	l := w.leftover
	w.leftover = nil
	return l
}

// minFill is how far a segment is filled first. Each next time it is twice as far,
// up to Preallocate, so that small files stay small.
const minFill = 16 << 10

var zeros [64 << 10]byte

// fill preallocates, once the end has come to where the zeros begin. A sync of bytes
// that were there before writes the data only. When the file grows, the file system
// writes its journal too, which takes as long again. Recovery takes zeros up to the
// end of the file for the end of the log. Nothing depends on fill, so an error is
// left to the next write or sync.
func (w *Writer) fill() {
	if w.c.Preallocate <= 0 || w.end <= w.filled {
		return
	}
	begin := w.end
	w.filled = begin
	n := min(max(w.end, minFill), w.c.Preallocate)
	to := min((w.end+n)&^(PageSize-1), w.c.SegmentBytes)
	for w.filled < to {
		b := zeros[:min(to-w.filled, int64(len(zeros)))]
		if w.c.Stats.write(w.file, b, w.filled) != nil {
			return
		}
		w.filled += int64(len(b))
	}
	w.c.Stats.pages(begin, to)
}

// Trim cuts the zeros off, if the segment does not grow any more.
func (w *Writer) Trim() {
	if w.filled > w.end && w.file.Truncate(w.end) == nil {
		w.filled = w.end
	}
}

// Close closes the active segment.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

// WriteFile creates a file with this content, durably except for its name.
func (s *WriteStats) WriteFile(fs fsys.FS, name string, b []byte) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	if err = s.write(f, b, 0); err == nil {
		err = s.sync(f, 0, int64(len(b)))
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// write writes b at off and counts it.
func (s *WriteStats) write(f fsys.File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	s.bytes.Add(uint64(n))
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
