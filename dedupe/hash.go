package dedupe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Hash returns a key for a message without an ID. The parts are the values that identify the
// message: the publisher, the topic, a sequence number or timestamp, and the payload. The key is
// the SHA-256 of the parts in URL-safe base64, which has 43 characters. Hash includes the length of
// each part, so ("ab", "c") and ("a", "bc") have different keys.
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
