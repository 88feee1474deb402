package dedupe

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// The log is a header and records, numbers big endian:
//
//	magic   4  "mdd1": a record begins; what is searched for after damage
//	length  2  of the key; 0 for a record that only tells the time
//	crc     4  CRC-32C of everything after it and of the length
//	clock   8  nanoseconds on the log's own clock, which stands still or is
//	           put forward while nobody has the log open
//	wall    8  Unix nanoseconds, to measure how long nobody had it open
//	key
const (
	header      = "mooring dedupe 1\n"
	recordMagic = "mdd1"
	recordHead  = 4 + 2 + 4 + 8 + 8
	maxClock    = 1 << 61 // 73 years; so sums with a TTL do not overflow
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type record struct {
	clock time.Duration
	wall  int64
	key   string
}

func recordSize(key string) int { return recordHead + len(key) }

func appendRecord(b []byte, clock time.Duration, wall int64, key string) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(clock))
	b = binary.BigEndian.AppendUint64(b, uint64(wall))
	b = append(b, key...)
	binary.BigEndian.PutUint32(b[start+6:], checksum(b[start:]))
	return b
}

// checksum covers the length before the checksum's own place and all behind it.
func checksum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[4:6], castagnoli), castagnoli, rec[10:])
}

// parseRecord reads the record at the start of b; ok is false if there is no
// whole and undamaged one.
func parseRecord(b []byte) (r record, size int, ok bool) {
	if len(b) < recordHead || string(b[:4]) != recordMagic {
		return record{}, 0, false
	}
	size = recordHead + int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < size || binary.BigEndian.Uint32(b[6:]) != checksum(b[:size]) {
		return record{}, 0, false
	}
	r.clock = time.Duration(binary.BigEndian.Uint64(b[10:]))
	if r.clock < 0 || r.clock > maxClock {
		return record{}, 0, false
	}
	r.wall = int64(binary.BigEndian.Uint64(b[18:]))
	r.key = string(b[recordHead:size])
	return r, size, true
}

// scanResult is what a log holds.
type scanResult struct {
	records []record
	good    int // offset behind the last whole record
	corrupt int // damaged stretches with whole records behind them
}

// scan reads all it can. Damage is skipped by looking for the next whole record;
// without one behind it, it is the torn tail and not counted as corrupt.
func scan(b []byte) scanResult {
	var s scanResult
	off := 0
	if bytes.HasPrefix(b, []byte(header)) {
		off = len(header)
		s.good = off
	}
	for off < len(b) {
		r, size, ok := parseRecord(b[off:])
		if ok {
			if off != s.good {
				s.corrupt++
			}
			s.records = append(s.records, r)
			off += size
			s.good = off
			continue
		}
		next := bytes.Index(b[off+1:], []byte(recordMagic))
		if next < 0 {
			break
		}
		off += 1 + next
	}
	return s
}

// clock is the log's own time: where it stood when the log was opened, plus the
// monotonic time since.
type clock struct {
	base   time.Duration
	opened time.Time
}

func (c clock) now() time.Duration { return c.base + time.Since(c.opened) }

// rebase starts the clock of a log anew when it is about to run out, after 36
// years or by damage; all keys count as young then. It reports whether it did.
func rebase(records []record) bool {
	for i := range records {
		if records[i].clock > maxClock/2 {
			for j := range records {
				records[j].clock = 0
			}
			return true
		}
	}
	return false
}

// resume continues the clock of a log that stopped at the records' last time.
func resume(records []record, ttl time.Duration, now time.Time) clock {
	c := clock{opened: now}
	if len(records) == 0 {
		return c
	}
	for _, r := range records {
		c.base = max(c.base, r.clock)
	}
	down := time.Unix(0, records[len(records)-1].wall)
	// Sub saturates; a wall clock that was set back counts as no time at all.
	away := max(0, now.Round(0).Sub(down))
	if ttl > 0 {
		away = min(away, ttl/2)
	} else {
		away = 0
	}
	c.base += away
	return c
}
