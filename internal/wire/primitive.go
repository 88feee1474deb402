package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"time"
	"unicode/utf8"
)

const maxVarint = 268_435_455

// AppendVarint appends v as a Variable Byte Integer with the fewest bytes [MQTT-1.5.5-1]. v must
// not exceed 268,435,455.
func AppendVarint(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

// Varint reads a Variable Byte Integer. n is its number of bytes. n is 0 if b ends within it, and
// -1 if it is longer than four bytes or not minimally encoded.
func Varint(b []byte) (v uint32, n int) {
	long, n := binary.Uvarint(b[:min(len(b), 4)])
	if n == 0 && len(b) >= 4 || n > 1 && b[n-1] == 0 {
		return 0, -1
	}
	return uint32(long), n
}

// VarintLen returns the number of bytes that AppendVarint needs for v: one per 7 bits.
func VarintLen(v uint32) int { return (bits.Len32(v|1) + 6) / 7 }

// AppendString appends s with its two-byte length. s must not exceed 65,535 bytes.
func AppendString[S string | []byte](dst []byte, s S) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// String splits a length-prefixed string or binary field from the start of b.
func String(b []byte) (s, rest []byte, ok bool) {
	if len(b) >= 2 {
		if end := 2 + int(binary.BigEndian.Uint16(b)); end <= len(b) {
			return b[2:end:end], b[end:], true
		}
	}
	return nil, nil, false
}

// ValidString reports whether b is valid as a UTF-8 Encoded String: well-formed UTF-8, no
// surrogates [MQTT-1.5.4-1], no U+0000 [MQTT-1.5.4-2].
func ValidString(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// Seconds returns d in whole seconds, rounded up. It returns 0 for a negative d, and at most 1<<32
// - 1.
func Seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32(min((d-1)/time.Second+1, 1<<32-1))
}
