package record

import "time"

// Times are stored as Unix milliseconds, within 18 million years. Never is apart
// from any time.
const (
	Never     = -1 << 63
	MaxMillis = 1 << 59
)

// Millis returns a time in milliseconds, and Never for the zero time.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return Never
	}
	const maxSeconds = MaxMillis / 1000
	if s := t.Unix(); s < -maxSeconds || s > maxSeconds {
		return max(-maxSeconds, min(maxSeconds, s)) * 1000
	}
	return t.UnixMilli()
}

// Time returns the time of ms, and the zero time for Never.
func Time(ms int64) time.Time {
	if ms == Never {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
