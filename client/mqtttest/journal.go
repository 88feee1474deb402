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

// journal stores the broker's state in one append-only file of transactions. Each transaction has a
// length and a CRC-32C. All changes of one event are one transaction. After a crash, the file
// therefore contains all changes of an event or none. A nil journal stores nothing.
//
// Broker.state guards tx, which collects the records of an event. commit moves the records to
// pending. flush writes pending to the operating system, once for all waiting callers. The broker
// calls flush before it sends packets.
type journal struct {
	dir      string
	sync     bool
	slack    int64
	logger   *slog.Logger
	snapshot func() // records the whole state, in transactions that end with emit

	tx   []byte
	gen  uint64 // number of compactions; see message.logged
	emit func() // ends a transaction, during a snapshot
	base int64  // size after the last compaction
	size int64  // size including pending

	writing sync.Mutex // locked before mu
	mu      sync.Mutex // guards the following fields
	file    *os.File
	pending []byte
	err     error // the first failure; the journal writes nothing after it
	dead    bool  // the broker was killed; the journal skips later writes without an error
}

const (
	journalName   = "mqtttest.journal"
	journalHeader = "mqtttest journal 1\n"
	frameHeader   = 8
	// journalSlack is a number of bytes. A journal is compacted when it is larger than twice its
	// size after the last compaction plus journalSlack.
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

// commit makes one transaction of the event's records.
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
		j.tx = nil // do not keep the memory of a burst
	}
}

// flush writes all transactions that were committed before the call.
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

// kill discards unwritten transactions, like the end of the process.
func (j *journal) kill() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.dead, j.pending = true, nil
}

// close writes the remaining transactions.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	err := j.flush()
	if errors.Is(err, errKilled) {
		err = nil
	}
	j.kill() // goroutines that still run write nothing more
	return errors.Join(err, j.file.Close())
}

// compact replaces a large journal by a snapshot. After a failure the old journal is kept.
func (j *journal) compact() {
	if j == nil || j.size <= 2*j.base+j.slack {
		return
	}
	if err := j.replace(); err != nil {
		j.base = j.size // do not retry for every packet
		j.logger.Error("the journal was not compacted", "dir", j.dir, "error", err)
	}
}

// replace writes a snapshot to a new file, syncs it, and renames it over the old one. The snapshot
// includes all pending transactions.
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
		_ = j.file.Close() // its content is in the new file
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

// ErrCorrupt is the error of New if a journal is damaged before its end. An incomplete last
// transaction is not damage, because a crash can leave one. To start without the journal, move the
// folder away.
var ErrCorrupt = errors.New("mqtttest: the journal is corrupt")

func corrupt(dir string, offset int64, why error) error {
	return fmt.Errorf("%w: %s at byte %d: %w; move the file away to start without it", ErrCorrupt, filepath.Join(dir, journalName), offset, why)
}

// frameWriter writes a snapshot in large blocks.
type frameWriter struct {
	j    *journal
	file *os.File
	buf  []byte
	size int64
	err  error
}

// frame makes a transaction of the records.
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
