package dedupe

import (
	"context"
	"time"
)

// Memory is a [Cache] in memory. It is sufficient for messages that the server redelivers after a
// lost connection. It forgets its keys when the process ends. It keeps references to the key
// strings.
type Memory struct{ state }

var _ Cache = (*Memory)(nil)

// NewMemory returns an empty cache.
func NewMemory(o Options) *Memory {
	o = o.withDefaults()
	return &Memory{state{opts: o, clock: clock{opened: time.Now()}, table: newTable(o)}}
}

// Commit implements [Cache]. It ignores ctx, because it does not block.
func (m *Memory) Commit(_ context.Context, c Claim) error {
	m.mu.Lock()
	defer m.unlock()
	if m.closed {
		return ErrClosed
	}
	held, err := m.table.beginCommit(&c)
	if held {
		m.table.commit(pending{c.Key, c.Token}, m.clock.now())
	}
	return err
}

// Close implements [Cache].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.table.wakeAll()
	stats := m.table.stats
	m.table = newTable(m.opts)
	m.table.stats = stats
	return nil
}
