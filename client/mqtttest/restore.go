package mqtttest

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// restore loads the state that the last broker has left in the folder. It begins a new journal with
// this state.
func (b *Broker) restore() error {
	dir := b.opts.Dir
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("mqtttest: cannot use Options.Dir: %w", err)
	}
	file, err := os.Open(filepath.Join(dir, journalName))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("mqtttest: cannot use Options.Dir: %w", err)
	default:
		err = b.replay(file)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	b.settle()
	b.log = &journal{dir: dir, sync: b.opts.Sync, slack: journalSlack, logger: b.opts.Logger, snapshot: b.snapshot}
	if err := b.log.replace(); err != nil {
		return fmt.Errorf("mqtttest: cannot write to Options.Dir: %w", err)
	}
	return nil
}

// settle starts the timers of restored sessions. The connections of the last broker count as lost
// now, because the actual time is unknown.
func (b *Broker) settle() {
	now := time.Now()
	for _, s := range slices.SortedFunc(maps.Values(b.sessions), func(x, y *session) int { return cmp.Compare(x.id, y.id) }) {
		if s.lostAt.IsZero() {
			s.lostAt = now
		}
		ends := s.lostAt.Add(time.Duration(s.expiry) * time.Second)
		if s.expiry == 0 || s.expiry != NeverExpires && !ends.After(now) {
			b.endSession(s)
		} else {
			b.await(s)
		}
	}
}

// replay loads a journal into the empty broker.
func (b *Broker) replay(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	r := newReplay(b)
	offset, err := readJournal(bufio.NewReaderSize(file, 1<<20), info.Size(), r.apply)
	if err != nil {
		return corrupt(b.opts.Dir, offset, err)
	}
	if offset < info.Size() {
		b.opts.Logger.Warn("the journal ends in a torn transaction, which was dropped", "dir", b.opts.Dir, "bytes", info.Size()-offset)
	}
	return nil
}

// readJournal calls apply with each transaction of a journal of size bytes and returns the offset
// of its end. It ignores an incomplete transaction at the end. Any other damage is an error.
func readJournal(src io.Reader, size int64, apply func(tx []byte) error) (offset int64, err error) {
	header := make([]byte, min(size, int64(len(journalHeader))))
	if _, err := io.ReadFull(src, header); err != nil {
		return 0, err
	}
	if string(header) != journalHeader {
		return 0, errors.New("the file has no journal header")
	}
	offset = int64(len(header))
	var tx []byte
	for {
		var frame [frameHeader]byte
		if size-offset < frameHeader {
			return offset, nil
		}
		if _, err := io.ReadFull(src, frame[:]); err != nil {
			return offset, err
		}
		length := int64(binary.LittleEndian.Uint32(frame[:]))
		end := offset + frameHeader + length
		if end > size {
			return offset, nil
		}
		tx = slices.Grow(tx[:0], int(length))[:length]
		if _, err := io.ReadFull(src, tx); err != nil {
			return offset, err
		}
		if crc32.Checksum(tx, castagnoli) != binary.LittleEndian.Uint32(frame[4:]) {
			if end == size {
				return offset, nil
			}
			return offset, errors.New("the checksum of a transaction does not match")
		}
		if err := apply(tx); err != nil {
			return offset, err
		}
		offset = end
	}
}
