package record

import "encoding/binary"

// Decode decodes the valid record at the beginning of b. Packet, Key and Body alias b.
func (r *Record) Decode(b []byte) error {
	kind, at, size, ok := parseTag(b)
	if !ok || size > len(b) {
		return ErrInvalid
	}
	*r = Record{Kind: kind, Fence: b[checksumSize]&fenceBit != 0, Size: size}
	d := Decoder{B: b[at:size]}
	switch kind {
	case KindReleased:
		r.Seq = d.Sequence()
		if len(d.B) > 0 { // earlier releases did not record the rank
			r.Rank = d.Sequence()
		}
	case KindDone, kindDoneAt:
		r.Kind = KindDone
		r.Seq = d.Sequence()
		r.Result.Kind = d.Byte()
		if kind == kindDoneAt && r.Result.Kind == deferred {
			r.Kind, r.Result.Kind, r.Deferral = KindDeferred, 0, d.deferral()
			break
		}
		r.Result.Reason = d.Byte()
		d.bad = d.bad || r.Result.Kind < Acked || r.Result.Kind > Discarded
		if kind == kindDoneAt {
			r.At = int64(d.Number(MaxMillis))
		}
	case KindSent:
		if r.Priority = d.Byte(); r.Priority < Priorities {
			r.Number = d.Number(MaxSequence)
			break
		}
		for p := range r.Sent {
			r.Sent[p] = d.Number(MaxSequence)
		}
		d.bad = d.bad || r.Priority > Priorities
	case KindSeen, KindCleared:
		r.ID = uint16(d.Number(1<<16 - 1))
		d.bad = d.bad || r.ID == 0
		if kind == KindSeen && len(d.B) > 0 { // format versions before 4 did not record the fingerprint
			r.Fingerprint = d.Fixed64()
		}
	case KindReset:
		r.Name = string(d.Rest())
	case KindStream:
		r.Stream = uint32(d.Number(MaxStreams))
		r.Name = string(d.Rest())
		d.bad = d.bad || r.Stream == 0 || r.Name == "" || len(r.Name) > MaxStreamName
	case KindCheckpoint, kindVersion1:
		r.Kind, r.Version1 = KindCheckpoint, kind == kindVersion1
		r.Body = d.Rest()
	default:
		r.decodeMessage(kind, &d)
	}
	if !d.Done() {
		return ErrInvalid
	}
	return nil
}

// Decoder reads fields from the front of B, the body of a record. After a field is missing or
// invalid, all further fields are zero and Done returns false.
type Decoder struct {
	B   []byte
	bad bool
}

// Done reports whether all fields were valid and no bytes remain.
func (d *Decoder) Done() bool { return !d.bad && len(d.B) == 0 }

// Fail marks the body as invalid.
func (d *Decoder) Fail() { d.bad, d.B = true, nil }

// Number reads an unsigned integer of at most this value.
func (d *Decoder) Number(most uint64) uint64 {
	v, n := binary.Uvarint(d.B)
	if n <= 0 || v > most {
		d.Fail()
		return 0
	}
	d.B = d.B[n:]
	return v
}

// Sequence reads the sequence of a message, which is never 0.
func (d *Decoder) Sequence() uint64 {
	seq := d.Number(MaxSequence)
	d.bad = d.bad || seq == 0
	return seq
}

// Take reads n bytes.
func (d *Decoder) Take(n int) (t []byte) {
	if n > len(d.B) {
		d.Fail()
		return nil
	}
	t, d.B = d.B[:n], d.B[n:]
	return t
}

// Byte reads one byte.
func (d *Decoder) Byte() byte {
	if t := d.Take(1); t != nil {
		return t[0]
	}
	return 0
}

// Fixed64 reads an integer of eight bytes.
func (d *Decoder) Fixed64() uint64 {
	if t := d.Take(8); t != nil {
		return binary.LittleEndian.Uint64(t)
	}
	return 0
}

// Rest reads the remaining bytes.
func (d *Decoder) Rest() []byte { return d.Take(len(d.B)) }

// millis checks a time.
func (d *Decoder) millis(ms int64) int64 {
	d.bad = d.bad || ms < -MaxMillis || ms > MaxMillis
	return ms
}
