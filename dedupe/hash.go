package dedupe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Hash returns a key for a message without an ID. parts are the values that identify the message:
// publisher, topic, sequence number or timestamp, payload. The key is their SHA-256 in URL-safe
// base64 (43 characters). Each part is hashed with its length, so ("ab", "c") and ("a", "bc") have
// different keys.
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
