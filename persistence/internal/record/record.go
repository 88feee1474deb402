// Package record encodes and decodes the records of the log. docs/format.md describes their bytes and
// their meaning.
package record

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// FormatVersion is the format version that this release writes, and the newest that it can read.
const FormatVersion = 4

// Record is a record of the log. Its encoding is
//
//	checksum  4 bytes  CRC-32C of the rest, with a seed, see checksum
//	tag       varint   length of the body << 5 | fence << 4 | kind
//	body
//
// The fence bit means that all earlier bytes of the segment were synced before the record was
// written. It distinguishes damage from a torn write.
//
// The comments name the kinds of records that have a field.
type Record struct {
	Kind  uint8 // KindMessage for all messages, KindDone for all results, KindCheckpoint for both versions
	Fence bool
	Size  int // of the whole record

	Seq         uint64 // message, released, done, deferred
	Result      Result // done; moved dead letter
	At          int64  // done, if known; moved dead letter
	ID          uint16 // seen, cleared
	Fingerprint uint64 // seen: fingerprint of the message; 0: a format version before 4 did not record it
	Stream      uint32 // message, stream
	Name        string // stream; reset: the ClientID
	Priority    uint8  // message, sent; Priorities means that Sent has all watermarks
	Number      uint64 // message, sent
	Sent        [Priorities]uint64
	Rank        uint64 // released; moved message that is released
	Deferral           // deferred; moved message that is deferred
	Body        []byte // checkpoint
	Version1    bool   // checkpoint: of format version 1

	Message // message
}

// Message contains the fields that only the record of a message has.
type Message struct {
	MessageID         [16]byte
	Accepted, Expires int64 // Unix milliseconds; Expires may be Never
	StreamSeq         uint64
	Key               []byte
	Moved             bool // copied from a segment that is to be removed
	Released, Dead    bool // of moved messages only
	Deferred          bool // of moved messages only
	Policy            uint8
	Packet            []byte
}

// Deferral describes why and until when a message is not sent. Times are in Unix milliseconds.
type Deferral struct {
	Since, Until int64
	Attempts     uint32
	Alone        bool
	GivenUp      bool   // not sent again; PUBREL for PacketID must still be answered
	Code         uint8  // the last reason code
	PacketID     uint16 // under which it may have been sent in this session; 0: it was not sent
	RefusedID    uint16 // refused as already in use; 0: no identifier was refused
}

// Result is the final state of a message.
type Result struct{ Kind, Reason uint8 }

// The kinds of results. Discarded and deferred exist only on disk. Discarded ends a dead letter.
// deferred is not a result: its record is decoded as KindDeferred.
const (
	Acked = 1 + iota
	Refused
	Expired
	Dropped
	DeadLettered
	Discarded
	deferred

	LastResult = DeadLettered
)

// IsResult reports whether kind is a possible result of a message.
func IsResult(kind uint8) bool { return kind >= Acked && kind <= LastResult }

// The priorities, and the policies for a lost session.
const (
	Normal     = 0
	Urgent     = 2
	Priorities = 3

	Republish    = 1
	FailInFlight = 2
)

// The kinds of records. 0 is not a kind, so zeros are not a record. The kind of a message in short
// form contains its optional fields: KindMessage + extExpiry + extStream.
const (
	KindMessage    = 1
	KindReleased   = 5
	KindDone       = 6
	KindSeen       = 7
	KindCleared    = 8
	KindReset      = 9
	KindStream     = 10
	kindVersion1   = 11 // a checkpoint of format version 1
	kindExtended   = 12 // a message with any of the optional fields; flags follow
	KindSent       = 13
	kindDoneAt     = 14 // done, with its time
	KindCheckpoint = 15
	KindDeferred   = 16 // encoded as kindDoneAt
)

// Bounds that are part of the format.
const (
	MaxSequence    = 1 << 62
	MaxPacketBytes = 268_435_000 // the length of a body has 28 bits
	MaxStreams     = 65_536
	MaxStreamName  = 1024
	MaxKey         = 1024
	MaxClientID    = 65_535

	// MinMessage is the size of the smallest record of a message. MaxOverhead is the largest size
	// of a record without its packet, and Overhead a typical one.
	MinMessage  = minRecord + 1 + 16 + 1
	MaxOverhead = checksumSize + maxTagSize + 10 + 16 + 10 + 2 + 10 + 5 + 10 + 1 + 10 + 2 + MaxKey + 1 + 10 + maxDeferral
	Overhead    = 40

	checksumSize  = 4
	fenceBit      = 1 << 4
	maxTagSize    = 5
	maxDeferral   = 1 + 10 + 10 + 5 + 3 + 3
	minRecord     = checksumSize + 1
	maxCheckpoint = 30*10 + MaxStreams*(MaxStreamName+13) + 1<<16*(3+8) + 16 + MaxClientID

	// MaxPrefix is the number of bytes that ParseTag and Sequence need.
	MaxPrefix = checksumSize + maxTagSize + 10
)

// ErrInvalid is returned for bytes that are not a record.
var ErrInvalid = errors.New("not a valid record")

// Castagnoli is the table of all checksums. Tests replace it.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC returns the CRC-32C of b.
func CRC(b []byte) uint32 { return crc32.Checksum(b, Castagnoli) }

// checksum returns the checksum of a record. It depends on the segment and the offset, so the bytes
// of the record are not valid at another place. This matters for a packet that contains a copy of a
// log.
func checksum(segment uint64, off int64, afterSum []byte) uint32 {
	seed := uint32((segment*0x9e3779b97f4a7c15)>>32) ^ uint32(off)*0x9e3779b1
	return crc32.Update(seed, Castagnoli, afterSum)
}

// Valid reports whether b, a complete record, has the checksum for its place.
func Valid(b []byte, segment uint64, off int64) bool {
	return binary.LittleEndian.Uint32(b) == checksum(segment, off, b[checksumSize:])
}

// Seal completes the records in buf for writing at off. fence applies to the first record.
func Seal(buf []byte, segment uint64, off int64, fence bool) {
	for len(buf) > 0 {
		size, _ := ParseTag(buf)
		if buf[checksumSize] &^= fenceBit; fence {
			buf[checksumSize] |= fenceBit
			fence = false
		}
		binary.LittleEndian.PutUint32(buf, checksum(segment, off, buf[checksumSize:size]))
		buf = buf[size:]
		off += int64(size)
	}
}

// ParseTag returns the size of the record that begins with b, and false if there is no record.
func ParseTag(b []byte) (size int, ok bool) {
	_, _, size, ok = parseTag(b)
	return size, ok
}

type limits struct{ least, most int64 }

var messageBody = limits{MinMessage - minRecord, MaxPacketBytes + MaxOverhead}

// bodies lists the allowed lengths of the body, by kind.
var bodies = [16]limits{
	KindMessage:                         messageBody,
	KindMessage + extExpiry:             messageBody,
	KindMessage + extStream:             messageBody,
	KindMessage + extExpiry + extStream: messageBody,
	kindExtended:                        messageBody,
	KindReleased:                        {1, 20},
	KindDone:                            {3, 12},
	kindDoneAt:                          {4, 48},
	KindSent:                            {2, 31},
	KindSeen:                            {1, 3 + 8},
	KindCleared:                         {1, 3},
	KindReset:                           {0, MaxClientID},
	KindStream:                          {2, 5 + MaxStreamName},
	KindCheckpoint:                      {1, maxCheckpoint},
	kindVersion1:                        {1, maxCheckpoint},
}

func parseTag(b []byte) (kind uint8, body, size int, ok bool) {
	if len(b) < minRecord {
		return 0, 0, 0, false
	}
	tag, n := binary.Uvarint(b[checksumSize:min(len(b), checksumSize+maxTagSize)])
	kind, body = uint8(tag&15), checksumSize+n
	length, allowed := int64(tag>>5), bodies[kind]
	if n <= 0 || kind == 0 || length < allowed.least || length > allowed.most {
		return 0, 0, 0, false
	}
	return kind, body, body + int(length), true
}

// Sequence returns the sequence in the record that begins with b. It returns 0 for a record without a
// sequence, and false for an invalid record. b has at least MaxPrefix bytes, unless the file ends.
func Sequence(b []byte) (seq uint64, ok bool) {
	kind, body, _, ok := parseTag(b)
	if !ok || kind > KindDone && kind != kindExtended && kind != kindDoneAt {
		return 0, ok
	}
	d := Decoder{B: b[body:]}
	seq = d.Sequence()
	return seq, !d.bad
}

// Times are in Unix milliseconds. They differ from 1970 by at most 18 million years, which is
// MaxMillis. Never is outside the range of times.
const (
	Never     = -1 << 63
	MaxMillis = 1 << 59
)

// Millis converts a time to Unix milliseconds. It returns Never for the zero time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return Never
	}
	const maxSeconds = MaxMillis / 1000
	if s := t.Unix(); s < -maxSeconds || s > maxSeconds {
		return max(-maxSeconds, min(maxSeconds, s)) * 1000
	}
	return t.UnixMilli()
}

// Time converts Unix milliseconds to a time. It returns the zero time for Never.
func Time(ms int64) time.Time {
	if ms == Never {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
