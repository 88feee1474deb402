package mqtttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// journal is the broker's memory on disk: one append-only file of
// transactions, each framed with its length and a CRC-32C. What one event
// changes is one transaction, so a crash keeps all of it or nothing. A nil
// journal keeps nothing.
//
// The broker's lock guards tx; the records of an event gather there and
// commit moves them on. flush hands them to the operating system, for all who
// wait at once, and is called before anything leaves on a connection.
type journal struct {
	dir      string
	sync     bool
	slack    int64
	logger   *slog.Logger
	snapshot func() // records the whole state, in transactions that end with emit

	tx   []byte
	gen  uint64 // counts compactions; see message.logged
	emit func() // ends a transaction, during a snapshot
	base int64  // size after the last compaction
	size int64  // with what is pending

	writing sync.Mutex // taken before mu
	mu      sync.Mutex // guards the rest
	file    *os.File
	pending []byte
	err     error // the first failure; nothing is written after it
	dead    bool  // killed: nothing is written and that is no failure
}

const (
	journalName   = "mqtttest.journal"
	journalHeader = "mqtttest journal 1\n"
	frameHeader   = 8
	// journalSlack is what a journal may grow by, besides becoming twice as
	// large, before it is compacted.
	journalSlack = 32 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errKilled = errors.New("mqtttest: the broker was killed")

// appendFrame appends one transaction.
func appendFrame(dst, tx []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(tx)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(tx, castagnoli))
	return append(dst, tx...)
}

// commit makes one transaction of what the event has recorded.
func (j *journal) commit() {
	if j == nil || len(j.tx) == 0 {
		return
	}
	j.mu.Lock()
	if !j.dead && j.err == nil {
		j.pending = appendFrame(j.pending, j.tx)
	}
	j.mu.Unlock()
	j.size += int64(frameHeader + len(j.tx))
	if j.tx = j.tx[:0]; cap(j.tx) > 1<<20 {
		j.tx = nil // a burst's memory is not kept
	}
}

// flush writes everything that was committed before it was called.
func (j *journal) flush() error {
	if j == nil {
		return nil
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	b, file, err := j.pending, j.file, j.err
	j.pending = nil
	if j.dead {
		err = errKilled
	}
	j.mu.Unlock()
	if err != nil || len(b) == 0 {
		return err
	}
	if _, err = file.Write(b); err == nil && j.sync {
		err = file.Sync()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.err = err
	} else if j.pending == nil && cap(b) <= 1<<20 {
		j.pending = b[:0]
	}
	return err
}

// kill forgets what was not written, as the end of the process would.
func (j *journal) kill() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dead, j.pending = true, nil
}

// close writes what is left.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	err := j.flush()
	if errors.Is(err, errKilled) {
		err = nil
	}
	j.kill() // a goroutine that goes on writes nothing more
	return errors.Join(err, j.file.Close())
}

// compact replaces an overgrown journal by a snapshot. After a failure the old
// journal stays in place.
func (j *journal) compact() {
	if j == nil || j.size <= 2*j.base+j.slack {
		return
	}
	if err := j.replace(); err != nil {
		j.base = j.size // do not try again for every packet
		j.logger.Error("the journal was not compacted", "dir", j.dir, "error", err)
	}
}

// replace writes a snapshot to a new file beside the old one, syncs it and renames
// it into place. The snapshot includes everything that was pending.
func (j *journal) replace() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.dead || j.err != nil {
		return nil
	}
	path := filepath.Join(j.dir, journalName)
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	j.gen++
	w := frameWriter{file: file, j: j}
	w.write([]byte(journalHeader))
	j.emit = w.frame
	j.snapshot()
	j.emit = nil
	w.frame()
	w.flush()
	if err := errors.Join(w.err, file.Sync()); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := os.Rename(path+".new", path); err != nil {
		return errors.Join(err, file.Close())
	}
	if j.file != nil {
		_ = j.file.Close() // all of it is in the new one
	}
	j.file, j.pending, j.size, j.base = file, nil, w.size, w.size
	return syncDir(j.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrCorrupt is what New returns for a folder whose journal is damaged before
// its end. Move the folder away to start without it. A torn end, which a
// crash leaves, is not damage.
var ErrCorrupt = errors.New("mqtttest: the journal is corrupt")

func corrupt(dir string, offset int64, why error) error {
	return fmt.Errorf("%w: %s at byte %d: %w; move the file away to start without it", ErrCorrupt, filepath.Join(dir, journalName), offset, why)
}

// frameWriter writes a snapshot in large pieces.
type frameWriter struct {
	j    *journal
	file *os.File
	buf  []byte
	size int64
	err  error
}

// frame makes a transaction of what was recorded.
func (w *frameWriter) frame() {
	if len(w.j.tx) == 0 {
		return
	}
	w.buf = appendFrame(w.buf, w.j.tx)
	w.j.tx = w.j.tx[:0]
	if len(w.buf) > 1<<20 {
		w.flush()
	}
}

func (w *frameWriter) write(b []byte) { w.buf = append(w.buf, b...) }

func (w *frameWriter) flush() {
	if w.err == nil {
		_, w.err = w.file.Write(w.buf)
	}
	w.size += int64(len(w.buf))
	w.buf = w.buf[:0]
}
