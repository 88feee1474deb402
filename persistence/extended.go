package persistence

import "encoding/binary"

// What an extended message has, beside what every message has.
const (
	extExpiry = 1 << iota
	extStream
	extPriority
	extKey
	extMoved
	extReleased
	extDead
	extRank // only with extReleased
	extRepublish
	extFail // not with extRepublish
	extAll  = 1<<iota - 1
)

// appendMessage takes a message that is being accepted. number is its place
// among those of its priority.
func appendMessage(b []byte, seq, number uint64, m *Message, accepted, expires int64) []byte {
	var space [64]byte
	if m.Priority != Normal || m.Key != "" || m.OnSessionLost != AsConfigured {
		return appendExtended(b, seq, number, m, accepted, expires)
	}
	kind := uint8(kindMessage)
	meta := binary.AppendUvarint(space[:0], seq)
	meta = append(meta, m.ID[:]...)
	meta = binary.AppendUvarint(meta, uint64(accepted))
	if expires != never {
		kind += hasExpiry
		meta = binary.AppendUvarint(meta, packDelta(expires-accepted))
	}
	if m.Stream != 0 {
		kind += hasStream
		meta = binary.AppendUvarint(meta, uint64(m.Stream))
		meta = binary.AppendUvarint(meta, m.StreamSeq)
	}
	b = appendTag(b, kind, len(meta)+len(m.Packet))
	b = append(b, meta...)
	return append(b, m.Packet...)
}

func appendExtended(b []byte, seq, number uint64, m *Message, accepted, expires int64) []byte {
	r := record{seq: seq, number: number, priority: m.Priority, stream: m.Stream}
	r.message = recordMessage{id: m.ID, accepted: accepted, expires: expires, streamSeq: m.StreamSeq, key: []byte(m.Key), lost: m.OnSessionLost, packet: m.Packet}
	return r.appendExtended(b)
}

// appendExtended writes a message with whatever it has.
func (r *record) appendExtended(b []byte) []byte {
	m := &r.message
	flags := uint64(0)
	for _, f := range []struct {
		has bool
		bit uint64
	}{{m.expires != never, extExpiry}, {r.stream != 0, extStream}, {r.priority != Normal, extPriority}, {len(m.key) > 0, extKey},
		{m.moved, extMoved}, {m.released, extReleased}, {m.dead, extDead}, {r.rank != 0, extRank}, {m.lost == Republish, extRepublish}, {m.lost == FailInFlight, extFail}} {
		if f.has {
			flags |= f.bit
		}
	}
	var space [160]byte // longer keys are allocated for
	meta := binary.AppendUvarint(space[:0], r.seq)
	meta = append(meta, m.id[:]...)
	meta = binary.AppendUvarint(meta, uint64(m.accepted))
	meta = binary.AppendUvarint(meta, flags)
	if flags&extExpiry != 0 {
		meta = binary.AppendUvarint(meta, packDelta(m.expires-m.accepted))
	}
	if flags&extStream != 0 {
		meta = binary.AppendUvarint(meta, uint64(r.stream))
		meta = binary.AppendUvarint(meta, m.streamSeq)
	}
	if flags&extPriority != 0 {
		meta = append(meta, byte(r.priority))
		meta = binary.AppendUvarint(meta, r.number)
	}
	if flags&extKey != 0 {
		meta = binary.AppendUvarint(meta, uint64(len(m.key)))
		meta = append(meta, m.key...)
	}
	if flags&extDead != 0 {
		meta = append(meta, r.outcome.Reason)
		meta = binary.AppendUvarint(meta, uint64(max(r.at, 0)))
	}
	if flags&extRank != 0 {
		meta = binary.AppendUvarint(meta, r.rank)
	}
	b = appendTag(b, kindExtended, len(meta)+len(m.packet))
	b = append(b, meta...)
	return append(b, m.packet...)
}

func (m *recordMessage) decodeExtended(r *record, d *decoder) {
	r.kind = kindMessage
	r.seq = d.sequence()
	copy(m.id[:], d.take(16))
	m.decodeAccepted(d)
	flags := d.number(extAll)
	m.moved, m.released, m.dead = flags&extMoved != 0, flags&extReleased != 0, flags&extDead != 0
	d.bad = d.bad || !m.moved && (m.released || m.dead) || m.released && m.dead
	switch flags & (extRepublish | extFail) {
	case extRepublish:
		m.lost = Republish
	case extFail:
		m.lost = FailInFlight
	case extRepublish | extFail:
		d.bad = true
	}
	if flags&extExpiry != 0 {
		m.decodeExpires(d)
	}
	if flags&extStream != 0 {
		m.decodeStream(r, d)
	}
	r.number = r.seq
	if flags&extPriority != 0 {
		r.priority = Priority(d.byte())
		r.number = d.sequence()
		d.bad = d.bad || r.priority == Normal || r.priority >= Priorities
	}
	if flags&extKey != 0 {
		m.key = d.take(int(d.number(maxKey)))
		d.bad = d.bad || len(m.key) == 0
	}
	if m.dead {
		r.outcome = Result{Kind: DeadLettered, Reason: d.byte()}
		r.at = int64(d.number(maxMillis))
	}
	if flags&extRank != 0 {
		r.rank = d.sequence()
		d.bad = d.bad || !m.released
	}
	m.packet = d.rest()
}
