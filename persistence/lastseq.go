package persistence

// LastSeq implements [Store].
func (l *Log) LastSeq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.next - 1
}

// LastSeq implements [Store].
func (m *Memory) LastSeq() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.next - 1
}
