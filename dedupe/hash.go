package dedupe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Hash returns a key for a message without an ID: the SHA-256 of what identifies
// the message, such as publisher, topic, sequence number or timestamp, and
// payload, in URL-safe base64 (43 characters). The length of each part is hashed
// with it, so that ("ab", "c") and ("a", "bc") differ.
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
