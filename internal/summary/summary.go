// Package summary prevents repeated reports from flooding a log. It writes the first report of a
// kind at once, and the reports of the following minute as one summary.
package summary

import (
	"sync"
	"time"
)

// Interval is how long reports of a kind are counted before their summary is written.
const Interval = time.Minute

// Summary counts reports of a fixed number of kinds and decides when they are written. D holds the
// details of a report. Of the counted reports, only the latest details are kept. All methods are
// safe for concurrent use.
//
// Add writes the first report of a kind. Later reports are counted, and a timer writes their
// summary at the end of the Interval. Then the next Interval begins. After an Interval without a
// report, the next report is a first one again. The timer of a kind runs only while a
// summary is pending.
type Summary[D any] struct {
	write   func(kind int, more uint64, d D)
	kinds   []kind[D]
	writing sync.WaitGroup // timers that are set, and their functions
}

type kind[D any] struct {
	mu     sync.Mutex
	total  uint64
	more   uint64 // counted but not written
	latest D      // details of the latest counted report
	until  time.Time
	timer  *time.Timer
	closed bool
}

// New returns a Summary for the kinds from 0 to kinds-1. write gets the details of a first report
// with more = 0, or the number of counted reports and the latest details. It is called without a
// lock, on the goroutine of Add, of a timer or of Close. It may call Add.
func New[D any](kinds int, write func(kind int, more uint64, d D)) *Summary[D] {
	return &Summary[D]{write: write, kinds: make([]kind[D], kinds)}
}

// Add reports one occurrence of a kind.
func (s *Summary[D]) Add(number int, d D) {
	k := &s.kinds[number]
	if k.add(s, number, &d) {
		s.write(number, 0, d)
	}
}

// add counts a report. It returns true if the report must be written now.
func (k *kind[D]) add(s *Summary[D], number int, d *D) (first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total++
	if k.more > 0 {
		k.more++
		k.latest = *d
		return false
	}
	now := time.Now()
	if k.closed || !now.Before(k.until) {
		k.until = now.Add(Interval)
		return true
	}
	k.more, k.latest = 1, *d
	s.writing.Add(1)
	if wait := k.until.Sub(now); k.timer == nil {
		k.timer = time.AfterFunc(wait, func() { s.end(number) })
	} else {
		k.timer.Reset(wait)
	}
	return false
}

// end writes the summary of an Interval and starts the next one.
func (s *Summary[D]) end(number int) {
	defer s.writing.Done()
	k := &s.kinds[number]
	k.mu.Lock()
	more, d := k.takeLocked()
	k.until = time.Now().Add(Interval)
	k.mu.Unlock()
	if more > 0 { // otherwise Close has written it
		s.write(number, more, d)
	}
}

func (k *kind[D]) takeLocked() (more uint64, d D) {
	more, d = k.more, k.latest
	var none D
	k.more, k.latest = 0, none // frees its memory
	return more, d
}

// Flush writes the counted reports of a kind now. The next report of this kind is a first one.
func (s *Summary[D]) Flush(number int) {
	k := &s.kinds[number]
	k.mu.Lock()
	more, d := k.takeLocked()
	k.until = time.Time{}
	if more > 0 && k.timer.Stop() {
		s.writing.Done()
	}
	k.mu.Unlock()
	if more > 0 {
		s.write(number, more, d)
	}
}

// Total returns how often a kind was reported.
func (s *Summary[D]) Total(number int) uint64 {
	k := &s.kinds[number]
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.total
}

// Close writes the counted reports, and returns after all timers have finished writing. Later
// reports are written individually.
func (s *Summary[D]) Close() {
	for number := range s.kinds {
		k := &s.kinds[number]
		k.mu.Lock()
		k.closed = true
		more, d := k.takeLocked()
		if more > 0 && k.timer.Stop() {
			s.writing.Done()
		}
		k.mu.Unlock()
		if more > 0 {
			s.write(number, more, d)
		}
	}
	s.writing.Wait()
}
