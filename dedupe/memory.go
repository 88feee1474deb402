package dedupe

import (
	"sync"
	"time"
)

// Memory is a [Cache] that lives as long as the process: it recognises what is
// repeated after a lost link, not what is repeated after a restart. It keeps
// the key strings it is given; a key cut from a larger string keeps that alive.
type Memory struct {
	opts  Options
	start time.Time // carries the monotonic clock

	mu     sync.Mutex
	closed bool
	table  table
}

var _ Cache = (*Memory)(nil)

// NewMemory returns an empty cache. It has no goroutine; Close only frees the
// keys.
func NewMemory(o Options) *Memory {
	o = o.withDefaults()
	return &Memory{opts: o, start: time.Now(), table: newTable(o)}
}

// Begin implements [Cache].
func (m *Memory) Begin(key string) (Verdict, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return 0, ErrClosed
	}
	v, err := m.table.begin(key, time.Since(m.start))
	gone := m.table.departures()
	m.mu.Unlock()
	m.opts.tell(gone)
	return v, err
}

// Commit implements [Cache]. It fails only for want of a claim, or closed.
func (m *Memory) Commit(key string) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	switch at, ok := m.table.keys[key]; {
	case !ok:
		m.mu.Unlock()
		return ErrNoClaim
	case at != claimed:
		m.mu.Unlock()
		return nil
	}
	m.table.commit(key, time.Since(m.start))
	gone := m.table.departures()
	m.mu.Unlock()
	m.opts.tell(gone)
	return nil
}

// Abort implements [Cache].
func (m *Memory) Abort(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.table.abort(key)
	return nil
}

// Stats implements [Cache].
func (m *Memory) Stats() Stats {
	m.mu.Lock()
	m.table.expire(time.Since(m.start))
	gone := m.table.departures()
	stats := m.table.snapshot()
	m.mu.Unlock()
	m.opts.tell(gone)
	return stats
}

// Close implements [Cache].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	stats := m.table.stats
	m.table = newTable(m.opts)
	m.table.stats = stats
	return nil
}
