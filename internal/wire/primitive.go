package wire

import (
	"bytes"
	"encoding/binary"
	"time"
	"unicode/utf8"
)

const maxVarint = 268_435_455

// AppendVarint appends v as a Variable Byte Integer in the fewest bytes
// [MQTT-1.5.5-1]. v must not exceed 268,435,455.
func AppendVarint(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

// Varint reads a Variable Byte Integer of n bytes. n is 0 if b ends within it, and -1 if it
// is longer than four bytes or not minimally encoded.
func Varint(b []byte) (v uint32, n int) {
	for i, c := range b[:min(len(b), 4)] {
		v |= uint32(c&0x7F) << (7 * i)
		switch {
		case c == 0 && i > 0:
			return 0, -1
		case c < 0x80:
			return v, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

// VarintLen is the number of bytes that AppendVarint needs for v.
func VarintLen(v uint32) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

// AppendString appends s with its two-byte length. s must not exceed 65,535 bytes.
func AppendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// String cuts a length-prefixed string or binary field off b.
func String(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n : 2+n], b[2+n:], true
}

// ValidString reports whether b may stand in a UTF-8 Encoded String:
// well-formed, no surrogates [MQTT-1.5.4-1], no U+0000 [MQTT-1.5.4-2].
func ValidString(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// Seconds returns d in whole seconds, as MQTT carries it: rounded up, 0 for less than
// 0, and at most 1<<32 - 1.
func Seconds(d time.Duration) uint32 {
	n := d / time.Second
	if d%time.Second > 0 {
		n++
	}
	return uint32(min(max(n, 0), 1<<32-1))
}
