package record

import (
	"encoding/binary"
	"math"
)

// The functions below append one record without its checksum, see Seal.

// appendRecord appends a record whose body consists of numbers, followed by the bytes of rest.
func appendRecord(b []byte, kind uint8, rest []byte, numbers ...uint64) []byte {
	var space [40]byte
	body := space[:0]
	for _, n := range numbers {
		body = binary.AppendUvarint(body, n)
	}
	b = appendTag(b, kind, len(body)+len(rest))
	return append(append(b, body...), rest...)
}

func appendTag(b []byte, kind uint8, body int) []byte {
	return binary.AppendUvarint(append(b, 0, 0, 0, 0), uint64(body)<<5|uint64(kind))
}

// AppendReleased appends the record that a message was released.
func AppendReleased(b []byte, seq, rank uint64) []byte {
	return appendRecord(b, KindReleased, nil, seq, rank)
}

// AppendDone appends the result of a message. at is its time in milliseconds, or 0 for no time.
func AppendDone(b []byte, seq uint64, r Result, at int64) []byte {
	var space [12]byte
	kind, rest := uint8(KindDone), append(space[:0], r.Kind, r.Reason)
	if at > 0 {
		kind, rest = kindDoneAt, binary.AppendUvarint(rest, uint64(at))
	}
	return appendRecord(b, kind, rest, seq)
}

// AppendDeferred appends the deferral of a message.
func AppendDeferred(b []byte, seq uint64, d Deferral) []byte {
	var space [1 + maxDeferral]byte
	return appendRecord(b, kindDoneAt, d.append(append(space[:0], deferred)), seq)
}

func (d *Deferral) append(b []byte) []byte {
	attempts := uint64(d.Attempts) << 2
	if d.Alone {
		attempts |= 1
	}
	if d.GivenUp {
		attempts |= 2
	}
	b = append(b, d.Code)
	for _, n := range [...]uint64{uint64(max(d.Since, 0)), uint64(max(d.Until, 0)), attempts, uint64(d.PacketID), uint64(d.RefusedID)} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func (d *Decoder) deferral() Deferral {
	x := Deferral{Code: d.Byte(), Since: int64(d.Number(MaxMillis)), Until: int64(d.Number(MaxMillis))}
	attempts := d.Number(math.MaxUint32<<2 | 3)
	x.Attempts, x.Alone, x.GivenUp, x.PacketID = uint32(attempts>>2), attempts&1 != 0, attempts&2 != 0, uint16(d.Number(math.MaxUint16))
	x.RefusedID = uint16(d.Number(math.MaxUint16))
	return x
}

// AppendSent appends the sent watermark of a priority. It must not be lower than before.
func AppendSent(b []byte, priority uint8, number uint64) []byte {
	return appendRecord(b, KindSent, nil, uint64(priority), number)
}

// AppendSentAll appends the sent watermarks of all priorities. They may be lower than before.
func AppendSentAll(b []byte, sent [Priorities]uint64) []byte {
	return appendRecord(b, KindSent, nil, Priorities, sent[0], sent[1], sent[2])
}

// AppendSeen appends the record that the inbound message with this packet identifier was handled.
func AppendSeen(b []byte, id uint16, fingerprint uint64) []byte {
	var space [8]byte
	return appendRecord(b, KindSeen, binary.LittleEndian.AppendUint64(space[:0], fingerprint), uint64(id))
}

// AppendCleared appends the record that an inbound packet identifier is free again.
func AppendCleared(b []byte, id uint16) []byte {
	return appendRecord(b, KindCleared, nil, uint64(id))
}

// AppendReset appends the record that a new session of this ClientID has begun.
func AppendReset(b []byte, clientID string) []byte {
	return appendRecord(b, KindReset, []byte(clientID))
}

// AppendStream appends the name of a named sequence.
func AppendStream(b []byte, id uint32, name string) []byte {
	return appendRecord(b, KindStream, []byte(name), uint64(id))
}

// AppendCheckpoint appends a checkpoint.
func AppendCheckpoint(b, body []byte) []byte { return appendRecord(b, KindCheckpoint, body) }

// The flags of the optional fields of a message. The short forms of a message have no flags after the
// first two.
const (
	extExpiry = 1 << iota
	extStream
	extPriority
	extKey
	extMoved
	extReleased
	extDead
	extRank   // only with extReleased
	extPolicy // the lower of the two bits of Policy
	_         // the upper of the two bits
	extDeferred
	extAll = 1<<iota - 1
)

// flags returns the flags of the optional fields that a message has.
func (r *Record) flags() uint64 {
	flags := uint64(r.Policy) * extPolicy
	if r.Deferred {
		flags |= extDeferred
	}
	for i, has := range [...]bool{
		r.Expires != Never, r.Stream != 0, r.Priority != Normal, len(r.Key) > 0, r.Moved, r.Released, r.Dead, r.Rank != 0,
	} {
		if has {
			flags |= 1 << i
		}
	}
	return flags
}

// AppendMessage appends a message. It uses a short form if possible.
func (r *Record) AppendMessage(b []byte) []byte {
	var space [160]byte // longer keys are allocated
	flags := r.flags()
	kind := uint8(kindExtended)
	meta := append(binary.AppendUvarint(space[:0], r.Seq), r.MessageID[:]...)
	meta = binary.AppendUvarint(meta, uint64(r.Accepted))
	if flags&^(extExpiry|extStream) == 0 {
		kind = KindMessage + uint8(flags)
	} else {
		meta = binary.AppendUvarint(meta, flags)
	}
	if flags&extExpiry != 0 {
		meta = binary.AppendUvarint(meta, packDelta(r.Expires-r.Accepted))
	}
	if flags&extStream != 0 {
		meta = binary.AppendUvarint(binary.AppendUvarint(meta, uint64(r.Stream)), r.StreamSeq)
	}
	if flags&extPriority != 0 {
		meta = binary.AppendUvarint(append(meta, r.Priority), r.Number)
	}
	if flags&extKey != 0 {
		meta = append(binary.AppendUvarint(meta, uint64(len(r.Key))), r.Key...)
	}
	if flags&extDead != 0 {
		meta = binary.AppendUvarint(append(meta, r.Result.Reason), uint64(max(r.At, 0)))
	}
	if flags&extRank != 0 {
		meta = binary.AppendUvarint(meta, r.Rank)
	}
	if flags&extDeferred != 0 {
		meta = r.Deferral.append(meta)
	}
	b = appendTag(b, kind, len(meta)+len(r.Packet))
	return append(append(b, meta...), r.Packet...)
}

func (r *Record) decodeMessage(kind uint8, d *Decoder) {
	r.Kind = KindMessage
	r.Seq = d.Sequence()
	copy(r.MessageID[:], d.Take(16))
	r.Accepted = d.millis(int64(d.Number(math.MaxUint64)))
	flags := uint64(kind - KindMessage)
	if kind == kindExtended {
		flags = d.Number(extAll)
	}
	r.Moved, r.Released, r.Dead = flags&extMoved != 0, flags&extReleased != 0, flags&extDead != 0
	r.Deferred = flags&extDeferred != 0
	d.bad = d.bad || !r.Moved && (r.Released || r.Dead || r.Deferred) || r.Dead && (r.Released || r.Deferred)
	r.Policy = uint8(flags / extPolicy & 3)
	d.bad = d.bad || r.Policy > FailInFlight
	r.Expires = Never
	if flags&extExpiry != 0 {
		r.Expires = d.millis(r.Accepted + unpackDelta(d.Number(1<<62))) // at most 2 * MaxMillis after packing
	}
	if flags&extStream != 0 {
		r.Stream = uint32(d.Number(MaxStreams))
		r.StreamSeq = d.Number(math.MaxUint64)
		d.bad = d.bad || r.Stream == 0
	}
	r.Number = r.Seq
	if flags&extPriority != 0 {
		r.Priority = d.Byte()
		r.Number = d.Sequence()
		d.bad = d.bad || r.Priority == Normal || r.Priority >= Priorities
	}
	if flags&extKey != 0 {
		r.Key = d.Take(int(d.Number(MaxKey)))
		d.bad = d.bad || len(r.Key) == 0
	}
	if r.Dead {
		r.Result = Result{DeadLettered, d.Byte()}
		r.At = int64(d.Number(MaxMillis))
	}
	if flags&extRank != 0 {
		r.Rank = d.Sequence()
		d.bad = d.bad || !r.Released
	}
	if r.Deferred {
		r.Deferral = d.deferral()
	}
	r.Packet = d.Rest()
}

// packDelta encodes a duration. Whole seconds, the unit of MQTT, take fewer bytes than milliseconds.
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
