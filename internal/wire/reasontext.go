package wire

import "unicode/utf8"

// MaxReasonText is the number of bytes of a received Reason String that are kept.
const MaxReasonText = 1024

// ReasonText returns a received Reason String, truncated to MaxReasonText bytes at a character
// boundary.
func ReasonText[T string | []byte](text T) string {
	n := len(text)
	if n > MaxReasonText {
		for n = MaxReasonText; n > 0 && !utf8.RuneStart(text[n]); n-- {
		}
	}
	return string(text[:n])
}
