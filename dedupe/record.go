package dedupe

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"
)

// The log consists of a header and records. Numbers are big-endian:
//
//	magic   4  "mdd1": a key; "mdo1": the log was opened or rewritten
//	length  2  of the key; 0 in a record that only stores the time
//	crc     4  CRC-32C of the length and of everything after the checksum
//	clock   8  nanoseconds on the clock of the log, which stands still, or jumps
//	           forward, while the log is closed
//	wall    8  Unix nanoseconds, to measure how long the log was closed
//	key        "mdo1": 8 bytes, a number above all tokens of earlier
//	           processes
const (
	header     = "mooring dedupe 1\n"
	magicStart = "md" // start of both magics; searched for after damage
	keyMagic   = "mdd1"
	openMagic  = "mdo1"
	recordHead = 4 + 2 + 4 + 8 + 8
	maxClock   = 1 << 61 // 73 years; sums with a TTL do not overflow

	// tokensPerOpen is the number of tokens reserved for one process. A process that makes more
	// claims would use tokens of the next process. The number suffices for 127 days at 100,000
	// claims per second.
	tokensPerOpen = 1 << 40
	maxBaseToken  = 1 << 62 // 4 million openings
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type record struct {
	clock time.Duration
	wall  int64
	key   string // empty in an open record, and in one that only stores the time
	base  uint64 // of an open record
}

func appendRecord(b []byte, clock time.Duration, wall int64, key string) []byte {
	start := len(b)
	b = append(b, keyMagic...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(clock))
	b = binary.BigEndian.AppendUint64(b, uint64(wall))
	b = append(b, key...)
	binary.BigEndian.PutUint32(b[start+6:], checksum(b[start:]))
	return b
}

func appendOpenRecord(b []byte, clock time.Duration, wall int64, base uint64) []byte {
	start := len(b)
	b = appendRecord(b, clock, wall, string(binary.BigEndian.AppendUint64(nil, base)))
	copy(b[start:], openMagic) // not part of the checksum
	return b
}

// checksum covers the length and everything after the checksum.
func checksum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[4:6], castagnoli), castagnoli, rec[10:])
}

// parseRecord reads the record at the start of b. ok is false if the record is incomplete or invalid.
func parseRecord(b []byte) (r record, size int, ok bool) {
	if len(b) < recordHead || string(b[:4]) != keyMagic && string(b[:4]) != openMagic {
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
	if string(b[:4]) == keyMagic {
		r.key = string(b[recordHead:size])
		return r, size, true
	}
	if size != recordHead+8 {
		return record{}, 0, false
	}
	r.base = binary.BigEndian.Uint64(b[recordHead:])
	return r, size, r.base <= maxBaseToken
}

// scanResult is the content of a log.
type scanResult struct {
	records []record
	good    int // offset after the last valid record
	corrupt int // damaged ranges that are followed by a valid record
}

// scan reads every valid record and skips damage. If no valid record follows the damage, the damage
// is an unfinished write at the end of the log, and does not count as corrupt.
func scan(b []byte) scanResult {
	var s scanResult
	if bytes.HasPrefix(b, []byte(header)) {
		s.good = len(header)
	}
	for off := s.good; off < len(b); {
		r, size, ok := parseRecord(b[off:])
		if !ok {
			next := bytes.Index(b[off+1:], []byte(magicStart))
			if next < 0 {
				break
			}
			off += 1 + next
			continue
		}
		if off != s.good {
			s.corrupt++
		}
		s.records = append(s.records, r)
		off += size
		s.good = off
	}
	return s
}

// clock is the time of a cache. It is a base value plus the time since the cache was opened.
type clock struct {
	base   time.Duration
	opened time.Time
}

func (c clock) now() time.Duration { return c.base + time.Since(c.opened) }

// rebase restarts the clock of a log if the clock is close to its maximum. That happens after 36
// years, or because of damage. All keys then count as new. rebase reports whether it restarted the
// clock.
func rebase(records []record) bool {
	if !slices.ContainsFunc(records, func(r record) bool { return r.clock > maxClock/2 }) {
		return false
	}
	for i := range records {
		records[i].clock = 0
	}
	return true
}

// resume returns a clock for a log. The clock starts at the time of the last record, plus the time
// during which the log was closed, but adds at most half of ttl.
func resume(records []record, ttl time.Duration, now time.Time) clock {
	c := clock{opened: now}
	if len(records) == 0 {
		return c
	}
	for _, r := range records {
		c.base = max(c.base, r.clock)
	}
	down := time.Unix(0, records[len(records)-1].wall)
	// Sub does not overflow. If the wall clock was set back, the log counts as closed for no time.
	away := max(0, now.Round(0).Sub(down))
	c.base += min(away, max(ttl, 0)/2)
	return c
}
