package presence

import "encoding/hex"

// BootID tells one life of a device from the next: a UUID, made when its client
// is. The zero BootID means that none was given.
type BootID [16]byte

// IsZero reports whether no boot was given.
func (b BootID) IsZero() bool { return b == BootID{} }

// String is the canonical text form of the UUID, in lower case; "" for the zero
// BootID.
func (b BootID) String() string {
	if b.IsZero() {
		return ""
	}
	return string(b.append(nil))
}

func (b BootID) append(dst []byte) []byte {
	for i, n := range []int{4, 6, 8, 10, 16} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, b[[]int{0, 4, 6, 8, 10}[i]:n])
	}
	return dst
}

// ParseBootID reads the canonical text form of a UUID, 36 characters in either
// case. ok is false for all else, and for the nil UUID.
func ParseBootID(text string) (b BootID, ok bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return BootID{}, false
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(b[:], []byte(digits)); err != nil {
		return BootID{}, false
	}
	return b, !b.IsZero()
}
