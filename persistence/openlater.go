package persistence

import (
	"errors"
	"slices"
	"syscall"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// opening is the first segment that an opening writes. If the disk refuses it, the log is degraded
// from the start. It then reads the messages that earlier processes left, and records their results
// in memory. It removes nothing until the segment has begun.
type opening struct {
	next       *index.Segment
	header     segment.Header
	records    []byte // of the last segment; they are in next now
	checkpoint []byte // of the state that was found
	found      bool   // there are segments
}

// begin begins the segment durably. The caller holds no lock, unless no other goroutine has the log.
func (x *opening) begin(l *Log) error {
	// A killed process may have created files whose names are not durable. The new segment must not
	// become durable before the segments that it is linked to.
	if x.found {
		if err := l.o.FS.SyncDir(l.folder.dir); err != nil {
			return err
		}
	}
	return beginFirst(l, x.header, x.records, x.checkpoint)
}

// later leaves the segment to the goroutine of the outage. The records of the segment are kept in
// memory.
func (x *opening) later(l *Log, cause error) {
	l.folder.opening, l.folder.reserve.full, l.pipe.dry = x, cause, true
	l.tail.Limit = max(l.tail.Limit, len(x.records))
	l.tail.Add(x.next.Number, segment.HeaderSize, x.records)
}

// beginLater calls begin after an outage that began with the opening. mu is held before and after.
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

// mayPass reports whether the log is opened although the disk refuses writes. It is if it has
// segments.
func mayPass(err error, r *recovery.State) bool {
	return len(r.Files) > 0 && slices.ContainsFunc(passing, func(is error) bool { return errors.Is(err, is) })
}
