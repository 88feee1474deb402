package persistence

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// waste describes what can be freed on disk. Log.mu guards it.
type waste struct {
	size       int64    // bytes of the segments in use
	garbage    []string // paths of files that are not in use
	removing   bool
	stuck      time.Time // time of a failed attempt to empty or remove a segment; zero if the last attempt succeeded
	waiters    int       // goroutines that wait for room
	full       bool      // the active segment takes no more records
	granted    int64     // bytes of dropped Normal messages that new Normal messages may use in the reserved part
	vain       vain      // the state in which dropping messages last freed no segment
	compaction compaction
	receipts   receipts.Set
}

// removeAgain is the pause after a failed attempt to empty or remove a segment. During the pause,
// the log refuses messages that need disk space. The first message after the pause causes another
// attempt.
const removeAgain = 100 * time.Millisecond

// vain describes a state of the log in which dropping messages does not free enough space.
type vain struct {
	most   Priority
	ended  uint64 // number of messages that had ended
	newest uint64 // number of the active segment
	need   int64  // number of bytes that could not be freed
}

// includes reports whether dropping messages is in vain in state v because it was in state w.
func (v vain) includes(w vain) bool {
	return v.most == w.most && v.ended == w.ended && v.newest == w.newest && v.need >= w.need
}

// removeDone removes the oldest segments whose messages have all ended durably. Each removal is
// durable before the next one begins. A crash therefore never leaves a gap between segments.
func (l *Log) removeDone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
}

// sweep is like removeDone, but mu is held before and after the call. It releases mu during the
// wait for the disk.
func (l *Log) sweep() {
	if maySweep(l) {
		l.work.Add(1)
		defer l.work.Done()
		removeSegments(l)
	}
}

// sweepLater calls sweep in another goroutine, so that the caller does not wait for the disk.
func sweepLater(l *Log) {
	switch {
	case l.inline:
		l.sweep()
	case maySweep(l):
		l.work.Go(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			removeSegments(l)
		})
	}
}

// maySweep reports whether the caller has to call removeSegments. It returns true to one caller at
// a time.
func maySweep(l *Log) bool {
	may := l.folder.opening == nil && !l.waste.removing && !l.closed
	l.waste.removing = l.waste.removing || may
	return may
}

// removeSegments does the work of sweep. The caller has called maySweep.
func removeSegments(l *Log) {
	w := &l.waste
	for l.failed == nil {
		number, name, ok := l.removable()
		if !ok {
			break
		}
		oldest := l.state.catalog.Segments[0]
		if number != 0 && l.state.keepsReceipts() && !l.keepReceipts(oldest) {
			break // the next commit tries again
		}
		l.pause()
		if !l.inline {
			l.reader.Leave(number)
		}
		err := l.o.FS.Remove(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = l.o.FS.SyncDir(l.folder.dir)
		}
		l.resume()
		if err != nil {
			w.stuck = time.Now()
			break // the next commit tries again
		}
		w.stuck = time.Time{}
		if number == 0 {
			w.garbage = w.garbage[1:]
			continue
		}
		w.size -= oldest.Size
		l.state.catalog.RemoveFirst()
		l.state.ledger.Keys.Shrink(l.state.ledger.Pending, l.state.alive)
	}
	w.removing = false
	l.signalRoom()
	if !w.compaction.running && writable(l) && l.compactable() {
		l.startCompaction()
	}
}

// removable returns the next file to remove, and its number if it is a segment in use. Files that
// are not in use come first. A later segment marks such a file as invalid, so the file must be
// removed before that segment.
func (l *Log) removable() (number uint64, name string, ok bool) {
	if len(l.waste.garbage) > 0 {
		return 0, l.waste.garbage[0], true
	}
	s := l.state.catalog.Segments[0]
	if s == l.state.catalog.Active() || s.Alive+s.Dead > 0 || s.Emptied > l.pipe.durable || s.Number == l.waste.compaction.reading {
		return 0, "", false
	}
	return s.Number, segment.Name(l.folder.dir, s.Number), true
}

// compactable reports whether compaction should move the messages out of the oldest segment.
func (l *Log) compactable() bool {
	return l.waste.compaction.due(l.state.catalog.Segments[0], l.waste.size, l.state.live(), l.state.catalog.Active().Number)
}

// squeeze starts a compaction because the log lacks disk space. It does so only if the compaction
// may free space.
func (l *Log) squeeze() bool {
	due := l.waste.compaction.squeeze(l.state.catalog.Segments[0], l.waste.size, l.state.live(), l.state.catalog.Active().Number)
	if due {
		l.startCompaction()
	}
	return due
}

func (l *Log) startCompaction() {
	l.waste.compaction.running = true
	l.work.Go(l.compact)
}

// compact moves the messages out of the oldest segment and the following segments, as long as
// compaction is due.
func (l *Log) compact() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for writable(l) && l.compactable() {
		s := l.state.catalog.Segments[0]
		l.waste.compaction.reading = s.Number
		l.mu.Unlock()
		r := segment.NewReader(l.o.FS, l.folder.dir, min(l.o.Files.BufferBytes, 256<<10))
		after, more := uint64(0), true
		for more {
			after, more = l.compactPart(s, r, after)
		}
		r.Close()
		l.mu.Lock()
		l.waste.compaction.reading = 0
		l.sweep()
		if l.state.catalog.Segments[0] == s {
			if s.Alive+s.Dead > 0 {
				l.waste.stuck = time.Now() // the disk fails
			}
			break // the next commit tries again, and so does the next message that needs room
		}
	}
	l.waste.compaction.running = false
	l.signalRoom()
}

// compactPart moves some messages of s whose sequences are higher than after. It returns the last
// moved sequence, and false at the end of the segment or after a failure.
func (l *Log) compactPart(s *index.Segment, r *segment.Reader, after uint64) (uint64, bool) {
	l.mu.Lock()
	if !writable(l) {
		l.mu.Unlock()
		return 0, false
	}
	seqs, locs, size := l.state.catalog.Keepers(s, after, int64(l.o.Files.BufferBytes/4))
	limit := s.Size
	l.mu.Unlock()
	if len(seqs) == 0 {
		return 0, false
	}
	records := make([]record.Record, 0, len(seqs))
	packets := make([]byte, 0, size)
	for i, seq := range seqs {
		var rec record.Record
		at := place{seq: seq, segment: s.Number, loc: locs[i]}
		switch err := r.Message(&rec, s.Number, seq, int64(locs[i].Off), limit); {
		case err != nil && isDamage(l, &at, err):
			l.lose(at, err)
			continue
		case err != nil:
			return 0, false // the disk fails; a later compaction tries again
		}
		packets = append(packets, rec.Packet...)
		rec.Packet = packets[len(packets)-len(rec.Packet):]
		rec.Key = slices.Clone(rec.Key)
		records = append(records, rec)
	}
	l.mu.Lock()
	if !writable(l) {
		l.mu.Unlock()
		return 0, false
	}
	var ranks map[uint64]uint64
	for i := range records {
		l.state.move(l.pipe.open, &records[i], s, &ranks)
	}
	return seqs[len(seqs)-1], l.await(l.pipe.open) == nil
}

// lacks returns how many bytes on disk must be freed before m can be accepted. mu must be held.
func (l *Log) lacks(m *Message) int64 {
	size := l.waste.size + l.waste.receipts.Bytes + int64(len(l.pipe.open.buf)) + bytesOf(m)
	for _, b := range l.pipe.flight {
		size += int64(len(b.buf))
	}
	room := l.state.room
	over := size - l.o.Limits.share(m.Priority, room)
	switch {
	case over <= 0 || m.Priority > Normal || l.o.Limits.Reserved == 0 || l.o.Limits.WhenFull != DropOldest:
		return over
	case size <= room && bytesOf(m) <= l.waste.granted:
		return 0
	}
	// High and Urgent messages use the unreserved part too. The message may replace older ones.
	return min(over, max(bytesOf(m), size-room))
}

// bytesOf returns an upper bound for the size of the record of a message.
func bytesOf(m *Message) int64 {
	return int64(len(m.Packet) + len(m.Key) + record.MaxOverhead - record.MaxKey)
}

// awaitRoom waits until there may be more room, or until Close. It returns false if ctx ends first,
// or if WriteTimeout passes first. mu is held before and after.
func (l *Log) awaitRoom(ctx context.Context) bool {
	if l.closed {
		return true
	}
	changed := l.room.Changed()
	l.waste.waiters++
	l.mu.Unlock()
	if l.o.WriteTimeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, l.o.WriteTimeout)
		defer stop()
	}
	select {
	case <-changed:
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.waste.waiters--
	return ctx.Err() == nil
}

// signalRoom wakes the goroutines that wait for room. mu must be held.
func (l *Log) signalRoom() {
	if l.waste.waiters > 0 {
		l.room.Notify()
	}
}
