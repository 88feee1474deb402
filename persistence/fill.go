package persistence

import (
	"io"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// Under SyncEveryCommit the active file is filled with zeros ahead of its end. A
// sync of bytes that were there before has only the data to write; when the file
// grows, the file system has its own journal to write as well, which takes as
// long again. Recovery reads zeros up to the end of the file as the end of the
// log.

// minFill is how far the first filling of a segment reaches; each next one is
// twice as long, up to Files.PreallocateBytes, so that little files stay little.
const minFill = 16 << 10

const pageSize = 4 << 10

var zeros [64 << 10]byte

// fill writes the zeros, once the end has come to where they begin. Nothing
// depends on it, so an error is the next write's or sync's to find.
func (l *Log) fill() {
	if l.o.Sync != SyncEveryCommit || l.end <= l.filled {
		return
	}
	begin := l.end
	l.filled = begin
	n := min(max(l.end, minFill), int64(l.o.Files.PreallocateBytes))
	to := min((l.end+n)&^(pageSize-1), l.o.Files.SegmentBytes)
	for l.filled < to {
		b := zeros[:min(to-l.filled, int64(len(zeros)))]
		if l.put(l.file, b, l.filled) != nil {
			return
		}
		l.filled += int64(len(b))
	}
	l.wear.add(begin, to, l.ledger.clock.now())
}

// trim cuts the zeros off, when the file is not going to grow any more.
func (l *Log) trim() {
	if l.filled > l.end && l.file.Truncate(l.end) == nil {
		l.filled = l.end
	}
}

// put writes b at off and counts it.
func (l *Log) put(f fsys.File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	l.bytesWritten.Add(uint64(n))
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}
