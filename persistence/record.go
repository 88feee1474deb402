package persistence

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// FormatVersion is the version of the files this release writes, and the newest
// that it reads.
const FormatVersion = 2

// A record is
//
//	checksum  4 bytes  CRC-32C of what follows, see seed
//	tag       varint   length of the body << 5 | fence << 4 | kind
//	body
//
// The fence says that everything before the record in its segment had been
// synced when it was written. It is what tells damage from a torn write.
type record struct {
	kind  uint8 // kindMessage for all messages, kindDone for all outcomes
	fence bool
	size  int // of the whole record

	seq      uint64   // message, released, done
	outcome  Result   // done; of a moved dead letter
	at       int64    // done, when it is noted; of a moved dead letter
	id       uint16   // seen, cleared
	stream   uint32   // message, stream
	name     string   // stream; the ClientID of a reset
	priority Priority // of a sent record, Priorities: sent says all
	number   uint64   // message, sent
	sent     [Priorities]uint64
	rank     uint64 // released; of a moved message that is released
	message  recordMessage
	body     []byte // checkpoint
}

type recordMessage struct {
	id                [16]byte
	accepted, expires int64
	streamSeq         uint64
	key               []byte
	moved             bool // written before, to a segment that is to go
	released, dead    bool // moved ones only
	lost              SessionLostPolicy
	packet            []byte
}

// The kinds; 0 is none, so that zeros are no record. A message's kind tells
// which optional fields it has: kindMessage + hasExpiry + hasStream.
const (
	kindMessage     = 1
	hasExpiry       = 1
	hasStream       = 2
	kindReleased    = 5
	kindDone        = 6
	kindSeen        = 7
	kindCleared     = 8
	kindReset       = 9 // with the ClientID
	kindStream      = 10
	kindCheckpoint1 = 11 // of format version 1
	kindExtended    = 12 // a message with any of the fields there are
	kindSent        = 13
	kindDoneAt      = 14 // done, and when
	kindCheckpoint  = 15
)

const (
	checksumSize   = 4
	fenceBit       = 1 << 4
	maxTagSize     = 5
	minRecord      = checksumSize + 1
	minMessage     = checksumSize + 1 + 1 + 16 + 1
	maxMeta        = checksumSize + maxTagSize + 10 + 16 + 10 + 2 + 10 + 5 + 10 + 1 + 10 + 2 + maxKey + 1 + 10 // of a message, beside its packet
	maxSequence    = 1 << 62
	recordOverhead = 40 // of a usual message, beside its packet
	maxClientID    = 65_535
	maxCheckpoint  = 30*10 + maxStreams*(maxStreamName+13) + 1<<16*3 + maxClientID
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("not a valid record")

// seed ties a checksum to the segment and the place in it, so that a record's
// image is valid nowhere else: not within a packet that carries a copy of a log.
func seed(segment uint64, off int64) uint32 {
	return uint32((segment*0x9e3779b97f4a7c15)>>32) ^ uint32(off)*0x9e3779b1
}

func checksum(segment uint64, off int64, afterSum []byte) uint32 {
	return crc32.Update(seed(segment, off), castagnoli, afterSum)
}

// seal completes the records in buf for writing at off. Only the first of them
// may be a fence.
func seal(buf []byte, segment uint64, off int64, fence bool) {
	for len(buf) > 0 {
		_, _, size, _ := parseTag(buf)
		buf[checksumSize] &^= fenceBit
		if fence {
			buf[checksumSize] |= fenceBit
			fence = false
		}
		binary.LittleEndian.PutUint32(buf, checksum(segment, off, buf[checksumSize:size]))
		buf = buf[size:]
		off += int64(size)
	}
}

func appendTag(b []byte, kind uint8, body int) []byte {
	b = append(b, 0, 0, 0, 0)
	return binary.AppendUvarint(b, uint64(body)<<5|uint64(kind))
}

// parseTag returns the kind, where the body begins and the size of the record;
// ok is false when no record begins like b.
func parseTag(b []byte) (kind uint8, body, size int, ok bool) {
	if len(b) < minRecord {
		return 0, 0, 0, false
	}
	tag, n := binary.Uvarint(b[checksumSize:min(len(b), checksumSize+maxTagSize)])
	if n <= 0 {
		return 0, 0, 0, false
	}
	kind, body = uint8(tag&15), checksumSize+n
	length := int64(tag >> 5)
	var lo, hi int64
	switch kind {
	case kindMessage, kindMessage + hasExpiry, kindMessage + hasStream, kindMessage + hasExpiry + hasStream, kindExtended:
		lo, hi = minMessage-minRecord, maxPacketBytes+maxMeta
	case kindReleased:
		lo, hi = 1, 20
	case kindDone:
		lo, hi = 3, 12
	case kindDoneAt:
		lo, hi = 4, 22
	case kindSent:
		lo, hi = 2, 31
	case kindSeen, kindCleared:
		lo, hi = 1, 3
	case kindReset:
		lo, hi = 0, maxClientID
	case kindStream:
		lo, hi = 2, 5+maxStreamName
	case kindCheckpoint, kindCheckpoint1:
		lo, hi = 1, maxCheckpoint
	default:
		return 0, 0, 0, false
	}
	if length < lo || length > hi {
		return 0, 0, 0, false
	}
	return kind, body, body + int(length), true
}

// packDelta stores whole seconds, the unit of MQTT's Message Expiry Interval,
// in fewer bytes than milliseconds.
func packDelta(ms int64) uint64 {
	unit := uint64(1)
	if ms%1000 == 0 {
		ms, unit = ms/1000, 0
	}
	return uint64(ms<<1^ms>>63)<<1 | unit
}

func unpackDelta(u uint64) int64 {
	v := int64(u>>2) ^ -int64(u>>1&1)
	if u&1 == 0 {
		v *= 1000
	}
	return v
}

func appendReleased(b []byte, seq, rank uint64) []byte {
	var space [20]byte
	body := binary.AppendUvarint(binary.AppendUvarint(space[:0], seq), rank)
	return append(appendTag(b, kindReleased, len(body)), body...)
}

// appendDone notes when, in Unix milliseconds, unless at is 0.
func appendDone(b []byte, seq uint64, o Result, at int64) []byte {
	var space [22]byte
	body := append(binary.AppendUvarint(space[:0], seq), byte(o.Kind), o.Reason)
	if at <= 0 {
		return append(appendTag(b, kindDone, len(body)), body...)
	}
	body = binary.AppendUvarint(body, uint64(at))
	return append(appendTag(b, kindDoneAt, len(body)), body...)
}

func appendSent(b []byte, p Priority, number uint64) []byte {
	var space [11]byte
	body := binary.AppendUvarint(append(space[:0], byte(p)), number)
	return append(appendTag(b, kindSent, len(body)), body...)
}

// appendUnsent says what the marks of all priorities are now, though they were
// higher.
func appendUnsent(b []byte, sent [Priorities]uint64) []byte {
	var space [31]byte
	body := append(space[:0], Priorities)
	for _, number := range sent {
		body = binary.AppendUvarint(body, number)
	}
	return append(appendTag(b, kindSent, len(body)), body...)
}

// appendIdentifier takes kindSeen or kindCleared.
func appendIdentifier(b []byte, kind uint8, id uint16) []byte {
	var space [3]byte
	body := binary.AppendUvarint(space[:0], uint64(id))
	return append(appendTag(b, kind, len(body)), body...)
}

func appendReset(b []byte, clientID string) []byte {
	return append(appendTag(b, kindReset, len(clientID)), clientID...)
}

func appendStream(b []byte, id uint32, name string) []byte {
	var space [5]byte
	num := binary.AppendUvarint(space[:0], uint64(id))
	return append(append(appendTag(b, kindStream, len(num)+len(name)), num...), name...)
}

// decode reads the record at the beginning of b, whose checksum has been
// checked. The packet and the body alias b.
func (r *record) decode(b []byte) error {
	kind, at, size, ok := parseTag(b)
	if !ok || size > len(b) {
		return errRecord
	}
	*r = record{kind: kind, fence: b[checksumSize]&fenceBit != 0, size: size}
	d := decoder{b: b[at:size]}
	switch kind {
	case kindReleased:
		r.seq = d.sequence()
		if len(d.b) > 0 { // earlier releases did not note it
			r.rank = d.sequence()
		}
	case kindDone, kindDoneAt:
		r.kind = kindDone
		r.seq = d.sequence()
		r.outcome = Result{Kind: ResultKind(d.byte()), Reason: d.byte()}
		d.bad = d.bad || r.outcome.Kind < Acked || r.outcome.Kind > discarded
		if kind == kindDoneAt {
			r.at = int64(d.number(maxMillis))
		}
	case kindSent:
		if r.priority = Priority(d.byte()); r.priority < Priorities {
			r.number = d.number(maxSequence)
			break
		}
		for p := range r.sent {
			r.sent[p] = d.number(maxSequence)
		}
		d.bad = d.bad || r.priority > Priorities
	case kindSeen, kindCleared:
		r.id = uint16(d.number(1<<16 - 1))
		d.bad = d.bad || r.id == 0
	case kindReset:
		r.name = string(d.rest())
	case kindStream:
		r.stream = uint32(d.number(maxStreams))
		r.name = string(d.rest())
		d.bad = d.bad || r.stream == 0 || r.name == "" || len(r.name) > maxStreamName
	case kindCheckpoint, kindCheckpoint1:
		r.body = d.rest()
	case kindExtended:
		r.message.expires = never
		r.message.decodeExtended(r, &d)
	default:
		r.message.decode(r, &d)
	}
	if d.bad || len(d.b) > 0 {
		return errRecord
	}
	return nil
}

func (m *recordMessage) decode(r *record, d *decoder) {
	flags := r.kind - kindMessage
	r.kind = kindMessage
	r.seq = d.sequence()
	copy(m.id[:], d.take(16))
	m.decodeAccepted(d)
	m.expires = never
	r.number = r.seq
	if flags&hasExpiry != 0 {
		m.decodeExpires(d)
	}
	if flags&hasStream != 0 {
		m.decodeStream(r, d)
	}
	m.packet = d.rest()
}

func (m *recordMessage) decodeAccepted(d *decoder) {
	m.accepted = int64(d.number(1<<64 - 1))
	d.bad = d.bad || m.accepted < -maxMillis || m.accepted > maxMillis
}

func (m *recordMessage) decodeExpires(d *decoder) {
	m.expires = m.accepted + unpackDelta(d.number(1<<62)) // no more than 2 * maxMillis, packed
	d.bad = d.bad || m.expires < -maxMillis || m.expires > maxMillis
}

func (m *recordMessage) decodeStream(r *record, d *decoder) {
	r.stream = uint32(d.number(maxStreams))
	m.streamSeq = d.number(1<<64 - 1)
	d.bad = d.bad || r.stream == 0
}

// decoder takes fields off the front of b; after the first that is not there,
// bad is true and all others are zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) number(most uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > most {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// sequence reads a message's sequence, which is never 0.
func (d *decoder) sequence() uint64 {
	seq := d.number(maxSequence)
	d.bad = d.bad || seq == 0
	return seq
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	t := d.b[:n]
	d.b = d.b[n:]
	return t
}

func (d *decoder) byte() byte {
	if t := d.take(1); t != nil {
		return t[0]
	}
	return 0
}

func (d *decoder) rest() []byte {
	t := d.b
	d.b = nil
	return t
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
