package record

import "encoding/binary"

// The functions below append one record, without its checksum: see Seal.

func appendTag(b []byte, kind uint8, body int) []byte {
	b = append(b, 0, 0, 0, 0)
	return binary.AppendUvarint(b, uint64(body)<<5|uint64(kind))
}

// AppendReleased appends that a message was released.
func AppendReleased(b []byte, seq, rank uint64) []byte {
	var space [20]byte
	body := binary.AppendUvarint(binary.AppendUvarint(space[:0], seq), rank)
	return append(appendTag(b, KindReleased, len(body)), body...)
}

// AppendDone appends the result of a message, and its time in Unix milliseconds
// unless that is 0.
func AppendDone(b []byte, seq uint64, r Result, at int64) []byte {
	var space [22]byte
	body := append(binary.AppendUvarint(space[:0], seq), r.Kind, r.Reason)
	kind := uint8(KindDone)
	if at > 0 {
		kind = kindDoneAt
		body = binary.AppendUvarint(body, uint64(at))
	}
	return append(appendTag(b, kind, len(body)), body...)
}

// AppendSent appends the sent watermark of a priority, which only rises.
func AppendSent(b []byte, priority uint8, number uint64) []byte {
	var space [11]byte
	body := binary.AppendUvarint(append(space[:0], priority), number)
	return append(appendTag(b, KindSent, len(body)), body...)
}

// AppendSentAll appends the sent watermarks of all priorities, which may be lower
// than before.
func AppendSentAll(b []byte, sent [Priorities]uint64) []byte {
	var space [31]byte
	body := append(space[:0], Priorities)
	for _, number := range sent {
		body = binary.AppendUvarint(body, number)
	}
	return append(appendTag(b, KindSent, len(body)), body...)
}

// AppendIdentifier appends KindSeen or KindCleared.
func AppendIdentifier(b []byte, kind uint8, id uint16) []byte {
	var space [3]byte
	body := binary.AppendUvarint(space[:0], uint64(id))
	return append(appendTag(b, kind, len(body)), body...)
}

// AppendReset appends that a new session of this ClientID has begun.
func AppendReset(b []byte, clientID string) []byte {
	return append(appendTag(b, KindReset, len(clientID)), clientID...)
}

// AppendStream appends the name of a named sequence.
func AppendStream(b []byte, id uint32, name string) []byte {
	var space [5]byte
	num := binary.AppendUvarint(space[:0], uint64(id))
	return append(append(appendTag(b, KindStream, len(num)+len(name)), num...), name...)
}

// AppendCheckpoint appends a checkpoint.
func AppendCheckpoint(b, body []byte) []byte {
	return append(appendTag(b, KindCheckpoint, len(body)), body...)
}
