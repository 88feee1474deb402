package wire

import "unicode/utf8"

// MaxReasonText is how many bytes of a received Reason String are kept.
const MaxReasonText = 1024

// ReasonText returns a received Reason String, cut to MaxReasonText bytes, not within a character.
func ReasonText[T string | []byte](text T) string {
	n := len(text)
	if n > MaxReasonText {
		for n = MaxReasonText; n > 0 && !utf8.RuneStart(text[n]); n-- {
		}
	}
	return string(text[:n])
}
