package dedupe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Hash makes a key for a message that has no ID, from what makes it the same
// message: publisher, topic, sequence or timestamp, payload. Each part is
// preceded by its length, so that ("ab", "c") and ("a", "bc") differ. It is
// SHA-256 in URL-safe base64: 43 characters.
func Hash(parts ...[]byte) string {
	h := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	var sum [sha256.Size]byte
	return base64.RawURLEncoding.EncodeToString(h.Sum(sum[:0]))
}
