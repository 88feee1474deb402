package persistence

import (
	"errors"
	"slices"
	"syscall"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// opening is the first segment that an opening writes. If the disk refuses to write it, the log is
// degraded from the start. The log then reads the messages that earlier processes left, and keeps
// their results in memory. It removes no file until the segment has begun.
type opening struct {
	next       *index.Segment
	header     segment.Header
	records    []byte // records of the last segment, which now belong to next
	checkpoint []byte // checkpoint of the state that was found
	found      bool   // there are segments
}

// begin begins the segment and makes it durable. The caller holds no lock, unless no other
// goroutine has access to the log.
func (x *opening) begin(l *Log) error {
	// A killed process may have created files whose names are not durable. The new segment must not
	// become durable before the segments to which its link refers.
	if x.found {
		if err := l.o.FS.SyncDir(l.folder.dir); err != nil {
			return err
		}
	}
	return beginFirst(l, x.header, x.records, x.checkpoint)
}

// later is called if the disk refuses the first segment. It keeps the records of the segment in
// memory, and the goroutine that retries during an outage writes them.
func (x *opening) later(l *Log, cause error) {
	l.folder.opening, l.folder.reserve.full, l.pipe.dry = x, cause, true
	l.tail.Limit = max(l.tail.Limit, len(x.records))
	l.tail.Add(x.next.Number, segment.HeaderSize, x.records)
}

// beginLater writes the first segment if the opening could not write it. mu is held before and
// after.
func beginLater(l *Log) error {
	x := l.folder.opening
	if x == nil {
		return nil
	}
	l.pause()
	err := x.begin(l)
	l.resume()
	if err != nil {
		return err
	}
	l.folder.opening = nil
	x.next.Number, x.next.Size = l.writer.Number, l.writer.End
	l.waste.size += x.next.Size
	l.tail = segment.Tail{Limit: max(l.o.Files.BufferBytes, len(x.records))}
	l.tail.Add(x.next.Number, segment.HeaderSize, x.records)
	return nil
}

// passing lists the errors that do not prevent the opening of a log that has segments.
var passing = []error{
	syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EROFS, syscall.EACCES, syscall.EPERM,
	syscall.EIO, syscall.ENODEV, syscall.ENXIO,
}

// mayPass reports whether the log can be opened although the disk refuses writes with err. This is
// possible if err is in passing and the log has segments.
func mayPass(err error, r *recovery.State) bool {
	return len(r.Files) > 0 && slices.ContainsFunc(passing, func(is error) bool { return errors.Is(err, is) })
}
