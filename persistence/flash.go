package persistence

import "time"

// Flash returns options for storage that wears by the page: one sync for each
// window in which something happened, or for each BufferBytes, instead of one for
// each commit, and no zeros ahead. A killed process loses nothing; a power cut at
// most what was accepted in the last window. Stats.PageBytesDay tells what a day
// costs. A window below a millisecond is one.
func Flash(window time.Duration) Options {
	return Options{Sync: SyncInterval, Interval: max(window, time.Millisecond), FillBytes: -1}
}
