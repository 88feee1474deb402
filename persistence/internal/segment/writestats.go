package segment

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// WriteStats counts what is written, and the wear of flash: a page of PageSize bytes
// is written whole when it is synced, however little of it is new. It is safe for
// concurrent use.
type WriteStats struct {
	Now func() int64 // Unix milliseconds

	bytes, syncs atomic.Uint64
	appendSync   atomic.Int64 // how long the last sync of appended records took, in nanoseconds

	mu    sync.Mutex
	total uint64     // bytes of synced pages
	hours [24]uint64 // of these, by the hour
	hour  int64      // the newest of them
}

const hourMillis = 3600 * 1000

// Bytes returns the bytes written.
func (s *WriteStats) Bytes() uint64 { return s.bytes.Load() }

// Syncs returns the number of syncs of files.
func (s *WriteStats) Syncs() uint64 { return s.syncs.Load() }

// SyncTook returns how long the last sync of appended records took.
func (s *WriteStats) SyncTook() time.Duration { return time.Duration(s.appendSync.Load()) }

// Pages returns the bytes of the pages that were synced: since the beginning, and in
// the last 24 hours.
func (s *WriteStats) Pages() (total, day uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(s.Now())
	for _, n := range s.hours {
		day += n
	}
	return s.total, day
}

// sync syncs a file, of which the bytes in this range are new.
func (s *WriteStats) sync(f fsys.File, from, to int64) error {
	s.syncs.Add(1)
	s.pages(from, to)
	return f.Sync()
}

func (s *WriteStats) pages(from, to int64) {
	if to <= from {
		return
	}
	bytes := uint64((to-1)/PageSize-from/PageSize+1) * PageSize
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(s.Now())
	s.total += bytes
	s.hours[s.hour%24] += bytes
}

func (s *WriteStats) advance(now int64) {
	hour := max(now/hourMillis, 0)
	if hour-s.hour >= 24 {
		s.hours = [24]uint64{}
		s.hour = hour
	}
	for s.hour < hour {
		s.hour++
		s.hours[s.hour%24] = 0
	}
}
