package persistence

import "sync"

// wear counts what flash wears by: a page of 4 KiB that was synced is written
// whole, however little of it is new. It keeps the last 24 hours by the hour.
type wear struct {
	mu    sync.Mutex
	total uint64
	hours [24]uint64
	hour  int64 // the newest of them
}

const hourMillis = 3600 * 1000

// add counts the bytes from one place in a file to another, at a time in
// milliseconds.
func (w *wear) add(from, to, now int64) {
	if to <= from {
		return
	}
	pages := uint64((to-1)/pageSize - from/pageSize + 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(now)
	w.total += pages * pageSize
	w.hours[w.hour%24] += pages * pageSize
}

func (w *wear) advance(now int64) {
	hour := max(now/hourMillis, 0)
	if hour-w.hour >= 24 {
		w.hours = [24]uint64{}
		w.hour = hour
	}
	for w.hour < hour {
		w.hour++
		w.hours[w.hour%24] = 0
	}
}

func (w *wear) read(now int64) (total, day uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(now)
	for _, n := range w.hours {
		day += n
	}
	return w.total, day
}
